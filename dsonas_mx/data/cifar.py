"""CIFAR-10 (Krizhevsky 2009) from its python or binary version, or from RecordIO."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Tuple, Union

import numpy as np
from tqdm import tqdm

from . import recordio, restricted_pickle
from .images import Images

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
# What the authors' release uses; they are CIFAR-100's.
RELEASE_MEAN = (0.5071, 0.4867, 0.4408)
RELEASE_STD = (0.2675, 0.2565, 0.2761)

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_OFFICIAL = 10000  # images in each file of the original
_ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
_GET = f"get {_ARCHIVES[0]} from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it there"
_AGAIN = "copy or unpack the original again"

Arrays = Tuple[np.ndarray, np.ndarray]


class _Layout(NamedTuple):
    folder: str  # that its archive unpacks to
    train: Tuple[str, ...]
    test: Tuple[str, ...]
    read: Callable[[Path], Arrays]


def load(data_dir: Optional[Union[str, Path]], train: bool = True) -> Images:
    """The 50,000 training or the 10,000 test images, N×32×32×3, RGB.

    Parameters
    ----------
    data_dir : str or Path
        A folder with `data_batch_1` … `data_batch_5` and `test_batch` (python version), the same
        with `.bin` (binary version), or `train.rec` and `val.rec` (with their `.idx`, if there);
        or the folder in which the archive was unpacked.
    train : bool
        Which half.

    Raises
    ------
    FileNotFoundError
        No data, or a file of it, is there; the message says which and what to do.
    ValueError
        A file is truncated, corrupt or not CIFAR-10.
    """
    if not data_dir:
        raise ValueError(f"CIFAR-10 needs --data-dir, the folder that holds it; {_GET}")
    folder, layout = _find(Path(data_dir))
    _check_sizes(folder, layout)
    parts = [_read(layout, folder / name) for name in (layout.train if train else layout.test)]
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    return Images(images, labels, CLASSES)


def _find(data_dir: Path) -> Tuple[Path, _Layout]:
    if not data_dir.is_dir():
        raise FileNotFoundError(f"--data-dir {data_dir}: no such folder; {_GET}")
    missing: List[Path] = []
    for layout in (_PYTHON, _BINARY, _RECORDS):
        for folder in (data_dir, data_dir / layout.folder):
            files = [folder / name for name in layout.train + layout.test]
            absent = [file for file in files if not file.is_file()]
            if not absent:
                return folder, layout
            if len(absent) < len(files) and not missing:
                missing = absent
    # Both halves must be there even if one is wanted: they are not mixed from two versions.
    if missing:
        raise FileNotFoundError(f"{missing[0]}: not there, though files beside it are; {_AGAIN}")
    for archive in _ARCHIVES:
        if (data_dir / archive).is_file():
            raise FileNotFoundError(
                f"--data-dir {data_dir}: {archive} is not unpacked; run tar xzf {archive} there"
            )
    raise FileNotFoundError(
        f"--data-dir {data_dir}: no data_batch_1, data_batch_1.bin or train.rec; {_GET}"
    )


def _check_sizes(folder: Path, layout: _Layout) -> None:
    # The binary version has no end mark: half a file can look whole, except beside the others.
    if layout is not _BINARY:
        return
    sizes = {name: (folder / name).stat().st_size for name in layout.train + layout.test}
    largest = max(sizes[name] for name in layout.train)
    # In somebody's own, smaller set the test half may have any size.
    official = largest == _OFFICIAL * (1 + _PIXELS)
    for name in layout.train + (layout.test if official else ()):
        if sizes[name] != largest:
            raise ValueError(
                f"{folder / name}: has {sizes[name]:,} bytes where {largest:,} are expected "
                f"as in the others; the file is truncated, {_AGAIN}"
            )


def _read(layout: _Layout, path: Path) -> Arrays:
    try:
        return layout.read(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); {_AGAIN}") from None


def _read_python(path: Path) -> Arrays:
    try:
        batch = restricted_pickle.load(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}; {_AGAIN}") from None
    pixels, labels = batch.get("data"), batch.get("labels")
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise ValueError(f"{path}: 'data' is not an array of N×{_PIXELS}; {_AGAIN}")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError(f"{path}: 'labels' is not a list of numbers; {_AGAIN}")
    if len(labels) != len(pixels):
        raise ValueError(f"{path}: {len(pixels)} images but {len(labels)} labels; {_AGAIN}")
    return _channels_last(pixels), _check_labels(np.array(labels), path)


def _read_binary(path: Path) -> Arrays:
    data = np.fromfile(path, np.uint8)
    if len(data) % (1 + _PIXELS):
        raise ValueError(
            f"{path}: has {len(data):,} bytes, not a multiple of {1 + _PIXELS}; "
            f"the file is truncated, {_AGAIN}"
        )
    rows = data.reshape(-1, 1 + _PIXELS)
    return _channels_last(rows[:, 1:]), _check_labels(rows[:, 0], path)


def _channels_last(pixels: np.ndarray) -> np.ndarray:
    planes = pixels.reshape(-1, 3, _SIDE, _SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _read_records(path: Path) -> Arrays:
    records = list(recordio.read(path))
    index = path.with_suffix(".idx")
    # A file that is cut between two records can only be noticed by its index.
    if index.is_file() and recordio.read_index(index) != [record.offset for record in records]:
        raise ValueError(
            f"{path}: its {len(records)} records are not those that {index.name} lists; "
            "one of them is truncated or of another data set, copy both again"
        )
    images = np.empty((len(records), _SIDE, _SIDE, 3), np.uint8)
    # None: no bar where the output is not a terminal.
    bar = tqdm(records, f"decoding {path.name}", unit="image", leave=False, disable=None)
    for number, record in enumerate(bar):
        images[number] = _decode(record, path)
    return images, _check_labels(np.array([record.label for record in records]), path)


def _decode(record: recordio.Record, path: Path) -> np.ndarray:
    import cv2  # here, so that the other versions load where its system libraries lack

    place = f"{path}: the image of the record at byte {record.offset}"
    # The decoder fills what is missing of a JPEG with grey and returns it.
    cut = record.image[:2] == b"\xff\xd8" and b"\xff\xd9" not in record.image[-32:]
    try:
        image = None if cut else cv2.imdecode(np.frombuffer(record.image, np.uint8), 1)
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f"{place} is truncated or corrupt; copy or make the file again")
    if image.shape != (_SIDE, _SIDE, 3):
        height, width = image.shape[:2]
        raise ValueError(f"{place} is {height}×{width}, not {_SIDE}×{_SIDE}: not CIFAR-10")
    return image[..., ::-1]


def _check_labels(labels: np.ndarray, path: Path) -> np.ndarray:
    if not len(labels):
        raise ValueError(f"{path}: holds no images; {_AGAIN}")
    wrong = ~np.isin(labels, np.arange(len(CLASSES)))
    if wrong.any():
        number = int(wrong.argmax())
        raise ValueError(
            f"{path}: image {number} has label {labels[number]:g}, not 0 to {len(CLASSES) - 1}; "
            "the file is corrupt or not CIFAR-10"
        )
    return labels.astype(np.int32)


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_PYTHON = _Layout("cifar-10-batches-py", _BATCHES, ("test_batch",), _read_python)
_BINARY = _Layout(
    "cifar-10-batches-bin",
    tuple(f"{name}.bin" for name in _BATCHES),
    ("test_batch.bin",),
    _read_binary,
)
_RECORDS = _Layout("", ("train.rec",), ("val.rec",), _read_records)
