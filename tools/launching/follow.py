#!/usr/bin/env python
"""Started by tools/launch.py where a process of a job shall run: starts it, and ends with it.

It needs nothing but Python. It tells the launcher that it lives, and how its process ended; when it
no longer hears from the launcher it ends the process.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time

BEAT = 2.0  # seconds between signs of life
SILENCE = 10.0  # seconds without one, and the other is taken for dead
GRACE = 8.0  # seconds between SIGTERM and SIGKILL


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _send(line: socket.socket, text: str) -> None:
    try:
        line.sendall(f"{text}\n".encode())
    except OSError:
        pass  # the silence will tell


def _end(process: subprocess.Popen, seconds: float) -> None:
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()


def follow(process: subprocess.Popen, line: socket.socket) -> int:
    """Until the process ends, or the launcher; returns the status of the process."""
    heard = said = time.monotonic()
    rest = b""
    while process.poll() is None:
        readable, _, _ = select.select([line], [], [], 0.2)
        now = time.monotonic()
        if now - said >= BEAT:
            _send(line, "alive")
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
                    process.send_signal(int(word.split()[1]))
        if now - heard > SILENCE:
            print("launch.py is not heard of any more: ending", file=sys.stderr, flush=True)
            _end(process, GRACE)
    _send(line, f"exit {process.wait()}")
    return process.returncode


def main() -> int:
    address, port, token, name = sys.argv[1:5]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the launcher says what is to be done
    with socket.create_connection((address, int(port)), SILENCE) as line:
        line.settimeout(SILENCE)
        _send(line, f"hello {token} {name}")
        os.environ["DMLC_NODE_HOST"] = line.getsockname()[0]  # where the others find it
        process = subprocess.Popen(
            sys.argv[5:], stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_restore
        )
        status = follow(process, line)
    return status if status >= 0 else 128 - status


def _restore() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    _die_with_parent()


if __name__ == "__main__":
    sys.exit(main())
