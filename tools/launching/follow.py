#!/usr/bin/env python
"""Started by tools/launch.py where a process of a job shall run: starts it, and ends with it.

It needs nothing but Python. It tells the launcher that it lives, how its process ended, and whether
that is stuck; when it no longer hears from the launcher it ends the process.
"""

import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import Any, Optional

BEAT = 2.0  # seconds between signs of life
SILENCE = 10.0  # seconds without one, and the other is taken for dead
GRACE = 8.0  # seconds between SIGTERM and SIGKILL
STUCK = {"T": SILENCE, "D": 60.0}  # seconds, by the state of the process
WHY = {"T": "is stopped", "D": "waits for a disk that does not answer"}
WARNINGS = (signal.SIGHUP, signal.SIGUSR1)  # of schedulers, before the end; only workers heed them
PASSED_ON = (signal.SIGTERM, signal.SIGINT, *WARNINGS)  # ask for the end


class Watch:
    """Whether a process is stuck, as the kernel sees it: on Linux alone."""

    def __init__(self, number: int) -> None:
        self._path = f"/proc/{number}/stat"
        self._before: Any = None
        self._since = time.monotonic()

    def look(self) -> Optional[str]:
        """What keeps it, if it has been in one state for too long and done nothing."""
        try:
            with open(self._path) as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return None
        now, (state, *work) = time.monotonic(), (fields[0], *fields[11:13])
        if self._before != (state, work):
            self._before, self._since = (state, work), now
        return WHY[state] if now - self._since > STUCK.get(state, float("inf")) else None


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _send(line: socket.socket, text: str) -> None:
    with suppress(OSError):  # the silence will tell
        line.sendall(f"{text}\n".encode())


def _kill(process: subprocess.Popen) -> None:
    """With all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen, seconds: float) -> None:
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        _kill(process)


def follow(process: subprocess.Popen, line: socket.socket) -> int:
    """Until the process ends, or the launcher; returns the status of the process."""
    heard = said = time.monotonic()
    watch, rest = Watch(process.pid), b""
    while process.poll() is None:
        readable, _, _ = select.select([line], [], [], 0.2)
        now = time.monotonic()
        if now - said >= BEAT:
            stuck = watch.look()
            _send(line, f"stuck {stuck}" if stuck else "alive")
            said = now
        if readable:
            try:
                content = line.recv(4096)
            except OSError:
                content = b""
            heard = now if content else heard - SILENCE - 1
            *words, rest = (rest + content).split(b"\n")
            for word in words:
                if word.startswith(b"signal "):
                    number = int(word.split()[1])
                    _kill(process) if number == signal.SIGKILL else process.send_signal(number)
        if now - heard > SILENCE:
            print("launch.py is not heard of any more: ending", file=sys.stderr, flush=True)
            _end(process, GRACE)
    _kill(process)  # what it has left behind
    return process.returncode


def main() -> int:
    address, port, name = sys.argv[1:4]
    token = sys.stdin.readline().strip()  # everybody can read a command line
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_IGN)  # the launcher says what is to be done
    # Its temporary files go with it, however it ends.
    folder = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="dsonas-")
    try:
        with socket.create_connection((address, int(port)), SILENCE) as line:
            line.settimeout(SILENCE)
            _send(line, f"hello {token} {name}\nfolder {folder}")
            os.environ["DMLC_NODE_HOST"] = line.getsockname()[0]  # where the others find it
            process = subprocess.Popen(
                sys.argv[4:], stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_restore
            )
            status = follow(process, line)
            shutil.rmtree(folder, ignore_errors=True)
            _send(line, f"exit {status}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return status if status >= 0 else 128 - status


def _restore() -> None:
    is_worker = os.environ.get("DMLC_ROLE") == "worker"
    for number in PASSED_ON:
        if is_worker or number not in WARNINGS:
            signal.signal(number, signal.SIG_DFL)
    _die_with_parent()


if __name__ == "__main__":
    sys.exit(main())
