"""The run folder: options, log, tables, checkpoints; one process at a time writes to it.

What is said of a run, printed or logged, never decides over it: where it cannot be said, it is not.
"""

from __future__ import annotations

import errno
import platform
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, TextIO

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from .._compat import usable_cpus
from ..io.files import (
    PathLike,
    atomic,
    is_pipe,
    read_json,
    remove_temporary,
    without_waiting,
    write_json,
)
from ..io.params_file import write_params
from ..io.text import json_line
from .interrupted import Interrupted
from .lock import Lock
from .tables import Tables

CHECKPOINTS = "checkpoint"
FINISHED = "finished"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def save_parameters(path: PathLike, net: HybridBlock) -> None:
    """Write the parameters of `net` by name: those of its first device, BN statistics included."""
    arrays = {name: p.list_data()[0].asnumpy() for name, p in net.collect_params().items()}
    with atomic(path) as temporary:
        write_params(temporary, arrays)


def check_folder(folder: Path, resume: bool, but: Sequence[str] = ()) -> None:
    """Refuse a folder for a new run that is not empty, and one to go on in that is of no run, or
    has a pipe, which its writer would wait for.
    """
    names = {path.name for path in folder.iterdir()} - set(but)
    if names and not resume:
        raise ValueError(
            f"{folder} holds a run or something else already: remove it, or give another "
            "`save_dir`; `resume` goes on with a run"
        )
    for name in (*sorted(names), f"{CHECKPOINTS}/lock"):
        if is_pipe(folder / name):
            raise ValueError(f"{folder / name}: no regular file, but a pipe: remove it")
    if resume and "args.json" not in names:
        other = sorted(name for name in names if name != CHECKPOINTS and name[0] != ".")
        if other:
            raise ValueError(
                f"{folder} holds {other[0]}, but no run to go on with: give another `save_dir`"
            )


class Run:
    """A folder for one run: new or empty, or that of a run that is to go on.

    In a `with` statement, what ends the run early is noted in its log, and the end is in the
    folder for those who would go on with it.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    options : mapping
        What the run was asked for; written to ``args.json`` with versions and devices.
    quiet : bool
        Print no log.
    resume : bool
        Go on with what is there, if anything is.
    log_format : {'text', 'json'}
        How lines are printed; json has an object a line.

    Raises
    ------
    ValueError
        There is something in the folder already, or no run to go on with, or somebody at it.
    """

    def __init__(
        self,
        folder: PathLike,
        options: Mapping[str, Any],
        quiet: bool = False,
        resume: bool = False,
        log_format: str = "text",
    ) -> None:
        self._as_json = log_format == "json"
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._quiet = quiet
        self.tables = Tables(self.folder, self.warn)
        check_folder(self.folder, resume)
        self.checkpoints = self.folder / CHECKPOINTS
        self.checkpoints.mkdir(exist_ok=True)
        self._lock = Lock(self.checkpoints / "lock")
        try:
            check_folder(
                self.folder, resume, but=(CHECKPOINTS,)
            )  # another one may have been faster
            remove_temporary(self.folder)
            self._write_arguments(options)
        except BaseException:
            self._lock.release()
            raise

    def _write_arguments(self, options: Mapping[str, Any]) -> None:
        path = self.folder / "args.json"
        present = {"options": dict(options), "environment": environment()}
        first = None
        with suppress(OSError, ValueError):  # not there, or damaged
            first = read_json(path)
        if isinstance(first, dict):
            resumed = first.get("resumed")
            first["resumed"] = [*(resumed if isinstance(resumed, list) else []), present]
        write_json(path, first if isinstance(first, dict) else present)

    @property
    def finished(self) -> bool:
        """Whether it came to its end, now or earlier."""
        return (self.checkpoints / FINISHED).exists()

    def reopen(self) -> None:
        """Forget that it came to its end."""
        if self.finished:
            (self.checkpoints / FINISHED).unlink()

    def log(self, line: str, **fields: Any) -> None:
        """Print a line, as JSON with the fields that it tells of; add it to ``log.txt``."""
        if not self._quiet:
            _say(self.printed(line, **fields), sys.stdout)
        self._note(line)

    def warn(self, line: str) -> None:
        """Log a line that others do not know; a worker that does not log prints it on stderr."""
        self.log(line)
        if self._quiet:
            _say(line, sys.stderr)

    @contextmanager
    def optional(self, path: PathLike) -> Iterator[None]:
        """Where something is made that the run can do without: what goes wrong there is logged."""
        try:
            yield
        except Exception as error:  # whatever it is, it is none of the run's
            self.warn(f"{path}: {error}: the run goes on without it")

    def printed(self, line: str, **fields: Any) -> str:
        """A line in the format of those that are printed."""
        return json_line(line, **fields) if self._as_json else line

    def _note(self, line: str) -> None:
        stamped = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n"
        path, content = self.folder / "log.txt", stamped.encode(errors="backslashreplace")
        with suppress(OSError), open(path, "ab", opener=without_waiting) as file:
            file.write(content)  # with what is no UTF-8 in names escaped

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> None:
        try:
            if error is None:
                (self.checkpoints / FINISHED).touch()
            else:
                self._note(f"ended early: {str(error) or type(error).__name__}")
        finally:
            self._lock.release()
        if isinstance(error, OSError) and error.errno in _FULL:
            raise OSError(
                f"{self.folder}: {error.strerror}: make room, and go on with `resume`"
            ) from None
        if kind is KeyboardInterrupt and any(self.checkpoints.glob("[0-9]*")):
            raise Interrupted(signal.SIGINT) from None  # in what follows the last epoch


def _say(line: str, stream: Optional[TextIO]) -> None:
    with suppress(OSError, ValueError):  # nobody listens, it is closed, or cannot show the line
        print(line, file=stream, flush=True)


def environment() -> Dict[str, Any]:
    """Versions and machine, for the record."""
    return {
        "python": platform.python_version(),
        "mxnet": mx.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {usable_cpus():g} cores",
        "commit": _commit(),
        "command": [Path(sys.argv[0]).name] + sys.argv[1:],
    }


def _commit() -> Optional[str]:
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
