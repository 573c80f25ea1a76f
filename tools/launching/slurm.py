"""What the launcher asks of SLURM: the nodes of its allocation, processes on them, another try."""

import fcntl
import os
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import List, Optional


def nodes() -> List[str]:
    """The nodes of the allocation, the one that this runs on first."""
    if "SLURM_JOB_ID" not in os.environ:
        raise ValueError("--slurm is for a job of SLURM: sbatch -N 2 … tools/launch.py --slurm …")
    names = _asked("show", "hostnames", os.environ["SLURM_JOB_NODELIST"]).split()
    here = os.environ.get("SLURMD_NODENAME")
    return sorted(names, key=lambda name: name != here)


def address(node: str) -> str:
    """The one under which the others reach a node."""
    match = re.search(r"NodeAddr=(\S+)", _asked("show", "node", node))
    return socket.gethostbyname(match[1] if match else node)


def on_node(node: str, role: str) -> List[str]:
    """What a command line begins with to run on a node of the allocation, beside others."""
    words = ["srun", "--overlap", "--nodes=1", "--ntasks=1", f"--nodelist={node}", "--export=ALL"]
    if "SLURM_CPUS_PER_TASK" in os.environ:  # srun takes no notice of it by itself
        words.append(f"--cpus-per-task={os.environ['SLURM_CPUS_PER_TASK']}")
    return [*words, "--gres=none"] if role != "worker" else words  # only workers compute


def resumed(command: List[str]) -> List[str]:
    """The command of a job; of one that was put back with `--resume`, if there is a run."""
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) == 0 or "--resume" in command:
        return command
    return [*command, "--resume"] if has_begun(command) else command


def has_begun(command: List[str]) -> bool:
    """Whether there is a run, as far as its command tells."""
    folder = _folder(command)
    return folder is None or (folder / "args.json").exists()


def wait_for_lock(command: List[str], seconds: float = 600.0) -> None:
    """Of a job that was put back: until nobody holds its run folder.

    A shared file system keeps the lock of a node that died for a while.
    """
    folder = _folder(command)
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) == 0 or folder is None:
        return
    path = folder / "checkpoint" / "lock"
    end = time.monotonic() + seconds
    while path.exists() and time.monotonic() < end:
        try:
            with open(path, "a+b") as file:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except (BlockingIOError, PermissionError):
            time.sleep(1.0)
        except OSError:  # no locks here
            return


def _folder(command: List[str]) -> Optional[Path]:
    """The run folder that a command names."""
    given = dict(zip(command, command[1:]))
    given.update((word[:10], word[11:]) for word in command if word.startswith("--save-dir="))
    return Path(given["--save-dir"]) if "--save-dir" in given else None


def requeue() -> None:
    """Put this job back into the queue, which ends it here."""
    _asked("requeue", os.environ["SLURM_JOB_ID"])


def _asked(*words: str) -> str:
    done = subprocess.run(["scontrol", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"scontrol {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
