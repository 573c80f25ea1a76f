"""ImageNet's augmentation, that of fb.resnet: random area and aspect, colour, lighting, mirror.

MXNet's `ImageRecordIter` has most of it, but does not repeat by `seed`, and by `seed_aug` draws the
same numbers in every epoch, place by place. It cannot begin in the middle of an epoch either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from .images import mean_std_of
from .pictures import Pictures, Progress, pool
from .registry import IMAGENET_MEAN, IMAGENET_STD

# Of the colours of ImageNet's pixels, 0..1: a row of the vectors for each of R, G, B.
EIGENVALUES = np.array((0.2175, 0.0188, 0.0045))
EIGENVECTORS = np.array(
    ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
)

_MOST_MEASURED, _PART = 20_000, 256  # pictures for mean and deviation, and at a time
_TRIES = 10  # of a random crop, before it is the centre's
_MARGIN = 256 / 224  # the short side in a test, over the crop's


@dataclass(frozen=True)
class ImageNetAugmentation:
    """Crop and resize (bicubic), then colour, lighting, mirror, and normalisation.

    Parameters
    ----------
    size : int
        Side of what comes out.
    area : (float, float)
        Share of the image that the random crop has.
    aspect : (float, float)
        Width of the random crop over its height.
    colour : float
        Brightness, contrast and saturation are multiplied with 1 ± this, in a random order.
    lighting : float
        Standard deviation of the shifts along the principal colours.
    mirror : bool
    is_random : bool
        False: the short side becomes size · 256/224, and the centre is cut out.
    threads : int
        That work on a batch.
    mean : tuple of float
        By channel, of pixels scaled to 0..1.
    std : tuple of float
        By channel, as `mean`.
    """

    size: int = 224
    area: Tuple[float, float] = (0.08, 1.0)
    aspect: Tuple[float, float] = (3 / 4, 4 / 3)
    colour: float = 0.4
    lighting: float = 0.1
    mirror: bool = True
    is_random: bool = True
    threads: int = 1
    mean: Tuple[float, ...] = IMAGENET_MEAN
    std: Tuple[float, ...] = IMAGENET_STD

    def plain(self) -> ImageNetAugmentation:
        """That of a test."""
        return replace(self, is_random=False)

    def __call__(
        self, images: Sequence[np.ndarray], generator: Optional[np.random.Generator] = None
    ) -> np.ndarray:
        """A batch of images, uint8 H×W×3 of any size, as float32 B×3×size×size."""
        if not self.is_random:
            done = pool(self.threads).map(self._centre, images)
        elif generator is None:
            raise ValueError("a random augmentation needs a generator, got none")
        else:  # each image has random numbers of its own, whatever thread it is in
            done = pool(self.threads).map(self._random, images, _seeds(generator, len(images)))
        return np.stack(list(done))

    def skip(self, generator: np.random.Generator, count: int) -> None:
        """Draw what so many images of a batch would: those behind them are augmented alike."""
        _seeds(generator, count)

    def _centre(self, image: np.ndarray) -> np.ndarray:
        return normalised(unit(centre(image, self.size)), self.mean, self.std)

    def _random(self, image: np.ndarray, seed: int) -> np.ndarray:
        generator = np.random.Generator(np.random.Philox(key=seed))
        crop = self._crop(image, generator)
        data = unit(crop)
        if self.colour:
            data = jittered(data, self.colour, generator)
        if self.lighting:
            data = data + lighting(generator.normal(0, self.lighting, 3))
        if self.mirror and generator.random() < 0.5:
            data = data[:, ::-1]
        return normalised(data, self.mean, self.std)

    def _crop(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Area and aspect drawn until they fit into the image."""
        height, width = image.shape[:2]
        for _ in range(_TRIES):
            area = generator.uniform(*self.area) * height * width
            aspect = generator.uniform(*self.aspect)
            wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if generator.random() < 0.5:
                wide, high = high, wide
            if 0 < wide <= width and 0 < high <= height:
                top = generator.integers(0, height - high + 1)
                left = generator.integers(0, width - wide + 1)
                return resized(image[top : top + high, left : left + wide], self.size, self.size)
        return centre(image, self.size, margin=1)


def _seeds(generator: np.random.Generator, count: int) -> List[int]:
    """One for each image, drawn one after the other."""
    return generator.integers(0, 2**63, count).tolist()


def unit(image: np.ndarray) -> np.ndarray:
    """0 to 255 as 0 to 1."""
    return image * np.float32(1 / 255)


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bicubic."""
    cv2 = _cv2()
    return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_CUBIC)


def centre(image: np.ndarray, size: int, margin: float = _MARGIN) -> np.ndarray:
    """The square of that size in the middle, when the short side is `margin` times as long."""
    height, width = image.shape[:2]
    scale = round(size * margin) / min(height, width)
    image = resized(image, max(size, round(height * scale)), max(size, round(width * scale)))
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def mean_std_at(
    pictures: Pictures, size: int, progress: Progress
) -> Tuple[Tuple[float, ...], Tuple[float, ...]]:
    """Mean and deviation by channel, 0..1, of the centres of 20,000 pictures at most."""
    count = min(len(pictures), _MOST_MEASURED)
    chosen = np.linspace(0, len(pictures) - 1, count).astype(int)
    parts = np.array_split(chosen, -(-count // _PART))

    def centres() -> Iterator[np.ndarray]:
        for part in progress(parts, len(parts), "mean and deviation"):
            images = pictures.readable(part)[0]
            if images:
                yield np.stack([centre(image, size) for image in images])

    return mean_std_of(centres())


def jittered(data: np.ndarray, amount: float, generator: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and saturation, in a random order; not cut off at 0 and 1.

    Each is α · image + (1 − α) · what has none of it: black, the mean grey, the grey image.
    """
    for what in generator.permutation(3):
        alpha = np.float32(1 + generator.uniform(-amount, amount))
        if what == 0:
            data = alpha * data
            continue
        grey = _cv2().cvtColor(data, _cv2().COLOR_RGB2GRAY)[..., np.newaxis]
        data = alpha * data + (1 - alpha) * (grey.mean() if what == 1 else grey)
    return data


def lighting(shifts: np.ndarray) -> np.ndarray:
    """What is added to R, G and B for shifts along the three principal colours."""
    return (EIGENVECTORS @ (shifts * EIGENVALUES)).astype(np.float32)


def normalised(
    data: np.ndarray,
    means: Sequence[float] = IMAGENET_MEAN,
    deviations: Sequence[float] = IMAGENET_STD,
) -> np.ndarray:
    """H×W×3 of 0..1 to 3×H×W of mean 0 and deviation 1."""
    planes = np.empty((3, *data.shape[:2]), np.float32)
    for plane, values, mean, std in zip(planes, _cv2().split(data), means, deviations):
        np.multiply(values - np.float32(mean), np.float32(1 / std), out=plane)
    return planes


@lru_cache(maxsize=None)
def _cv2() -> Any:
    """OpenCV, where its system libraries are, with one thread an image: a loader has its own."""
    import cv2

    cv2.setNumThreads(1)
    return cv2
