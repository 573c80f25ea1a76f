"""Folders of pictures, a folder a class: DIR/CLASS/*.jpg, or DIR/train/CLASS and DIR/val/CLASS."""

import hashlib
from itertools import chain
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..io.checks import shown
from ..io.files import PathLike, read_regular
from .picture import MOST_BYTES, SUFFIXES, decode
from .pictures import Pictures

_TRAIN, _TEST = "train", ("val", "test")
_HELD_OUT = 5  # one picture in so many is tested on, where a folder has no test part
_NAMED = 3  # examples in a note


class PictureFiles(Pictures):
    """Labelled picture files below a folder; their keys are their paths from there.

    Parameters
    ----------
    root : path
    files : sequence of str
    labels, classes, image_size
        See `Pictures`.
    threads : int
        See `Pictures`.
    """

    def __init__(
        self,
        root: PathLike,
        files: Sequence[str],
        labels: np.ndarray,
        classes: Tuple[str, ...],
        image_size: int,
        threads: int = 1,
    ) -> None:
        super().__init__(np.array(files, object), labels, classes, image_size, threads)
        self.root = Path(root)
        self.place, self.by_class = str(root), True

    def read(self, index: int) -> np.ndarray:
        """The picture, uint8 H×W×3, RGB."""
        return decode(read_regular(self.root / self.keys[index], MOST_BYTES))


class Listing(NamedTuple):
    """What a folder of classes has.

    Attributes
    ----------
    classes : tuple of str
        The folders' names, sorted.
    train, test : dict
        Files, from the root, of each class.
    held_out : bool
        Whether the test files were taken from the only part that there is.
    notes : list of str
        What is there but is no picture.
    """

    root: Path
    classes: Tuple[str, ...]
    train: Dict[str, List[str]]
    test: Dict[str, List[str]]
    held_out: bool
    notes: List[str]

    def part(self, train: bool, image_size: int, threads: int = 1) -> PictureFiles:
        """The training or the test pictures."""
        chosen = self.train if train else self.test
        files = [file for name in self.classes for file in chosen[name]]
        counts = [len(chosen[name]) for name in self.classes]
        labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
        return PictureFiles(self.root, files, labels, self.classes, image_size, threads)


def is_folder_of_classes(path: PathLike) -> bool:
    """Whether a folder has pictures, or folders with pictures in them."""
    root = Path(path)
    if not root.is_dir():
        return False
    folders = _folders(_train_folder(root))
    in_folders = (file for folder in folders for file in folder.rglob("*"))
    return any(_is_picture(file) for file in chain(_files(root), in_folders))


def list_folder(path: PathLike, seed: int = 0) -> Listing:
    """The classes of a folder, and which files are trained and tested on.

    Without a part ``val`` or ``test`` every fifth picture of each class is held out. Which ones
    depends on their names and `seed` alone, so a search and a training hold out the same.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    ValueError
        There are fewer than two classes, two whose names differ only in case, or one without, or
        with too few, pictures.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    train_folder = _train_folder(root)
    test_folder: Optional[Path] = None
    if train_folder is not root:
        test_folder = next((root / name for name in _TEST if (root / name).is_dir()), None)
    classes = tuple(folder.name for folder in _folders(train_folder))
    _check_names(train_folder, classes)
    odd: List[str] = []
    train = {name: _pictures(train_folder / name, root, odd) for name in classes}
    for name, files in train.items():
        if not files:
            raise ValueError(f"{train_folder / name}: no pictures ({', '.join(SUFFIXES)}) in it")
    if test_folder is None:
        held = {name: _held_out(train_folder / name, files, seed) for name, files in train.items()}
        test = held
        for name, files in train.items():
            tested = set(held[name])
            train[name] = [file for file in files if file not in tested]
    else:
        for folder in _folders(test_folder):
            if folder.name not in classes:
                raise ValueError(f"{folder}: no class of {train_folder}")
        test = {name: _pictures(test_folder / name, root, odd) for name in classes}
        if not any(test.values()):
            raise ValueError(f"{test_folder}: no pictures of the classes in it")
    odd += [file.relative_to(root).as_posix() for file in _files(train_folder)]
    notes = []
    if odd:
        examples = ", ".join(odd[:_NAMED]) + (", …" if len(odd) > _NAMED else "")
        notes.append(f"{root}: {len(odd):,} files are no pictures and are skipped: {examples}")
    if test_folder is None:
        count = sum(map(len, test.values()))
        notes.append(f"{root}: {count:,} pictures are held out to test on, see held_out.txt")
    return Listing(root, classes, train, test, test_folder is None, notes)


def _check_names(folder: Path, classes: Sequence[str]) -> None:
    if len(classes) < 2:
        there = f"only {classes[0]}" if classes else "none"
        raise ValueError(f"{folder}: needs a folder for each of two classes at least, has {there}")
    known: Dict[str, str] = {}
    for name in classes:
        if not name.isprintable() or name != name.strip():
            raise ValueError(f"{folder}: {shown(name)} is no name that can be shown: rename it")
        other = known.setdefault(name.casefold(), name)
        if other != name:
            raise ValueError(f"{folder}: {other} and {name} differ only in case: rename one")


def _train_folder(root: Path) -> Path:
    """That of the training part; a folder ``train`` of pictures alone is a class."""
    part = root / _TRAIN
    return part if part.is_dir() and _folders(part) else root


def _folders(folder: Path) -> List[Path]:
    """Those in a folder that are not hidden, by name."""
    there = (path for path in folder.iterdir() if path.is_dir())
    return sorted(path for path in there if not path.name.startswith("."))


def _files(folder: Path) -> List[Path]:
    return sorted(p for p in folder.iterdir() if not p.is_dir() and not p.name.startswith("."))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _pictures(folder: Path, root: Path, odd: List[str]) -> List[str]:
    """The pictures below the folder of a class, from the root, by name; others go to `odd`."""
    found: List[str] = []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_dir() or hidden:
            continue
        name = path.relative_to(root).as_posix()
        (found if _is_picture(path) else odd).append(name)
    return found


def _held_out(folder: Path, files: Sequence[str], seed: int) -> List[str]:
    if len(files) < 2:
        raise ValueError(
            f"{folder}: has one picture, and none to test on: add some, or make train and val"
        )

    def place(file: str) -> bytes:
        return hashlib.sha256(f"{seed}/{file}".encode("utf-8", "surrogateescape")).digest()

    chosen = sorted(files, key=place)[: max(1, len(files) // _HELD_OUT)]
    return sorted(chosen)
