"""The run folder: options, log, metrics, parameters; what is written is written whole."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from .files import PathLike, atomic, write_json


def save_parameters(path: PathLike, net: HybridBlock) -> None:
    """Write the parameters of `net` by name: those of its first device, BN statistics included."""
    arrays = {name: p.list_data()[0] for name, p in net.collect_params().items()}
    with atomic(path) as temporary:
        mx.nd.save(str(temporary), arrays)


class Run:
    """A folder for one run, new or empty.

    In a `with` statement, what ends the run early is noted in its log.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    options : mapping
        What the run was asked for; written to ``args.json`` with versions and devices.
    quiet : bool
        Print no log.

    Raises
    ------
    ValueError
        There is something in the folder already.
    """

    def __init__(self, folder: PathLike, options: Mapping[str, Any], quiet: bool = False) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise ValueError(
                f"{self.folder} holds a run or something else already: remove it, or give another "
                "--save-dir"
            )
        self._quiet = quiet
        self._columns: Dict[str, Any] = {}
        write_json(
            self.folder / "args.json", {"options": dict(options), "environment": environment()}
        )

    def log(self, line: str) -> None:
        """Print a line, and add it to ``log.txt`` with the time."""
        if not self._quiet:
            print(line, flush=True)
        self._note(line)

    def _note(self, line: str) -> None:
        with open(self.folder / "log.txt", "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> None:
        if error is not None:
            self._note(f"ended early: {str(error) or type(error).__name__}")

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add a row to a CSV file of the folder; the first one writes the header.

        Floats are written with all their digits, None as nothing.
        """
        path = self.folder / name
        columns = self._columns.setdefault(name, list(row))
        if columns != list(row):
            raise ValueError(f"{path} has the columns {columns}, not {list(row)}")
        fresh = not path.exists()
        with open(path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if fresh:
                writer.writerow(columns)
            writer.writerow(_digits(value) for value in row.values())


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
    folder = Path(__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
