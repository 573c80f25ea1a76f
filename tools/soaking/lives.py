"""A small search, which lives until it is killed: at some moment, or inside a checkpoint."""

import subprocess
import sys
from pathlib import Path
from typing import List

from dsonas_mx.runs.checkpoint import Checkpoints, read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
SEARCH = ["--demo", "--levels", "2", "--operations", "sep3,max", "--blocks", "1,1", "--width", "4"]
SEARCH += ["--batch-size", "200", "--pretrain-epochs", "1", "--num-epochs", "6"]
SEARCH += ["--shrink-every", "2", "--patience", "6", "--gamma", "0.1"]

# Runs a script, and ends the process without warning at one of its calls to write a checkpoint.
KILLED_INSIDE = """
import os, runpy, signal, sys

left = int(sys.argv[1])
del sys.argv[:2]

def hook(event, arguments):
    global left
    path = str(arguments)
    if "/checkpoint/." in path or (event[:3] == "os." and "/checkpoint/" in path):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def command(folder: Path, seed: int, minutes: float, inside: int = 0) -> List[str]:
    """The search into `folder`, killed at such a call inside its checkpoints if that is not 0."""
    script = [str(ROOT / "train" / "search_cifar.py"), *SEARCH, "--seed", str(seed)]
    script += ["--save-dir", str(folder), "--resume", "--checkpoint-minutes", str(minutes)]
    return [sys.executable, *(["-c", KILLED_INSIDE, str(inside)] if inside else []), *script]


def live(words: List[str], seconds: float) -> int:
    """Start a search and kill it so many seconds after its first line; its exit status."""
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.returncode


def place(folder: Path) -> str:
    """Where the kill left a run: between checkpoints, or with one half-written."""
    names = [path.name for path in (folder / "checkpoint").glob(".*")]
    return "inside a checkpoint" if names else "elsewhere"


def newest(folder: Path) -> str:
    """The epoch and step of the newest checkpoint, where the search will go on."""
    for path in Checkpoints(folder / "checkpoint").paths():
        loop = read_checkpoint(path).values["loop"]
        return f"epoch {loop['epoch'] + 1}, step {loop['position']}"
    return "nothing"
