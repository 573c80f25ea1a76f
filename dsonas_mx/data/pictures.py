"""Labelled pictures of any size, read when they are asked for."""

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import lru_cache
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]  # shows a bar


class Pictures(ABC):
    """What batches are made of; `skipped` has the keys of those that cannot be read, and why.

    Parameters
    ----------
    keys : array
        What each picture is called in messages: a number, or a name.
    labels : numpy.ndarray
        int32, each an index into `classes`.
    classes : tuple of str
    image_size : int
        Side of the images that an augmentation makes of these.
    threads : int
        That read.
    """

    what = "picture"  # that a key is of
    place = ""  # where they are
    by_class = False  # whether those of a class follow each other

    def __init__(
        self,
        keys: np.ndarray,
        labels: np.ndarray,
        classes: Tuple[str, ...],
        image_size: int,
        threads: int = 1,
    ) -> None:
        self.keys, self.labels, self.classes = keys, labels, classes
        self.image_shape = (image_size, image_size, 3)
        self.threads = threads
        self.skipped: Dict[Any, str] = {}
        self.notes: List[str] = []  # to be said at the start
        self.indices = np.arange(len(keys))  # of these, in all that there are

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def read(self, index: int) -> np.ndarray:
        """Pixels of a picture, uint8 H×W×C.

        Raises
        ------
        ValueError, OSError
            It cannot be read.
        """

    def subset(self, chosen: np.ndarray) -> Any:
        """Some of the pictures, which tell the same dictionary of what is skipped."""
        part = copy(self)
        part.keys, part.labels = self.keys[chosen], self.labels[chosen]
        part.indices = self.indices[chosen]
        return part

    def take(self, chosen: np.ndarray, whole: bool) -> Tuple[Sequence[np.ndarray], np.ndarray]:
        """Images, uint8 H×W×C, and labels.

        Parameters
        ----------
        chosen : array
            Which ones.
        whole : bool
            Others of `chosen` stand in for what cannot be read; else there are fewer.

        Raises
        ------
        ValueError
            None of them can be read.
        """
        images, good = self.readable(chosen)
        if not images:
            raise ValueError(
                f"none of the {len(chosen)} images of a batch can be decoded, such as "
                f"{self.what} {self.keys[chosen[0]]}; copy or make them again"
            )
        if whole:
            repeated = np.resize(np.arange(len(good)), len(chosen))
            images, good = [images[n] for n in repeated], good[repeated]
        return images, self.labels[good]

    def readable(self, chosen: np.ndarray) -> Tuple[List[np.ndarray], np.ndarray]:
        """The images that can be read, and which of `chosen` these are."""
        found = list(pool(self.threads).map(self._try, np.asarray(chosen).tolist()))
        good = [n for n, image in enumerate(found) if image is not None]
        images: List[Any] = [found[n] for n in good]
        return images, np.asarray(chosen)[np.array(good, int)]

    def _try(self, index: int) -> Optional[np.ndarray]:
        try:
            return self.read(index)
        except (ValueError, OSError) as error:
            self.skipped[self.keys[index]] = str(error)
            return None


@lru_cache(maxsize=None)
def pool(threads: int) -> ThreadPoolExecutor:
    """So many threads for images; decoding and resizing hold no lock of Python's."""
    return ThreadPoolExecutor(threads, "dsonas-images")
