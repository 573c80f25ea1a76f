"""Checkpoints: all that a loop has to know to go on, in folders that are whole or not there.

`checkpoint/000012/` holds `state.json`, whose numbers are exact and whose checksums cover both
files, and `arrays.params`. There is no pickle in it: what is damaged, or made to do harm, is an
error of ours.
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, Callable, Collection, Dict, List, Optional, Tuple

from ..io.files import (
    PathLike,
    atomic_folder,
    read_regular,
    remove_temporary,
    sha256,
    write_json,
)
from ..io.params_file import read_params, write_params
from ..training.state import State, not_finite

FORMAT = 1
_STATE, _ARRAYS, _BEST = "state.json", "arrays.params", "best"
_NUMBER = re.compile("[0-9]{6,9}")
_MOST_BYTES = 2**28  # of state.json


class Checkpoints:
    """The checkpoints of one run, numbered as they were written.

    Parameters
    ----------
    folder : path
        Made with the first one. What a killed process left half-written in it is removed.
    """

    def __init__(self, folder: PathLike) -> None:
        self.folder = Path(folder)
        if self.folder.exists():
            remove_temporary(self.folder)
        numbers = [int(path.name) for path in self.paths()]
        self._next = max(numbers, default=0) + 1

    def paths(self) -> List[Path]:
        """All that are there, the newest first."""
        names = os.listdir(self.folder) if self.folder.exists() else []
        numbers = [name for name in names if _NUMBER.fullmatch(name)]
        return [self.folder / name for name in sorted(numbers, key=int, reverse=True)]

    @property
    def next(self) -> Path:
        """Where the next one will be."""
        return self.folder / f"{self._next:06d}"

    def save(self, state: State, keep: Collection[str] = (), best: Optional[str] = None) -> Path:
        """Write a checkpoint; then remove all others but those whose names are in `keep`.

        `best` is the name of the one that the link ``best`` shall lead to.
        """
        target = self.next
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_folder(target) as temporary:
            write_params(temporary / _ARRAYS, state.arrays)
            digests = {
                "state": _digest(state.values),
                "arrays": sha256(temporary / _ARRAYS),
            }
            content = {"format": FORMAT, "sha256": digests, "state": state.values}
            write_json(temporary / _STATE, content)
        self._next += 1
        if best is not None:
            self._point_to(best)
        for path in self.paths():
            if path.name not in keep and path != target:
                shutil.rmtree(path, ignore_errors=True)
        return target

    def _point_to(self, name: str) -> None:
        """Let `best` lead to a checkpoint: a link, or where there are none a file with its name."""
        link = self.folder / f".{os.getpid()}.{_BEST}"
        try:
            os.symlink(name, link)
        except OSError:
            link.write_text(f"{name}\n")
        os.replace(link, self.folder / _BEST)

    def newest(self, note: Callable[[str], None]) -> Optional[Tuple[Path, State]]:
        """The newest that can be read; None if there is none. `note` is told of damaged ones.

        Raises
        ------
        ValueError
            There are some, but none can be read.
        """
        paths = self.paths()
        for path in paths:
            try:
                return path, read_checkpoint(path)
            except (ValueError, OSError) as error:
                note(f"cannot use a checkpoint: {_line(error)}; trying the one before")
        if paths:
            raise ValueError(
                f"no checkpoint in {self.folder} can be used: start again with another `save_dir`"
            )
        return None


def is_checkpoint(path: PathLike) -> bool:
    """Whether it looks like one."""
    return _folder(path).joinpath(_STATE).is_file()


def _folder(path: PathLike) -> Path:
    """That of a checkpoint, also where `best` is a file with its name."""
    path = Path(path)
    if path.name == _BEST and path.is_file():
        name = read_regular(path, 20).decode("ascii", "replace").strip()
        return path.with_name(name) if _NUMBER.fullmatch(name) else path
    return path


def read_checkpoint(path: PathLike) -> State:
    """Read and check one checkpoint.

    Raises
    ------
    ValueError, OSError
        It is not one, is damaged, or holds a number that is not finite; the message names it.
    """
    folder = _folder(path)
    if folder.joinpath(_STATE).stat().st_size > _MOST_BYTES:
        raise ValueError(f"{folder / _STATE} is too large")
    try:
        content = json.loads(read_regular(folder / _STATE, _MOST_BYTES), parse_constant=_refuse)
        version, digests, values = content["format"], content["sha256"], content["state"]
        expected = digests["state"], digests["arrays"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{folder / _STATE} is damaged: {_line(error)}") from None
    if version != FORMAT:
        raise ValueError(f"{folder} is of format {version}, this program reads {FORMAT}")
    arrays = read_params(folder / _ARRAYS)
    if _digest(values) != expected[0]:
        raise ValueError(f"{folder / _STATE} is damaged: its checksum is wrong")
    if sha256(folder / _ARRAYS) != expected[1]:
        raise ValueError(f"{folder / _ARRAYS} is damaged: its checksum is wrong")
    bad = not_finite(arrays)
    if bad:
        raise ValueError(f"{folder / _ARRAYS}: {bad[0]} is not finite")
    return State(values, arrays)


def _digest(values: Dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _line(error: BaseException) -> str:
    text = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return " ".join(text.split()) or type(error).__name__
