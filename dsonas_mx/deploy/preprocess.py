"""From an image to what a deployed network takes, as its card says."""

from __future__ import annotations

from pathlib import Path
from typing import Union

import numpy as np

from ..data import imagenet
from ..io.files import PathLike
from .card import Card

Image = Union[PathLike, np.ndarray]


def read_pixels(image: Image, channels: int) -> np.ndarray:
    """An image, uint8 H×W×channels: RGB, or grey.

    Parameters
    ----------
    image : path or numpy.ndarray
        A file; or uint8, H×W×3 in RGB, or H×W.
    channels : {1, 3}

    Raises
    ------
    ValueError
        The file is no image, or the array none of these.
    """
    if not isinstance(image, np.ndarray):
        return _read(Path(image), channels == 1)
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(f"an image must be uint8, H×W×3 or H×W, got {image.dtype} {image.shape}")
    pixels = image if image.ndim == 3 else image[..., None]
    if pixels.shape[2] not in (1, 3):
        raise ValueError(f"an image must have 1 or 3 channels, got {pixels.shape[2]}")
    if 0 in pixels.shape:
        raise ValueError(f"an image must have pixels, got {image.shape}")
    if pixels.shape[2] == channels:
        return pixels
    import cv2

    converted = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY if channels == 1 else cv2.COLOR_GRAY2RGB)
    return converted.reshape(*pixels.shape[:2], -1)


def sized(pixels: np.ndarray, card: Card, force: bool = False) -> np.ndarray:
    """Pixels, uint8 H×W×C, as C×H×W of the size that the card asks for.

    With `force` that is its shape also where the network takes any size, so that images stack.
    """
    height, width = card.shape[1:]
    if card.resize == "centre":
        pixels = imagenet.centre(pixels, height)
    elif (card.resize == "stretch" or force) and pixels.shape[:2] != (height, width):
        import cv2

        shrinks = pixels.shape[0] > height
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        pixels = cv2.resize(pixels, (width, height), interpolation=method)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _read(path: Path, grey: bool) -> np.ndarray:
    import cv2

    content = np.frombuffer(path.read_bytes(), np.uint8)
    flags = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    image = cv2.imdecode(content, flags) if len(content) else None
    if image is None:
        raise ValueError(f"{path}: not an image that can be read")
    return image[..., None] if grey else image[..., ::-1]
