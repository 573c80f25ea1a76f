"""The tables of a run, whose rows can be cut back to those that count."""

import csv
import io
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional

from ..io.files import atomic, naming, read_regular

_MOST_BYTES = 2**40


class Tables:
    """CSV files of a folder, and how much of each counts.

    Parameters
    ----------
    folder : path
    note : callable
        Is told of rows that somebody has removed, which ends no run.
    """

    def __init__(self, folder: Path, note: Callable[[str], None]) -> None:
        self._folder = folder
        self._note = note
        self._columns: Dict[str, List[str]] = {}
        self._lengths: Dict[str, int] = {}

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add a row to a table; the first one writes the header.

        Floats are written with all their digits, None as nothing. What follows in the file behind
        the rows that count, those of a run that was cut short, is removed first.
        """
        path = self._folder / name
        columns = self._columns.setdefault(name, list(row))
        if columns != list(row):
            raise ValueError(f"{path} has the columns {columns}, not {list(row)}")
        length = self._lengths.get(name, 0)
        if length and (not path.exists() or path.stat().st_size < length):
            length = len(self._left(path, length))
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if not length:
            writer.writerow(columns)
        writer.writerow(_digits(value) for value in row.values())
        with naming(path), open(path, "r+b" if path.exists() else "wb") as file:
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
        """Cut the tables back to what they were, or take as much of them from another folder."""
        contents = {}
        for name, length in lengths.items():
            if Path(name).name != name:
                raise ValueError(f"{name} is not the name of a table")
            contents[name] = self._left((source or self._folder) / name, length)
        self._lengths, self._columns = {}, {}
        for name, content in contents.items():
            if not content:
                continue
            with atomic(self._folder / name) as temporary:
                temporary.write_bytes(content)
            self._lengths[name] = len(content)
            header = content.decode(errors="replace").splitlines()[:1]
            self._columns[name] = next(csv.reader(header), [])

    def _left(self, path: Path, length: int) -> bytes:
        """The first bytes of a table: whole rows of it where somebody has removed some."""
        content = b""
        with suppress(FileNotFoundError):
            content = read_regular(path, _MOST_BYTES)[:length]
        if len(content) < length:
            self._note(f"{path}: rows that were written are gone: it goes on without them")
            content = content[: content.rfind(b"\n") + 1]
        return content


def _digits(value: Any) -> Any:
    if value is None:
        return ""
    return repr(float(value)) if isinstance(value, float) else value  # NumPy's have a repr too
