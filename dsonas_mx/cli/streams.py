"""Standard output and error that end no run: of what cannot be shown or written, the rest goes on.

Python's own raise an error for a character that the terminal's encoding has not, for a pipe that
nobody reads any more, and for a full disk.
"""

import io
import os
import sys
from typing import Optional, TextIO


class _Descriptor(io.RawIOBase):
    """Takes all that is written, whether or not it gets there."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.error: Optional[OSError] = None  # the first one

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:  # type: ignore[override]
        try:
            return os.write(self._number, content)
        except OSError as error:
            self.error = self.error or error
            return len(content)


_output: Optional[_Descriptor] = None


def protect() -> None:
    """Replace `sys.stdout` and `sys.stderr`, unless somebody else has done so."""
    global _output
    for number in (0, 1, 2):  # or the next file that is opened would be taken for one of them
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is sys.__stdout__:
        _output = _Descriptor(1 if sys.stdout is None else sys.stdout.fileno())
        sys.stdout = _text(_output, sys.stdout, "replace")
    if sys.stderr is sys.__stderr__:
        number = 2 if sys.stderr is None else sys.stderr.fileno()
        sys.stderr = _text(_Descriptor(number), sys.stderr, "backslashreplace")


def lost() -> Optional[OSError]:
    """Why some of the output is lost, if it is; not that nobody wanted to read it."""
    sys.stdout.flush()
    error = None if _output is None else _output.error
    return None if isinstance(error, BrokenPipeError) else error


def _text(raw: _Descriptor, before: Optional[TextIO], errors: str) -> TextIO:
    encoding = "utf-8" if before is None else before.encoding
    lines = before is not None and bool(before.line_buffering)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=lines)
