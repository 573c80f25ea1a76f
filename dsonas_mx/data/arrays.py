"""Images in an `.npz` file: `images`, `labels` and, if there, `class_names`."""

import math
import zipfile
import zlib
from typing import Any, BinaryIO, Optional, Tuple, cast

import numpy as np

from ..io.arrays_file import read_header
from ..io.files import PathLike, open_regular
from .labels import check_labels, count_classes
from .picture import with_channels
from .pictures import Pictures

_MOST_BYTES = 1 << 33  # of its images in memory


class PictureArray(Pictures):
    """Images of one size in memory, their keys the places in their file."""

    what = "image"

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, classes: Tuple[str, ...], image_size: int
    ) -> None:
        super().__init__(np.arange(len(images)), labels, classes, image_size)
        self._images = images
        self.channels = images.shape[3]

    def read(self, index: int) -> np.ndarray:
        """An image, uint8 H×W×C."""
        return with_channels(self._images[self.indices[index]], self.channels)


def read_arrays(path: PathLike) -> Tuple[np.ndarray, np.ndarray, Tuple[str, ...]]:
    """Images, uint8 N×H×W×C, labels, int32 N, and the names of the classes.

    Raises
    ------
    ValueError
        The file is no `.npz` of these; the message says what is wrong.
    OSError
        It cannot be read.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            images, labels = (_member(archive, name) for name in ("images", "labels"))
            if "class_names.npy" in archive.namelist():
                names: Optional[np.ndarray] = _member(archive, "class_names")
            else:
                names = None
        return _checked(images, labels, names)
    except (zipfile.BadZipFile, zlib.error, EOFError, MemoryError, NotImplementedError) as error:
        raise ValueError(f"{path}: no .npz file, or damaged ({error})") from None
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    if f"{name}.npy" not in archive.namelist():
        raise ValueError(f"has no array {name!r}; it needs images and labels")
    with archive.open(f"{name}.npy") as file:
        shape, _, dtype = read_header(cast(BinaryIO, file))
        if dtype.hasobject:
            raise ValueError(f"{name} has Python objects: save it with a plain type")
        if math.prod(shape) * dtype.itemsize > _MOST_BYTES:
            raise ValueError(
                f"{name} takes more than {_MOST_BYTES >> 30} GB: make a folder of classes, or "
                "records with tools/prepare_data.py"
            )
    with archive.open(f"{name}.npy") as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return array


def _checked(
    images: np.ndarray, labels: np.ndarray, names: Optional[np.ndarray]
) -> Tuple[np.ndarray, np.ndarray, Tuple[str, ...]]:
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(
            f"images must be uint8 of N×H×W or N×H×W×3, got {images.dtype} {images.shape}"
        )
    if 0 in images.shape:
        raise ValueError(f"images must have pixels, got {images.shape}")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iuf":
        raise ValueError(f"labels must be {len(images)} numbers, got {labels.dtype} {labels.shape}")
    classes: Optional[Tuple[str, ...]] = None
    if names is not None:
        classes = tuple(_text(name) for name in np.ravel(names))
        if len(classes) < 2 or len(set(classes)) < len(classes):
            raise ValueError("class_names must name at least 2 different classes")
    checked = check_labels(
        labels, None if classes is None else len(classes), lambda index: f"image {index}"
    )
    if classes is None:
        classes = tuple(str(number) for number in range(count_classes(checked)))
    return images, checked, classes


def _text(name: Any) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)


def hold_out(labels: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """The indices that are trained, and every fifth of each class, that are tested on."""
    generator = np.random.Generator(np.random.Philox(key=0))
    test = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            raise ValueError(f"class {label} has one image, and none to test on")
        test.append(members[: max(1, len(members) // 5)])
    tested = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(len(labels)), tested), tested
