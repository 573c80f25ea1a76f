"""Maps of classes as files: palette PNGs in VOC's colours, whose values are the classes."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Sequence

import numpy as np
from PIL import Image

from ..data.voc import palette
from ..io.files import PathLike, atomic

MOST_CLASSES = 256  # of a byte a pixel


def map_files(images: Sequence[str], folder: PathLike, num_classes: int) -> Dict[str, Path]:
    """The file in `folder` of the map of each image, ``IMAGE.png``.

    Raises
    ------
    ValueError
        Two would be the same file, or one an image; or there are too many classes.
    """
    if num_classes > MOST_CLASSES:
        raise ValueError(f"a map has a byte a pixel: {num_classes} classes are too many for `out`")
    files: Dict[str, Path] = {}
    taken: Dict[Path, str] = {}
    for image in images:
        path = files[image] = Path(folder) / f"{Path(image).stem}.png"
        if path in taken:
            raise ValueError(f"{image} and {taken[path]} would both be {path}: one at a time")
        if path.resolve() == Path(image).resolve():
            raise ValueError(f"{image} would be overwritten: give another `out`")
        taken[path] = image
    return files


def save_map(path: PathLike, labels: np.ndarray) -> None:
    """Write a map, int H×W."""
    image = Image.fromarray(labels.astype(np.uint8), "P")
    image.putpalette(palette().ravel().tolist())
    with atomic(path) as temporary:
        image.save(temporary, "PNG")
