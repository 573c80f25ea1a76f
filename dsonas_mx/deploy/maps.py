"""Where the maps of classes of images go: a byte a pixel, the number of its class."""

from pathlib import Path
from typing import Dict, Sequence

from ..io.files import PathLike

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
