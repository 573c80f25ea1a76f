"""A job: processes on several machines, and what the launcher hears of them."""

from __future__ import annotations

import argparse
import os
import secrets
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Optional

from .follow import BEAT, GRACE, SILENCE

ARRIVAL = 60.0  # seconds in which every process has to come up
LEAVE = 60.0  # seconds for the last checkpoint, once a worker has ended as it was asked to


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
        self.status: Optional[int] = None
        self.silent = False
        self.shell: Optional[subprocess.Popen] = None

    def start(
        self, options: argparse.Namespace, environment: Dict[str, str], line: List[str]
    ) -> None:
        command = [sys.executable, str(Path(__file__).with_name("follow.py")), *line]
        command += [self.name, *options.command]
        environment = {
            **environment,
            "DMLC_ROLE": self.role,
            "DSONAS_WORKER": str(self.number),
        }
        if self.host:
            variables = [f"{name}={value}" for name, value in environment.items()]
            text = " ".join(map(shlex.quote, ["env", *variables, *command]))
            text = f"cd {shlex.quote(os.getcwd())} && exec {text}"
            command, environment = [*shlex.split(options.ssh), self.host, text], {}
        self.shell = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the launcher alone
        )

    def send(self, text: str) -> None:
        try:
            if self.line is not None:
                self.line.sendall(f"{text}\n".encode())
        except OSError:
            pass  # its silence will tell

    def look(self) -> None:
        """Note what became of it."""
        if self.status is None and self.shell is not None:
            if self.shell.poll() is not None:
                self.status = self.shell.returncode or 0
            elif time.monotonic() - self.heard > SILENCE:
                self.status = 1
                self.silent = True

    def ending(self) -> str:
        """What became of it, for people."""
        if self.silent:
            return "is not heard of any more"
        if self.status is not None and self.status < 0:
            return f"was ended by {signal.Signals(-self.status).name}"
        return f"ended with status {self.status}"

    def read(self) -> bool:
        """Hear what it says; False when it says nothing any more."""
        try:
            content = self.line.recv(4096) if self.line is not None else b""
        except OSError:
            content = b""
        self.heard = time.monotonic()
        *words, self.rest = (self.rest + content).split(b"\n")
        for word in words:
            if word.startswith(b"exit "):
                self.status = int(word.split()[1])
        return bool(content)


class Job:
    """All processes, and the socket that they report to."""

    def __init__(self, options: argparse.Namespace) -> None:
        hosts: List[Optional[str]] = [*_hosts(options.hostfile)] if options.hostfile else [None]
        address = _own_address(hosts[0])
        self.socket = socket.create_server((address, 0), backlog=64)
        self.token = secrets.token_hex(16)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.socket, selectors.EVENT_READ)
        self.asked: Optional[int] = None  # the signal that the user sent
        counts = {"scheduler": 1, "server": options.servers, "worker": options.workers}
        self.processes = [
            Process(role, number, None if role == "scheduler" else hosts[number % len(hosts)])
            for role, count in counts.items()
            for number in range(count)
        ]
        self.workers = [process for process in self.processes if process.role == "worker"]
        environment = {
            "DMLC_PS_ROOT_URI": address,
            "DMLC_PS_ROOT_PORT": str(_free_port(address)),
            "DMLC_NUM_WORKER": str(options.workers),
            "DMLC_NUM_SERVER": str(options.servers),
        }
        if not options.hostfile and "OMP_NUM_THREADS" not in os.environ:
            cores = len(os.sched_getaffinity(0))
            environment["OMP_NUM_THREADS"] = str(max(1, cores // options.workers))
        line = [address, str(self.socket.getsockname()[1]), self.token]
        for process in self.processes:
            process.start(options, environment, line)

    def run(self) -> int:
        """Until all have ended; returns the status of the first worker that failed."""
        said = 0.0
        failed: Optional[Process] = None
        ending: Optional[float] = None  # when those that are left are killed
        while any(process.status is None for process in self.processes):
            for key, _ in self.selector.select(0.2):
                self._hear(key)
            now = time.monotonic()
            if now - said > BEAT:
                self.tell("alive")
                said = now
            for process in self.processes:
                process.look()
            broken = [p for p in self.processes if p.status]
            broken.sort(key=lambda process: process.role != "worker")
            if broken and failed is None:
                failed = broken[0]
                ending = now + (GRACE if self.asked is None else LEAVE)
                if self.asked is None:
                    wrong = "the job ends" if failed.status == 2 else "go on with --resume"
                    say(f"{failed.text} {failed.ending()}: {wrong}")
                    self.tell(f"signal {signal.SIGTERM:d}")
            if ending is None and all(worker.status is not None for worker in self.workers):
                ending = now + GRACE
            if ending is not None and now > ending:
                self.tell(f"signal {signal.SIGKILL:d}")
                if now > ending + SILENCE / 2:
                    break
        for process in self.processes:
            if process.shell is not None and process.shell.poll() is None:
                process.shell.terminate()
        status = (failed.status if failed is not None else 0) or 0
        return status if status >= 0 else 128 - status

    def ask(self, number: int, frame: object) -> None:
        """Pass on a signal to the workers, which finish a step; a second one ends them at once."""
        again = self.asked is not None
        self.asked = number
        for worker in self.workers:
            worker.send(f"signal {signal.SIGKILL if again else number:d}")

    def tell(self, text: str) -> None:
        for process in self.processes:
            if process.status is None:
                process.send(text)

    def _hear(self, key: selectors.SelectorKey) -> None:
        assert isinstance(key.fileobj, socket.socket)
        if key.fileobj is self.socket:
            line, _ = self.socket.accept()
            line.settimeout(SILENCE)
            self.selector.register(line, selectors.EVENT_READ)
        elif key.data is not None:
            if not key.data.read():
                self.selector.unregister(key.fileobj)
        else:
            self._greet(key.fileobj)

    def _greet(self, line: socket.socket) -> None:
        """Find out whose line a new one is; what strangers say is not heard."""
        self.selector.unregister(line)
        try:
            words = line.recv(256).decode("ascii", "replace").split()
        except OSError:
            words = []
        for process in self.processes:
            if words[:3] == ["hello", self.token, process.name]:
                process.line, process.heard = line, time.monotonic()
                if self.asked is not None:
                    process.send(f"signal {self.asked:d}")
                self.selector.register(line, selectors.EVENT_READ, process)
                return
        line.close()


def _hosts(path: str) -> List[str]:
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


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def say(text: str) -> None:
    print(f"launch.py: {text}", file=sys.stderr, flush=True)
