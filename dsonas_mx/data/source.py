"""One's own data: a folder of classes, an `.npz`, or records, whichever a path is."""

from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

from . import arrays, folders
from .pictures import Pictures
from .recordio import count_records
from .records import Records, class_names
from .registry import DATA_SETS, DataSet

_TRAIN, _VAL = "train.rec", "val.rec"


@dataclass(frozen=True, eq=False)
class Source:
    """Training and test pictures, and what is known of them before any is read.

    Attributes
    ----------
    kind : {'folder', 'arrays', 'records'}
    classes : tuple of str
    channels : {1, 3}
    train, test : Pictures
    held_out : tuple of str
        The test pictures, if they were taken from the training part; empty if there is a test part.
    notes : list of str
        What should be said at the start.
    """

    kind: str
    train: Pictures
    test: Pictures
    channels: int
    held_out: Tuple[str, ...]
    notes: List[str]

    @property
    def classes(self) -> Tuple[str, ...]:
        """Names of the classes."""
        return self.train.classes

    @property
    def side(self) -> Optional[int]:
        """Of its images, if all (the first, at least) are squares of one size; None if not."""
        if self.kind == "folder":
            return None
        sizes = {self.train.read(index).shape[:2] for index in range(min(len(self.train), 8))}
        height, width = sizes.pop()
        return height if height == width and not sizes else None

    def about(self, image_size: int, resize: str = "stretch") -> DataSet:
        """What is known of it, without mean and deviation."""
        return DataSet(
            self.kind,
            len(self.train),
            image_size,
            self.channels,
            self.classes,
            (),
            (),
            pad=image_size // 8,  # as CIFAR's
            fill=127,
            resize=resize,
        )


def kind_of(path: Optional[str]) -> Optional[str]:
    """What a path is: 'folder', 'arrays' or 'records' of own data, the name of a data set whose
    records they are, or None if that cannot be told.
    """
    if not path:
        return None
    if Path(path).suffix.lower() == ".npz":
        return "arrays"
    if (Path(path) / _TRAIN).is_file():
        return _known(Path(path)) or "records"
    return "folder" if folders.is_folder_of_classes(path) else None


def _known(folder: Path) -> Optional[str]:
    """The data set whose records a folder has: by the names of the classes, or without any by the
    number of its records.
    """
    names = class_names(folder)
    if names is not None:
        return next((row.name for row in DATA_SETS.values() if row.classes == names), None)
    counts = [count_records(folder / name) for name in (_TRAIN, _VAL)]
    return "cifar10" if counts == [DATA_SETS["cifar10"].num_train, 10_000] else None


def open_source(
    path: str, image_size: int = 0, threads: int = 1, channels: Optional[int] = None
) -> Source:
    """The data at a path; `channels` are what is wanted, if not those of the data.

    Raises
    ------
    ValueError, OSError
        There are none, or something is wrong with them; the message says what.
    """
    kind = kind_of(path)
    if kind == "arrays":
        return _arrays(path, image_size, channels)
    if kind == "records" or kind in DATA_SETS:
        train, test = (
            Records(Path(path) / name, None, image_size, threads) for name in (_TRAIN, _VAL)
        )
        return Source("records", train, test, 3, (), [*train.notes, *test.notes])
    listing = folders.list_folder(path)
    train_files, test_files = (listing.part(half, image_size, threads) for half in (True, False))
    held = tuple(test_files.keys) if listing.held_out else ()
    return Source("folder", train_files, test_files, 3, held, listing.notes)


def _arrays(path: str, image_size: int, channels: Optional[int]) -> Source:
    images, labels, classes = arrays.read_arrays(path)
    trained, tested = arrays.hold_out(labels)
    every = arrays.PictureArray(images, labels, classes, image_size)
    every.channels = channels or every.channels
    notes = [f"{path}: {len(tested):,} images are held out to test on, see held_out.txt"]
    held = tuple(str(number) for number in tested)
    train, test = every.subset(trained), every.subset(tested)
    return Source("arrays", train, test, every.channels, held, notes)
