"""The run folder: options, log, tables, checkpoints; one process at a time writes to it."""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Dict, Mapping, Optional, Sequence, Set

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..io.files import PathLike, atomic, remove_temporary, write_json
from ..io.lines import json_line
from ..io.params_file import write_params

CHECKPOINTS = "checkpoint"
FINISHED = "finished"


def save_parameters(path: PathLike, net: HybridBlock) -> None:
    """Write the parameters of `net` by name: those of its first device, BN statistics included."""
    arrays = {name: p.list_data()[0].asnumpy() for name, p in net.collect_params().items()}
    with atomic(path) as temporary:
        write_params(temporary, arrays)


class Lock:
    """A file that one process holds; with its end, however it comes, the lock is gone.

    The lock is the kernel's and belongs to the process: neither forked nor spawned children have
    it. Where a file system knows no locks, there is none.

    Raises
    ------
    ValueError
        Another process, or another part of this one, has it.
    """

    _held: ClassVar[Set[str]] = set()

    def __init__(self, path: Path) -> None:
        self._path = os.path.realpath(path)
        # Of two of one process the kernel sees one; and to close the second would free the first.
        if self._path in Lock._held:
            raise ValueError(f"{path.parent.parent} is in use by this process")
        self._file = open(path, "a+b")  # as long as it is locked
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read(20).decode("ascii", "replace").strip()
            self._file.close()
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ValueError(
                    f"{path.parent.parent} is in use by process {holder}: wait for it, or end it"
                ) from None
            return
        Lock._held.add(self._path)
        with suppress(OSError):  # a full disk: the lock is there, its holder unnamed
            self._file.truncate(0)
            self._file.write(f"{os.getpid()}\n".encode())
            self._file.flush()

    def release(self) -> None:
        """Let others have it."""
        Lock._held.discard(self._path)
        with suppress(OSError):
            self._file.close()


def check_folder(folder: Path, resume: bool, but: Sequence[str] = ()) -> None:
    """Refuse a folder for a new run that is not empty, and one to go on in that is of no run."""
    names = {path.name for path in folder.iterdir()} - set(but)
    if names and not resume:
        raise ValueError(
            f"{folder} holds a run or something else already: remove it, or give another "
            "`save_dir`; `resume` goes on with a run"
        )
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
        self._columns: Dict[str, Any] = {}
        self._lengths: Dict[str, int] = {}
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
            first = json.loads(path.read_text(encoding="utf-8"))
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
            print(self.printed(line, **fields), flush=True)
        self._note(line)

    def warn(self, line: str) -> None:
        """Log a line that others do not know; a worker that does not log prints it on stderr."""
        self.log(line)
        if self._quiet:
            print(line, file=sys.stderr, flush=True)

    def printed(self, line: str, **fields: Any) -> str:
        """A line in the format of those that are printed."""
        return json_line(line, **fields) if self._as_json else line

    def _note(self, line: str) -> None:
        with open(self.folder / "log.txt", "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> None:
        try:
            if error is None:
                (self.checkpoints / FINISHED).touch()
            else:
                with suppress(OSError):  # a full disk is not to hide what ended the run
                    self._note(f"ended early: {str(error) or type(error).__name__}")
        finally:
            self._lock.release()

    # Tables

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add a row to a CSV file of the folder; the first one writes the header.

        Floats are written with all their digits, None as nothing. What follows in the file behind
        the rows that count, those of a run that was cut short, is removed first.
        """
        path = self.folder / name
        columns = self._columns.setdefault(name, list(row))
        if columns != list(row):
            raise ValueError(f"{path} has the columns {columns}, not {list(row)}")
        length = self._lengths.get(name, 0)
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if not length:
            writer.writerow(columns)
        writer.writerow(_digits(value) for value in row.values())
        with open(path, "r+b" if path.exists() else "wb") as file:
            file.truncate(length)
            file.seek(length)
            file.write(text.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())
            self._lengths[name] = file.tell()

    def lengths(self) -> Dict[str, int]:
        """The bytes of each table."""
        return dict(self._lengths)

    def cut(self, lengths: Mapping[str, int], source: Optional[Path] = None) -> None:
        """Cut the tables back to what they were, or take as much of them from another folder.

        Raises
        ------
        ValueError
            One is shorter than that.
        """
        contents = {}
        for name, length in lengths.items():
            if Path(name).name != name:
                raise ValueError(f"{name} is not the name of a table")
            with suppress(FileNotFoundError):
                contents[name] = (source or self.folder).joinpath(name).read_bytes()[:length]
            if len(contents.get(name, b"")) < length:
                raise ValueError(f"{name} has fewer than the {length} bytes that it had")
        self._lengths, self._columns = {}, {}
        for name, content in contents.items():
            with atomic(self.folder / name) as temporary:
                temporary.write_bytes(content)
            self._lengths[name] = len(content)
            header = content.decode(errors="replace").splitlines()[:1]
            self._columns[name] = next(csv.reader(header), [])


def _digits(value: Any) -> Any:
    if value is None:
        return ""
    return repr(float(value)) if isinstance(value, float) else value  # NumPy's have a repr too


def environment() -> Dict[str, Any]:
    """Versions and machine, for the record."""
    return {
        "python": platform.python_version(),
        "mxnet": mx.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
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
