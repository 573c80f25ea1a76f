"""Augmentation of a whole batch at once: pad and crop, mirror, normalise, cutout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Tuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


@dataclass(frozen=True)
class Augmentation:
    """What is done to a batch, in this order.

    Parameters
    ----------
    mean, std : tuple of float
        A value a channel, of pixels scaled to 0..1.
    pad : int
        Pixels added on each side before a crop of the original size is drawn; 0 for no crop.
    fill : int
        The padding's value before normalisation, 0..255.
    mirror : bool
        Mirror half of the images left to right.
    cutout : int
        Side of the square that is set to zero after normalisation (DeVries and Taylor 2017);
        its centre may be any pixel, so that it is cut at the border. 0 for none.
    """

    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    pad: int = 4
    fill: int = 127
    mirror: bool = True
    cutout: int = 0

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(
                f"mean and std must have a value a channel, got {self.mean} and {self.std}"
            )
        if not np.all(np.isfinite(self.mean)):
            raise ValueError(f"mean must be finite, got {self.mean}")
        if not (np.all(np.isfinite(self.std)) and np.all(np.asarray(self.std) > 0)):
            raise ValueError(f"std must be positive, got {self.std}")
        if self.pad < 0:
            raise ValueError(f"pad must be at least 0, got {self.pad}")
        if not 0 <= self.fill <= 255:
            raise ValueError(f"fill must lie between 0 and 255, got {self.fill}")
        if self.cutout < 0:
            raise ValueError(f"cutout must be at least 0, got {self.cutout}")

    def plain(self) -> Augmentation:
        """Normalisation alone, for evaluation."""
        return replace(self, pad=0, mirror=False, cutout=0)

    def __call__(
        self, images: np.ndarray, generator: Optional[np.random.Generator] = None
    ) -> np.ndarray:
        """Augment a batch.

        Parameters
        ----------
        images : numpy.ndarray
            uint8, B×H×W×C; not changed.
        generator : numpy.random.Generator, optional
            Source of every random number; what `plain` returns needs none.

        Returns
        -------
        numpy.ndarray
            float32, B×C×H×W.
        """
        channels = images.shape[3]
        if channels != len(self.mean):
            raise ValueError(
                f"mean and std must have {channels} values for these images, got {len(self.mean)}"
            )
        if generator is None:
            if self.pad or self.mirror or self.cutout:
                raise ValueError("a random augmentation needs a generator, got none")
            return self._normalise(_channels_first(images))
        if self.pad:
            images = _random_crop(images, self.pad, self.fill, generator)
        images = _channels_first(images)
        if self.mirror:
            chosen = generator.random(len(images)) < 0.5
            images[chosen] = images[chosen][..., ::-1]
        data = self._normalise(images)
        if self.cutout:
            _cutout(data, self.cutout, generator)
        return data

    def _normalise(self, images: np.ndarray) -> np.ndarray:
        # (x / 255 - mean) / std as one multiplication and one addition.
        mean, std = np.array(self.mean), np.array(self.std)
        data = images.astype(np.float32)
        data *= (1 / (255 * std)).astype(np.float32)[:, None, None]
        data -= (mean / std).astype(np.float32)[:, None, None]
        return data


def _channels_first(images: np.ndarray) -> np.ndarray:
    # Always a contiguous copy: it is changed in place, and other strides are four times slower.
    return np.array(images.transpose(0, 3, 1, 2), order="C")


def _random_crop(
    images: np.ndarray, pad: int, fill: int, generator: np.random.Generator
) -> np.ndarray:
    batch, height, width, channels = images.shape
    padded = np.full((batch, height + 2 * pad, width + 2 * pad, channels), fill, np.uint8)
    padded[:, pad : pad + height, pad : pad + width] = images
    # A B×(2·pad+1)×(2·pad+1)×1×1×H×W×C view; picking one window an image copies only that one.
    windows = sliding_window_view(padded, (1, height, width, channels))
    rows, columns = generator.integers(0, 2 * pad + 1, (2, batch))
    return windows[np.arange(batch), rows, columns, 0, 0]


def _cutout(data: np.ndarray, side: int, generator: np.random.Generator) -> None:
    batch, _, height, width = data.shape
    inside = []
    for length in (height, width):
        start = generator.integers(0, length, (batch, 1)) - side // 2
        pixels = np.arange(length)
        inside.append((pixels >= start) & (pixels < start + side))
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    np.copyto(data, 0, where=square)
