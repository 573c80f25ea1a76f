"""From an image to what a deployed network takes, as its card says."""

from pathlib import Path
from typing import Sequence, Union

import numpy as np

from ..data import imagenet
from ..data.picture import SUFFIXES, read_picture, stretched, with_channels
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
        return read_picture(image, channels)
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(f"an image must be uint8, H×W×3 or H×W, got {image.dtype} {image.shape}")
    pixels = image if image.ndim == 3 else image[..., None]
    if pixels.shape[2] not in (1, 3):
        raise ValueError(f"an image must have 1 or 3 channels, got {pixels.shape[2]}")
    if 0 in pixels.shape:
        raise ValueError(f"an image must have pixels, got {image.shape}")
    return with_channels(pixels, channels)


def image_files(folder: PathLike) -> Sequence[Path]:
    """The images that lie in a folder, by name."""
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    return sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)


def images_at(path: str) -> Sequence[PathLike]:
    """The images in a folder, of which there must be some; or the file that is given."""
    if not Path(path).is_dir():
        return [path]
    files = image_files(path)
    if not files:
        raise ValueError(f"{path}: no images ({', '.join(SUFFIXES)}) in this folder")
    return files


def sized(pixels: np.ndarray, card: Card, force: bool = False) -> np.ndarray:
    """Pixels, uint8 H×W×C, as C×H×W of the size that the card asks for.

    With `force` that is its shape also where the network takes any size, so that images stack.
    """
    height, width = card.shape[1:]
    if card.resize == "centre":
        pixels = imagenet.centre(pixels, height)
    elif card.resize == "stretch" or force:
        pixels = stretched(pixels, height, width)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
