"""A SLURM of its own on this machine: munged, slurmctld and several slurmd, as root.

Debian: apt-get install slurmctld slurmd slurm-client munge. `python tests/cluster/slurm.py FOLDER`
starts it and prints the environment that its commands need; Ctrl-C ends it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Optional

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scontrol")
_PATIENCE = 30.0

_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=1,requeue_delay=1
SchedulerType=sched/backfill
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldPort={port}
SlurmctldTimeout=10
SlurmdTimeout=10
KillWait=10
MinJobAge=600
InactiveLimit=0
JobRequeue=1
UnkillableStepTimeout=20
PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing() -> List[str]:
    """What has to be installed first; nothing if a cluster can be started."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    return absent if os.geteuid() == 0 else ["root", *absent]


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _free_ports(count: int) -> List[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Cluster:
    """Nodes n1, n2, … on this machine, each with its own slurmd.

    Parameters
    ----------
    folder : path
        Of its configuration, logs and state; on a local disk, where the user munge may go.
    nodes : int
    cpus : int
        That each node says it has.
    """

    def __init__(self, folder: Path, nodes: int = 2, cpus: int = 2) -> None:
        self.folder = folder
        self.names = [f"n{number}" for number in range(1, nodes + 1)]
        self._processes: Dict[str, subprocess.Popen] = {}
        for name in ("state", *(f"spool-{node}" for node in self.names)):
            (folder / name).mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        port, *ports = _free_ports(nodes + 1)
        text = _CONFIGURATION.format(
            host=socket.gethostname(), folder=folder, port=port, names=",".join(self.names)
        )
        for node, its_port in zip(self.names, ports):
            text += (
                f"NodeName={node} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 "
                f"Port={its_port} CPUs={cpus} RealMemory=1000 State=UNKNOWN\n"
            )
        (folder / "slurm.conf").write_text(text)

    @property
    def environment(self) -> Dict[str, str]:
        """For commands of this cluster."""
        return {**os.environ, "PATH": _path(), "SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        """Start all of it, and wait until its nodes are idle."""
        self._start_munge()
        self.start_controller()
        for node in self.names:
            self.start_node(node)
        self._wait(lambda: self.run("sinfo", "-h", "-o", "%T").split() == ["idle"], "idle nodes")

    def start_controller(self) -> None:
        """Start slurmctld, anew if it was killed."""
        self._start("slurmctld", ["slurmctld", "-D", "-i"])
        self._wait(lambda: "UP" in self.run("scontrol", "ping"), "slurmctld")

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node, anew if it was killed."""
        self._start(node, ["slurmd", "-D", "-N", node])

    def kill(self, name: str) -> None:
        """Kill slurmctld, or the slurmd of a node; its jobs go on until SLURM notices."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def fail(self, node: str, told: bool = True) -> None:
        """Let a node die, with all that runs there; SLURM would take a while to notice."""
        self.kill(node)
        if told:
            self.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
        for path in Path("/proc").glob("[0-9]*"):
            try:
                variables = (path / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"SLURMD_NODENAME={node}".encode() in variables:
                os.kill(int(path.name), signal.SIGKILL)

    def mend(self, node: str) -> None:
        """Start a node again that failed."""
        self.start_node(node)
        self.run("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def run(self, *command: str) -> str:
        """What a command of SLURM prints; '' if it fails."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.stdout

    def stop(self) -> None:
        """End all of it."""
        self.run("scancel", "--user=root", "--signal=KILL")
        for process in reversed(list(self._processes.values())):
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
        self._processes = {}

    def _start_munge(self) -> None:
        user = pwd.getpwnam("munge")
        folder = self.folder / "munge"
        folder.mkdir(exist_ok=True)
        key = folder / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for path in (folder, key):
            os.chown(path, user.pw_uid, user.pw_gid)
        socket_path = self.folder / "munge.socket"
        command = [
            *("munged", "--foreground", "--force", f"--socket={socket_path}"),
            *(f"--key-file={key}", f"--pid-file={folder}/pid", f"--log-file={folder}/log"),
            f"--seed-file={folder}/seed",
        ]
        command = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", *command]
        self.folder.chmod(0o1777)
        self._start("munge", command)
        self._wait(socket_path.exists, "munged")

    def _start(self, name: str, command: List[str]) -> None:
        with open(self.folder / f"{name}.out", "ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait(self, ready: object, what: str, seconds: Optional[float] = None) -> None:
        assert callable(ready)
        end = time.monotonic() + (seconds or _PATIENCE)
        while not ready():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    said = (self.folder / f"{name}.out").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{name} ended with {process.returncode}: {said}")
            if time.monotonic() > end:
                raise RuntimeError(f"waited in vain for {what}; see {self.folder}")
            time.sleep(0.2)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cluster = Cluster(Path(sys.argv[1]))
    try:
        cluster.start()
        print(f"export SLURM_CONF={cluster.folder}/slurm.conf", flush=True)
        signal.pause()
    finally:
        cluster.stop()
