"""A job: processes on several machines, and what the launcher hears of them."""

import argparse
import ctypes
import os
import secrets
import select
import selectors
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Dict, List, Optional

from . import slurm
from .follow import BEAT, GRACE, SILENCE

ARRIVAL = 60.0  # seconds in which every process has to come up
LEAVE = 18.0  # seconds for the last step and checkpoint: clusters give 30 in all
WARNED = 120.0  # seconds for them after a warning, SIGUSR1 or SIGHUP
GREETING = 5.0  # seconds in which who connects has to say who it is
STRANGERS = 64  # so many may be about to


class Process:
    """One process of the job, as the launcher sees it."""

    def __init__(self, role: str, number: int, host: Optional[str]) -> None:
        self.name = f"{role}{number}"
        self.text = f"{role} {number}" + (f" on {host}" if host else "")
        self.role = role
        self.number = number
        self.host = host
        self.line: Optional[socket.socket] = None
        self.heard = time.monotonic() + ARRIVAL
        self.rest = b""
        self.folder: Optional[str] = None  # of its temporary files
        self.status: Optional[int] = None  # once it has ended
        self.lost: Optional[str] = None  # why it is given up, if it is
        self.shell: Optional[subprocess.Popen] = None

    def start(
        self, options: argparse.Namespace, environment: Dict[str, str], where: List[str], token: str
    ) -> None:
        """Start it, by srun or ssh if it has a host; only it gets to know the token."""
        command = [sys.executable, str(Path(__file__).with_name("follow.py")), *where]
        command += [self.name, *options.command]
        environment = {**environment, "DMLC_ROLE": self.role, "DSONAS_WORKER": str(self.number)}
        if self.host and options.slurm:
            command = [*slurm.on_node(self.host, self.role), *command]
        elif self.host:
            variables = [f"{name}={value}" for name, value in environment.items()]
            text = " ".join(map(shlex.quote, ["env", *variables, *command]))
            text = f"cd {shlex.quote(os.getcwd())} && exec {text}"
            command, environment = [*shlex.split(options.ssh), self.host, text], {}
        self.shell = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the launcher alone
        )
        assert self.shell.stdin is not None
        with suppress(BrokenPipeError), self.shell.stdin as stdin:
            stdin.write(f"{token}\n".encode())

    def send(self, text: str) -> None:
        with suppress(OSError):  # its silence will tell
            if self.line is not None:
                self.line.sendall(f"{text}\n".encode())

    def look(self) -> None:
        """Note what became of it."""
        if self.status is None and self.shell is not None:
            if self.shell.poll() is not None:
                # Its last words, if they are here: a line that is cut says nothing for long.
                while self.line is not None and select.select([self.line], [], [], 0)[0]:
                    if not self.read():
                        break
                if self.status is None:
                    self.status = self.shell.returncode or 0
                    if self.host is not None and self.line is not None:
                        self.lost = "is gone"  # with its node, or the way to it
            elif time.monotonic() - self.heard > SILENCE:
                self.lost = "is not heard of any more"

    @property
    def failed(self) -> int:
        """Its status, 1 if it was given up, 0 while all is well."""
        return 1 if self.lost is not None else self.status or 0

    def ending(self) -> str:
        """What became of it, for people."""
        if self.lost is not None:
            return self.lost
        if self.status is not None and self.status < 0:
            return f"was ended by {signal.Signals(-self.status).name}"
        return f"ended with status {self.status}"

    def read(self) -> bool:
        """Hear what it says; False when it says nothing any more."""
        try:
            content = self.line.recv(4096) if self.line is not None else b""
        except OSError:
            content = b""
        self.take(content)
        return bool(content)

    def take(self, content: bytes) -> None:
        """Note what it says."""
        self.heard = time.monotonic()
        *words, self.rest = (self.rest + content).split(b"\n")
        for word in words:
            what, _, text = os.fsdecode(word).partition(" ")
            if what == "exit":
                self.status = int(text)
            elif what == "stuck":
                self.lost = text
            elif what == "folder":
                self.folder = text


class Job:
    """All processes, and the socket that they report to."""

    def __init__(self, options: argparse.Namespace) -> None:
        hosts: List[Optional[str]] = [None]
        if options.slurm:
            hosts = [*slurm.nodes()]
            options.workers = options.workers or len(hosts)
            options.command = slurm.resumed(options.command)
            slurm.wait_for_lock(options.command)
            address = slurm.address(hosts[0] or "")
        else:
            hosts = [*_hosts(options.hostfile)] if options.hostfile else hosts
            address = _own_address(hosts[0])
        self.socket = socket.create_server((address, 0), backlog=256)
        self.root = reserved(address)
        self.token = secrets.token_hex(16)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.socket, selectors.EVENT_READ)
        self.strangers: Dict[socket.socket, float] = {}  # since when, the first one first
        self.asked: Optional[int] = None  # the signal that the user sent
        self.failed: Optional[Process] = None  # the first that did, a worker if there is one
        self.deadline = float("inf")  # when those that are left are killed
        counts = {"scheduler": 1, "server": options.servers, "worker": options.workers}
        self.processes = [
            Process(role, number, None if role == "scheduler" else hosts[number % len(hosts)])
            for role, count in counts.items()
            for number in range(count)
        ]
        self.workers = [process for process in self.processes if process.role == "worker"]
        environment = {
            "DMLC_PS_ROOT_URI": address,
            "DMLC_PS_ROOT_PORT": str(self.root.getsockname()[1]),
            "DMLC_NUM_WORKER": str(options.workers),
            "DMLC_NUM_SERVER": str(options.servers),
        }
        if sys.platform == "linux":  # what a killed follower leaves becomes the launcher's
            ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
        line = [address, str(self.socket.getsockname()[1])]
        for process in self.processes:
            here = sum(worker.host == process.host for worker in self.workers)
            environment["DSONAS_WORKERS_HERE"] = str(here)  # who share its cores
            process.start(options, environment, line, self.token)

    def run(self) -> int:
        """Until all have ended; returns the status of the first worker that failed."""
        said = before = since = time.monotonic()
        while any(process.status is None for process in self.processes):
            for key, _ in self.selector.select(0.2):
                self._hear(key)
            now = time.monotonic()
            for process in self.processes:
                process.heard += max(0.0, now - before - BEAT)  # all of us were suspended
                process.look()
            before = now
            if now - said > BEAT:
                self.tell("alive")
                said = now
            self._forget(now - GREETING)
            broken = [process for process in self.processes if process.failed]
            broken.sort(key=lambda process: process.role != "worker")
            since = min(since, now) if broken else now
            # A mistake in the command ends all: a worker's end says more than the scheduler's.
            telling = broken and (broken[0].role == "worker" or now - since > BEAT)
            if telling and self.failed is None:
                self.failed = failed = broken[0]
                if self.asked is None:
                    wrong = "the job ends" if failed.status == 2 else "go on with --resume"
                    say(f"{failed.text} {failed.ending()}: {wrong}")
                    self.tell(f"signal {signal.SIGTERM:d}")
                    self._end_by(now + GRACE)
            if all(worker.status is not None for worker in self.workers):
                self._end_by(now + (GRACE if self.failed is None else 0))
            if now > self.deadline:
                self.tell(f"signal {signal.SIGKILL:d}")
                if now > self.deadline + SILENCE / 2:
                    break
        self._clear()
        status = 0 if self.failed is None else self.failed.failed
        return status if status >= 0 else 128 - status

    @property
    def may_go_on(self) -> bool:
        """Whether it ended for what another try may be spared: a warning, or a lost process."""
        if self.asked is not None:
            return self.asked not in (signal.SIGTERM, signal.SIGINT)
        failed = self.failed
        return failed is not None and (failed.lost is not None or not 0 <= failed.failed <= 128)

    def ask(self, number: int, frame: object) -> None:
        """Pass on a signal to the workers, which finish a step; a second Ctrl-C ends them."""
        again = self.asked == number == signal.SIGINT
        urgent = number in (signal.SIGTERM, signal.SIGINT)  # the others are warnings
        self._end_by(time.monotonic() + (0 if again else LEAVE if urgent else WARNED))
        if self.asked is None:
            for worker in self.workers:
                worker.send(f"signal {number:d}")
        self.asked = number

    def _end_by(self, moment: float) -> None:
        self.deadline = min(self.deadline, moment)

    def _clear(self) -> None:
        """Leave nobody here, and nothing of theirs, so that the run can go on at once."""
        left = [p for p in self.processes if p.shell is not None and p.shell.poll() is None]
        for process in left:
            assert process.shell is not None
            process.shell.kill()  # a follower may be stopped; its process dies with it
        end = time.monotonic() + SILENCE / 2
        children = Path(f"/proc/self/task/{os.getpid()}/children")  # and of dead followers
        with suppress(OSError):
            while any(p.host is None for p in left) and time.monotonic() < end:
                for number in children.read_text().split() if children.exists() else ():
                    os.kill(int(number), signal.SIGKILL)
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.05)
        for process in self.processes:
            if process.folder is not None and process.host is None:
                shutil.rmtree(process.folder, ignore_errors=True)

    def tell(self, text: str) -> None:
        for process in self.processes:
            if process.status is None:
                process.send(text)

    def _hear(self, key: selectors.SelectorKey) -> None:
        assert isinstance(key.fileobj, socket.socket)
        if key.fileobj is self.socket:
            with suppress(OSError):  # it is gone already, or there are too many
                line, _ = self.socket.accept()
                line.settimeout(SILENCE)
                self.selector.register(line, selectors.EVENT_READ)
                self.strangers[line] = time.monotonic()
        elif key.data is not None:
            if not key.data.read():
                self.selector.unregister(key.fileobj)
        elif key.fileobj in self.strangers:
            self._greet(key.fileobj)

    def _forget(self, before: float) -> None:
        """Close the lines of those that connected before that, or too many, and said nothing."""
        for line, since in list(self.strangers.items()):
            if since < before or len(self.strangers) > STRANGERS:
                self._part(line)
                line.close()

    def _part(self, line: socket.socket) -> None:
        self.selector.unregister(line)
        del self.strangers[line]

    def _greet(self, line: socket.socket) -> None:
        """Find out whose line a new one is; what strangers say is not heard."""
        self._part(line)
        try:
            first, _, rest = line.recv(4096).partition(b"\n")
        except OSError:
            first = rest = b""
        words = first.decode("ascii", "replace").split()
        for process in self.processes:
            if words == ["hello", self.token, process.name]:
                process.line = line
                process.take(rest)
                if self.asked is not None:
                    process.send(f"signal {self.asked:d}")
                self.selector.register(line, selectors.EVENT_READ, process)
                return
        line.close()


def _hosts(path: str) -> List[str]:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path}: no regular file")
    content = Path(path).read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    lines = [
        line.split("#")[0].split() for line in content.decode(encoding, "replace").splitlines()
    ]
    hosts = [words[0] for words in lines if words]
    if not hosts or any(host.startswith("-") or not host.isprintable() for host in hosts):
        raise ValueError(f"{path}: no list of hosts, one a line")
    return hosts


def _own_address(host: Optional[str]) -> str:
    """The one under which `host` reaches this machine."""
    if host is None:
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host.split("@")[-1], 1))  # sends nothing
        return probe.getsockname()[0]


def reserved(address: str) -> socket.socket:
    """A socket on a free port, which as long as it is open only ps-lite's scheduler can take.

    That shares it, and begins to listen; others are given other ports.
    """
    root = socket.socket()
    root.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    root.bind((address, 0))
    return root


def say(text: str) -> None:
    with suppress(OSError):  # nobody listens
        print(f"launch.py: {text}", file=sys.stderr, flush=True)
