"""Pictures of any size as small images of one size, in memory if they fit."""

from __future__ import annotations

from typing import Iterable, List, Tuple, Union

import numpy as np

from .images import Images, mean_std_of
from .picture import stretched, with_channels
from .pictures import Pictures, Progress

LEAST_SIDE, MOST_SIDE = 16, 96  # of what the scripts for small images take
MOST_IN_MEMORY = 1 << 31  # bytes; not by the machine, on which results shall not depend
_PART = 1024  # pictures at a time
_MOST_MEASURED = 20_000  # pictures for mean and deviation


class Stretched:
    """Pictures that are made of one size when they are read.

    Parameters
    ----------
    pictures : Pictures
    size : int
        Side of what they become.
    channels : {1, 3}
    """

    def __init__(self, pictures: Pictures, size: int, channels: int) -> None:
        self.pictures, self.labels, self.classes = pictures, pictures.labels, pictures.classes
        self.image_shape = (size, size, channels)

    def __len__(self) -> int:
        return len(self.pictures)

    def subset(self, chosen: np.ndarray) -> Stretched:
        """Some of the images."""
        side, _, channels = self.image_shape
        return Stretched(self.pictures.subset(chosen), side, channels)

    def take(self, chosen: np.ndarray, whole: bool) -> Tuple[np.ndarray, np.ndarray]:
        """Images, uint8 N×H×W×C, and labels; see `Pictures.take`."""
        images, labels = self.pictures.take(chosen, whole)
        return self._stacked(images), labels

    def mean_std(self) -> Tuple[Tuple[float, ...], Tuple[float, ...]]:
        """Mean and standard deviation by channel, 0..1, of 20,000 images at most."""
        count = min(len(self), _MOST_MEASURED)
        chosen = np.linspace(0, len(self) - 1, count).astype(int)
        return mean_std_of(
            self._stacked(self.pictures.readable(part)[0])
            for part in np.array_split(chosen, -(-count // _PART))
        )

    def in_memory(self, progress: Progress) -> Images:
        """All images that can be read; the others go to `skipped` of the pictures."""
        parts = np.array_split(np.arange(len(self)), -(-len(self) // _PART))
        images: List[np.ndarray] = []
        kept: List[np.ndarray] = []
        for part in progress(parts, len(parts), "reading images"):
            read, good = self.pictures.readable(part)
            if read:
                images.append(self._stacked(read))
                kept.append(good)
        if not kept:
            raise ValueError(f"none of the {len(self):,} images can be read")
        return Images(np.concatenate(images), self.labels[np.concatenate(kept)], self.classes)

    def _stacked(self, images: Iterable[np.ndarray]) -> np.ndarray:
        side, _, channels = self.image_shape
        one = [with_channels(stretched(image, side, side), channels) for image in images]
        return np.stack(one) if one else np.zeros((0, side, side, channels), np.uint8)


def small_images(
    pictures: Pictures, size: int, channels: int, progress: Progress
) -> Union[Images, Stretched]:
    """Images of one size: in memory, or read as they are needed if they would take over 2 GB."""
    images = Stretched(pictures, size, channels)
    if len(images) * size * size * channels > MOST_IN_MEMORY:
        return images
    return images.in_memory(progress)
