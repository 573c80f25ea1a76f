"""Images of a RecordIO file, as im2rec writes it, decoded when they are asked for."""

import math
import threading
from pathlib import Path
from typing import Any, List, Optional, Tuple

import numpy as np

from ..io.files import PathLike, open_regular
from ..io.text import read_lines
from . import recordio
from .labels import check_labels, count_classes
from .picture import decode
from .pictures import Pictures

_MOST_BAD = 0.5  # of the records: with more, the index is of another file


class Records(Pictures):
    """Labelled images of any size, on disk.

    A record that cannot be read or decoded, or has no image, is skipped: `skipped` has its key and
    the reason. Where nothing can be read when the index is made again, the key is lost too:
    `damaged` has the bytes.

    Parameters
    ----------
    path : path
        The `.rec` file. Its `.idx` is made again from the records if it is not there; where it
        cannot be written, it is made anew each time.
    num_classes : int or None
        Labels are from 0 to one less; None for as many as ``classes.txt`` beside the file or else
        the labels say.
    image_size : int
        Side of the images that an augmentation makes of these.
    threads : int
        That decode.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It holds no records, or none that its index lists, or another number of classes, or records
        of several labels.
    """

    what = "record"

    def __init__(
        self, path: PathLike, num_classes: Optional[int], image_size: int, threads: int = 1
    ) -> None:
        self.path = Path(path)
        self.damaged: List[int] = []
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self._local = threading.local()
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path}: not there; make it with tools/prepare_data.py, or name another file"
            )
        places, notes = self._places()
        lost = [place for place in places if math.isnan(place.label)]
        if not places or len(lost) > _MOST_BAD * len(places):
            raise ValueError(
                f"{self.path}: {len(lost):,} of the {len(places):,} records of its index are not "
                "there; it is no RecordIO file, or remove the .idx to have it made again"
            )
        for place in places:
            if place.has_image and place.num_labels > 1:
                raise ValueError(
                    f"{self.path}: record {place.key} has {place.num_labels} labels, not one, as "
                    "for detection: make records of a class each"
                )
        good = [place for place in places if place.has_image and not math.isnan(place.label)]
        if not good:
            raise ValueError(f"{self.path}: holds no images")
        self._offsets = [place.offset for place in good]
        names = class_names(self.path.parent)
        if num_classes is None and names is not None:
            num_classes = len(names)
        try:
            labels = check_labels(
                np.array([place.label for place in good]),
                num_classes,
                lambda index: f"record {good[index].key}",
            )
        except ValueError as error:
            advice = "" if num_classes is None else ": give another `num_classes`"
            raise ValueError(f"{self.path}: {error}{advice}") from None
        count = count_classes(labels) if num_classes is None else num_classes
        if names is None or len(names) != count:
            names = tuple(str(number) for number in range(count))
        keys = np.array([place.key for place in good])
        super().__init__(keys, labels, names, image_size, threads)
        self.notes, self.place = notes, str(self.path)
        for place in places:
            if math.isnan(place.label):
                self.skipped[place.key] = f"no record at byte {place.offset}"
            elif not place.has_image:
                self.skipped[place.key] = "it has no image"

    def _places(self) -> Tuple[List[recordio.Place], List[str]]:
        """The records, and what should be said of their index."""
        notes = []
        if self.path.with_suffix(".idx").is_file():
            places = recordio.read_places(self.path)
            left_out = recordio.left_out(self.path, places)
            if left_out:
                notes.append(
                    f"{self.path}: {left_out:,} bytes are of no record that its .idx lists; remove "
                    "that to have it made again"
                )
            return places, notes
        places = list(recordio.scan(self.path, self.damaged))
        try:
            recordio.write_places(self.path, places)
        except OSError:  # a folder that is only for reading
            pass
        return places, notes

    def read(self, index: int) -> np.ndarray:
        """The image of a record, uint8 H×W×3, RGB."""
        offset = self._offsets[self.indices[index]]
        encoded = recordio.read_image(self._file(), offset, self.path)
        try:
            return decode(encoded)
        except ValueError as error:
            raise ValueError(f"its image is {error}") from None

    def _file(self) -> Any:
        """The file as this thread has it open."""
        if not hasattr(self._local, "file"):
            self._local.file = open_regular(self.path)
        return self._local.file


def class_names(folder: PathLike) -> Optional[Tuple[str, ...]]:
    """The classes that ``classes.txt`` of a folder names, a line each; None without it.

    Raises
    ------
    ValueError
        It names fewer than two, or one twice.
    """
    path = Path(folder) / "classes.txt"
    if not path.is_file():
        return None
    names = tuple(name for _, name in read_lines(path))
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"{path} must name at least 2 different classes, a line each")
    return names
