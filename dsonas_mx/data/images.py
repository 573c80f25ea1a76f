"""A data set in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Tuple

import numpy as np

from .picture import stretched


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images of one size, checked when built.

    Parameters
    ----------
    images : numpy.ndarray
        uint8, N×H×W×C.
    labels : numpy.ndarray
        int32, N, each an index into `classes`.
    classes : tuple of str
        Names of the classes.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: Tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise ValueError(
                "images must be uint8 of shape N×H×W×C, "
                f"got {self.images.dtype} {self.images.shape}"
            )
        if self.labels.dtype != np.int32 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels must be int32 of shape ({len(self.images)},), "
                f"got {self.labels.dtype} {self.labels.shape}"
            )
        if not len(self.images):
            raise ValueError("images must hold at least one image, got none")
        if self.labels.min() < 0 or self.labels.max() >= len(self.classes):
            raise ValueError(
                f"labels must lie between 0 and {len(self.classes) - 1}, "
                f"got {self.labels.min()} to {self.labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> Tuple[int, int, int]:
        """H, W, C."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    def take(self, chosen: np.ndarray, whole: bool) -> Tuple[np.ndarray, np.ndarray]:
        """Some images and their labels; all can be had, so they are always as many."""
        return self.images[chosen], self.labels[chosen]

    def at(self, side: int) -> Images:
        """The same images, of another side."""
        if self.image_shape[:2] == (side, side):
            return self
        scaled = np.stack([stretched(image, side, side) for image in self.images])
        return Images(scaled, self.labels, self.classes)

    def mean_std(self) -> Tuple[Tuple[float, ...], Tuple[float, ...]]:
        """Mean and standard deviation of each channel, of pixels scaled to 0..1."""
        return mean_std_of([self.images])

    def subset(self, chosen: np.ndarray) -> Images:
        """Some of the images."""
        return Images(self.images[chosen], self.labels[chosen], self.classes)


def mean_std_of(parts: Iterable[np.ndarray]) -> Tuple[Tuple[float, ...], Tuple[float, ...]]:
    """Mean and standard deviation of each channel, 0..1, of images, each part uint8 N×H×W×C."""
    counts: Any = 0
    for images in parts:
        # A histogram is exact and needs no float copy of the images.
        channels = np.moveaxis(images, -1, 0).reshape(images.shape[-1], -1)
        counts = counts + np.stack([np.bincount(c, minlength=256) for c in channels])
    values = np.arange(256) / 255
    means = [float(np.average(values, weights=row)) for row in counts]
    deviations = [
        float(np.sqrt(np.average((values - mean) ** 2, weights=row)))
        for mean, row in zip(means, counts)
    ]
    return tuple(means), tuple(deviations)
