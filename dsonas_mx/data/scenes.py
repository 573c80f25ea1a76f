"""Crops of scenes for training: augmentation, and batches by seed, epoch and position alone."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from .loader import Batch, Loader, generator_of
from .registry import IMAGENET_MEAN, IMAGENET_STD
from .voc import IGNORED, Scenes


def normalised(image: np.ndarray) -> np.ndarray:
    """A uint8 or float image H×W×3 of values up to 255 as float32 3×H×W."""
    mean, std = (np.array(v, np.float32) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return np.ascontiguousarray(((image / np.float32(255) - mean) / std).transpose(2, 0, 1))


@dataclass(frozen=True)
class Crop:
    """A random scale, a random crop, a mirror for every second image.

    Parameters
    ----------
    size : int
        Side of the crop. What it has beyond the image is the mean colour, and ignored.
    scales : (float, float)
        Between which the scale is drawn.
    mirror : bool
    """

    size: int = 513
    scales: Tuple[float, float] = (0.5, 2.0)
    mirror: bool = True

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"crop must be at least 1, got {self.size}")
        if not 0 < self.scales[0] <= self.scales[1] < np.inf:
            raise ValueError(f"scales must be two ascending numbers above 0, got {self.scales}")

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, generator: np.random.Generator
    ) -> Tuple[np.ndarray, np.ndarray]:
        """Augment one scene.

        Parameters
        ----------
        image : uint8 H×W×3
        labels : int16 H×W, below 0 where ignored
        generator : numpy.random.Generator

        Returns
        -------
        data : float32 3×size×size, normalised
        labels : float32 size×size
        """
        scale = generator.uniform(*self.scales)
        height, width = (max(1, round(side * scale)) for side in labels.shape)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
        top, left = (
            int(generator.integers(0, max(side - self.size, 0) + 1)) for side in (height, width)
        )
        image = image[top : top + self.size, left : left + self.size]
        labels = labels[top : top + self.size, left : left + self.size]
        if self.mirror and generator.random() < 0.5:
            image, labels = image[:, ::-1], labels[:, ::-1]
        height, width = labels.shape
        data = np.zeros((3, self.size, self.size), np.float32)
        data[:, :height, :width] = normalised(image)
        target = np.full((self.size, self.size), IGNORED, np.float32)
        target[:height, :width] = labels
        return data, target


class SceneLoader(Loader):
    """Batches of crops, as `Loader` makes them of images in memory.

    Every scene has random numbers of its own, so that they do not depend on the threads either.

    Parameters
    ----------
    scenes : Scenes
    indices, batch_size
        See `Loader`.
    crop : Crop
    seed, stream
        See `Loader`.
    threads : int
        That read and augment the scenes of a batch.
    """

    def __init__(
        self,
        scenes: Scenes,
        indices: Optional[Union[np.ndarray, Sequence[int]]],
        batch_size: int,
        crop: Crop,
        seed: int = 0,
        stream: int = 0,
        threads: int = 2,
    ) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        super().__init__(scenes, indices, batch_size, crop, seed, stream=stream)
        self._scenes = scenes
        self._crop = crop
        self._pool = ThreadPoolExecutor(threads, "dsonas-scenes")

    @property
    def data_shape(self) -> Tuple[int, int, int, int]:
        """B×3×size×size."""
        return self.batch_size, 3, self._crop.size, self._crop.size

    @property
    def label_shape(self) -> Tuple[int, ...]:
        """B×size×size."""
        return self.batch_size, self._crop.size, self._crop.size

    def _batch(self, order: np.ndarray, number: int, position: int) -> Batch:
        places = range(position * self.batch_size, (position + 1) * self.batch_size)

        def scene(place: int) -> Tuple[np.ndarray, np.ndarray]:
            generator = generator_of(self.seed, self.stream, number, place)
            return self._crop(*self._scenes.read(int(order[place])), generator)

        data, labels = zip(*self._pool.map(scene, places))
        return Batch(np.stack(data), np.stack(labels))
