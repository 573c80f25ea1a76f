"""Images of a RecordIO file, as im2rec writes it, decoded when they are asked for."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..io.files import PathLike, open_regular
from . import recordio
from .picture import decode

_MOST_BAD = 0.5  # of the records: with more, the index is of another file


class Records:
    """Labelled images of any size, on disk.

    A record that cannot be read or decoded is skipped: `skipped` has its key and the reason. Where
    nothing can be read when the index is made again, the key is lost too: `damaged` has the bytes.

    Parameters
    ----------
    path : path
        The `.rec` file. Its `.idx` is made again from the records if it is not there; where it
        cannot be written, it is made anew each time.
    num_classes : int
        Labels are from 0 to one less.
    image_size : int
        Side of the images that an augmentation makes of these.
    threads : int
        That decode.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It holds no records, or none that its index lists, or another number of classes.
    """

    def __init__(self, path: PathLike, num_classes: int, image_size: int, threads: int = 1) -> None:
        self.path = Path(path)
        self.image_shape = (image_size, image_size, 3)
        self.skipped: Dict[int, str] = {}
        self.damaged: List[int] = []
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self._threads = threads
        self._local = threading.local()
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path}: not there; make it with MXNet's im2rec, or name another file"
            )
        places = self._places()
        lost = [place for place in places if math.isnan(place.label)]
        if not places or len(lost) > _MOST_BAD * len(places):
            raise ValueError(
                f"{self.path}: {len(lost):,} of the {len(places):,} records of its index are not "
                "there; it is no RecordIO file, or remove the .idx to have it made again"
            )
        for place in lost:
            self.skipped[place.key] = f"no record at byte {place.offset}"
        good = [place for place in places if not math.isnan(place.label)]
        self.keys = np.array([place.key for place in good])
        self._offsets = [place.offset for place in good]
        labels = np.array([place.label for place in good])
        wrong = ~np.isin(labels, np.arange(num_classes))
        if wrong.any():
            key, label = self.keys[wrong.argmax()], labels[wrong.argmax()]
            raise ValueError(
                f"{self.path}: record {key} has label {label:g}, not 0 to {num_classes - 1}: "
                "give another `num_classes`"
            )
        self.labels = labels.astype(np.int32)

    def _places(self) -> List[recordio.Place]:
        if self.path.with_suffix(".idx").is_file():
            return recordio.read_places(self.path)
        places = list(recordio.scan(self.path, self.damaged))
        try:
            recordio.write_places(self.path, places)
        except OSError:  # a folder that is only for reading
            pass
        return places

    def __len__(self) -> int:
        return len(self._offsets)

    def take(self, chosen: np.ndarray, whole: bool) -> Tuple[Sequence[np.ndarray], np.ndarray]:
        """Images, uint8 H×W×3, RGB, and labels.

        Parameters
        ----------
        chosen : array
            Which ones.
        whole : bool
            Others of `chosen` stand in for what cannot be decoded; else there are fewer.

        Raises
        ------
        ValueError
            None of them can be decoded.
        """
        decoded = list(workers(self._threads).map(self._decode, chosen.tolist()))
        good = np.array([n for n, image in enumerate(decoded) if image is not None], int)
        if not len(good):
            raise ValueError(
                f"{self.path}: none of the {len(chosen)} images of a batch can be decoded, such as "
                f"record {self.keys[chosen[0]]}; copy or make the file again"
            )
        if whole:
            good = np.resize(good, len(chosen))
        images: List[Any] = [decoded[n] for n in good]
        return images, self.labels[chosen[good]]

    def _decode(self, index: int) -> Optional[np.ndarray]:
        key = int(self.keys[index])
        try:
            encoded = recordio.read_image(self._file(), self._offsets[index], self.path)
        except ValueError as error:
            self.skipped[key] = str(error)
            return None
        try:
            return decode(encoded)
        except ValueError as error:
            self.skipped[key] = f"its image is {error}"
            return None

    def _file(self) -> Any:
        """The file as this thread has it open."""
        if not hasattr(self._local, "file"):
            self._local.file = open_regular(self.path)
        return self._local.file


@lru_cache(maxsize=None)
def workers(threads: int) -> ThreadPoolExecutor:
    """So many threads for images; decoding and resizing hold no lock of Python's."""
    return ThreadPoolExecutor(threads, "dsonas-images")
