"""Parsers, and how scripts end: errors in one line, bars on a terminal."""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import BrokenExecutor
from typing import Any, Callable, Dict, Iterable, Mapping, NoReturn, Optional, Sequence

import mxnet as mx
from tqdm import tqdm

from ..engine import workers
from ..runs.folder import json_line
from ..runs.session import Interrupted


class Parser(argparse.ArgumentParser):
    """Prints defaults in its help, and errors in one line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(formatter_class=argparse.ArgumentDefaultsHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and one line, without the usage."""
        self.exit(2, f"{self.prog}: {message}\n")

    def exit(self, status: int = 0, message: Optional[str] = None) -> NoReturn:
        """End the process; one of several workers at once, if it failed."""
        rank = workers.rank()
        if message:
            message = f"worker {rank}: {message}" if rank else message
            if _logs_json(sys.argv):
                message = f"{json_line(message.rstrip(), status=status)}\n"
            sys.stderr.write(message)
        if status and workers.is_connected():
            workers.leave(status)
        sys.exit(status)


def _logs_json(words: Sequence[str]) -> bool:
    """Whether lines shall be JSON, also those about options that cannot be read."""
    given = ("--log-format", "json") in zip(words, words[1:])
    return given or "--log-format=json" in words


def run(
    main: Callable[[argparse.Namespace], Optional[int]],
    parser: Parser,
    demo: Optional[Mapping[str, Any]] = None,
) -> NoReturn:
    """Parse the command line, call `main`, and exit; what it raises becomes one line.

    Bad input exits with status 2, a run that failed with 1, an interrupt with 130, SIGTERM with
    143. With `--demo`, the options of `demo` that are not given have its values.
    """
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")  # its notes about MKLDNN are no errors
    options = parser.parse_args()
    if demo and options.demo:
        parser.set_defaults(**demo)
        options = parser.parse_args()
    try:
        sys.exit(main(options) or 0)
    except (ValueError, OSError) as error:
        parser.error(" ".join(line.strip() for line in _message(error).splitlines()))
    except ArithmeticError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    except BrokenExecutor as error:
        parser.exit(1, f"{parser.prog}: a data worker died ({error}): go on with --resume\n")
    except mx.MXNetError as error:
        parser.exit(1, f"{parser.prog}: MXNet: {first_line(error)}\n")
    except Interrupted as error:
        parser.exit(error.status, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"{parser.prog}: interrupted\n")


def _message(error: Exception) -> str:
    """What an error of a file, or a value, says."""
    if not isinstance(error, OSError) or not error.filename or not error.strerror:
        return str(error)
    path = os.fspath(error.filename)
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder: give a file"
    wrong_path = isinstance(error, (FileNotFoundError, NotADirectoryError))
    return f"{path}: {error.strerror}{'; check the path' if wrong_path else ''}"


def first_line(error: Exception) -> str:
    """What an MXNet error says, without its stack trace."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if "Check failed" in line or "Error" in line:
            return line.split(": ", 1)[-1].strip()
    return lines[-1] if lines else type(error).__name__


def number(text: str) -> int:
    """'3.0M' → 3000000; K, M and G are known."""
    factor = {"K": 10**3, "M": 10**6, "G": 10**9}.get(text[-1:].upper(), 1)
    try:
        return round(float(text[:-1] if factor > 1 else text) * factor)
    except (ValueError, OverflowError):  # inf and nan too
        raise argparse.ArgumentTypeError(
            f"must be a number such as 500000, 600K or 3.0M, got {text!r}"
        ) from None


class _Bar(tqdm):
    """A bar that knows, too, how long the steps after its own will take at the same rate."""

    later = 0

    @property
    def format_dict(self) -> Dict[str, Any]:
        known = super().format_dict
        step = known["elapsed"] / known["n"] if known["n"] else 0.0
        left = step * (known["total"] - known["n"] + self.later)
        known["all"] = self.format_interval(left) if step else "?"
        return known


def progress(steps: Iterable[Any], length: int, what: str, later: int = 0) -> Iterable[Any]:
    """A bar on a terminal, nothing elsewhere; one for all workers.

    It shows the time that is left of these steps, and of the whole run, which has so many later.
    """
    hidden = True if workers.rank() else None
    bar = "{l_bar}{bar}| {n_fmt}/{total_fmt}, {rate_fmt}, left: {remaining}, of the run {all}"
    shown = _Bar(
        steps, what, length, leave=False, disable=hidden, dynamic_ncols=True, bar_format=bar
    )
    shown.later = later
    return shown
