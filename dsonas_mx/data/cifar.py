"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), python or binary version or RecordIO."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Tuple, Union

import numpy as np
from tqdm import tqdm

from ..io.files import read_regular
from . import recordio, restricted_pickle
from .images import Images
from .labels import check_labels
from .picture import decode
from .registry import DATA_SETS

_MOST_BYTES = 2**32

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
OFFICIAL = 10000  # images of the test half
_URL = "https://www.cs.toronto.edu/~kriz/cifar.html"
_AGAIN = "copy or unpack the original again"

Arrays = Tuple[np.ndarray, np.ndarray]


class _Layout(NamedTuple):
    folder: str  # that its archive unpacks to
    train: Tuple[str, ...]
    test: Tuple[str, ...]
    read: Callable[[Path, _Variant], Arrays]


class _Variant(NamedTuple):
    title: str
    archive: str  # what the names of its archives begin with
    classes: Tuple[str, ...]
    labels: str  # their name in the python version
    label_bytes: int  # before an image in the binary version; the last is the label
    layouts: Tuple[_Layout, ...]

    @property
    def archives(self) -> Tuple[str, str]:
        return f"{self.archive}-python.tar.gz", f"{self.archive}-binary.tar.gz"

    @property
    def get(self) -> str:
        return f"get {self.archives[0]} from {_URL} and unpack it there"

    @property
    def row(self) -> int:
        """Bytes of an image in the binary version."""
        return self.label_bytes + _PIXELS


def load_cifar(
    data_dir: Optional[Union[str, Path]], train: bool = True, name: str = "cifar10"
) -> Images:
    """The 50,000 training or the 10,000 test images, N×32×32×3, RGB.

    Parameters
    ----------
    data_dir : str or Path
        A folder with the files of the python version (`data_batch_1` … and `test_batch`, or `train`
        and `test` for CIFAR-100) or of the binary version (the same with `.bin`), or `train.rec`
        and `val.rec` (with their `.idx`, if there); or the folder in which the archive was
        unpacked.
    train : bool
        Which half.
    name : {'cifar10', 'cifar100'}
        The latter with its 100 fine labels.

    Raises
    ------
    FileNotFoundError
        No data, or a file of it, is there; the message says which and what to do.
    ValueError
        A file is truncated, corrupt or of something else.
    """
    variant = _VARIANTS[name]
    if not data_dir:
        raise ValueError(
            f"{variant.title} needs `data_dir`, the folder that holds it; {variant.get}"
        )
    folder, layout = _find(Path(data_dir), variant)
    _check_sizes(folder, layout, variant)
    names = layout.train if train else layout.test
    parts = [_read(layout, folder / name, variant) for name in names]
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    if train and labels.max() < 10 < len(variant.classes):
        raise ValueError(f"{folder}: no label is above 9: this is CIFAR-10, not {variant.title}")
    return Images(images, labels, variant.classes)


def load_cifar_records(path: Path, name: str = "cifar10") -> Images:
    """The images of one RecordIO file, such as a part of the training images."""
    variant = _VARIANTS[name]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there; make it with tools/prepare_data.py {name}")
    return Images(*_read(variant.layouts[-1], path, variant), variant.classes)


def _find(data_dir: Path, variant: _Variant) -> Tuple[Path, _Layout]:
    if not data_dir.is_dir():
        raise FileNotFoundError(f"{data_dir}: no such folder; {variant.get}")
    missing: List[Path] = []
    for layout in variant.layouts:
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
    for archive in variant.archives:
        if (data_dir / archive).is_file():
            raise FileNotFoundError(
                f"{data_dir}: {archive} is not unpacked; run tar xzf {archive} there"
            )
    names = [layout.train[0] for layout in variant.layouts]
    raise FileNotFoundError(f"{data_dir}: no {', '.join(names[:-1])} or {names[-1]}; {variant.get}")


def _check_sizes(folder: Path, layout: _Layout, variant: _Variant) -> None:
    # The binary version has no end mark: half a file can look whole, except beside the others.
    if layout.read is not _read_binary:
        return
    sizes = {name: (folder / name).stat().st_size for name in layout.train + layout.test}
    images = dict.fromkeys(layout.train, 5 * OFFICIAL // len(layout.train))
    images.update(dict.fromkeys(layout.test, OFFICIAL))
    expected = {name: count * variant.row for name, count in images.items()}
    if not any(sizes[name] == expected[name] for name in sizes):
        # In somebody's own, smaller set the test half may have any size.
        expected = dict.fromkeys(layout.train, max(sizes[name] for name in layout.train))
    for name, size in expected.items():
        if sizes[name] != size:
            raise ValueError(
                f"{folder / name}: has {sizes[name]:,} bytes where {size:,} are expected "
                f"as in the others; the file is truncated, {_AGAIN}"
            )


def _read(layout: _Layout, path: Path, variant: _Variant) -> Arrays:
    try:
        return layout.read(path, variant)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); {_AGAIN}") from None


def _read_python(path: Path, variant: _Variant) -> Arrays:
    try:
        batch = restricted_pickle.loads(read_regular(path, _MOST_BYTES))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; {_AGAIN}") from None
    pixels, labels = batch.get("data"), batch.get(variant.labels)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        raise ValueError(f"{path}: 'data' is not an array of uint8; {_AGAIN}")
    if pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise ValueError(f"{path}: 'data' is not an array of N×{_PIXELS}; {_AGAIN}")
    if isinstance(labels, list) and all(type(label) is int for label in labels):
        labels = np.array(labels, np.int64)
    if not isinstance(labels, np.ndarray) or labels.ndim != 1:
        raise ValueError(f"{path}: '{variant.labels}' is not a list of whole numbers; {_AGAIN}")
    if len(labels) != len(pixels):
        raise ValueError(f"{path}: {len(pixels)} images but {len(labels)} labels; {_AGAIN}")
    return _channels_last(pixels), _check_labels(labels, path, variant)


def _read_binary(path: Path, variant: _Variant) -> Arrays:
    data = np.frombuffer(read_regular(path, _MOST_BYTES), np.uint8)
    if len(data) % variant.row:
        raise ValueError(
            f"{path}: has {len(data):,} bytes, not a multiple of {variant.row}; "
            f"the file is truncated, {_AGAIN}"
        )
    rows = data.reshape(-1, variant.row)
    labels = rows[:, variant.label_bytes - 1]
    return _channels_last(rows[:, variant.label_bytes :]), _check_labels(labels, path, variant)


def _channels_last(pixels: np.ndarray) -> np.ndarray:
    planes = pixels.reshape(-1, 3, _SIDE, _SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _read_records(path: Path, variant: _Variant) -> Arrays:
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
        if record.num_labels > 1:
            raise ValueError(
                f"{path}: the record at byte {record.offset} has {record.num_labels} labels, not "
                f"one; it is not {variant.title}"
            )
        images[number] = _decode(record, path, variant)
    labels = np.array([record.label for record in records])
    return images, _check_labels(labels, path, variant)


def _decode(record: recordio.Record, path: Path, variant: _Variant) -> np.ndarray:
    place = f"{path}: the image of the record at byte {record.offset}"
    try:
        image = decode(record.image)
    except ValueError as error:
        raise ValueError(f"{place} is {error}; copy or make the file again") from None
    if image.shape != (_SIDE, _SIDE, 3):
        height, width = image.shape[:2]
        raise ValueError(f"{place} is {height}×{width}, not {_SIDE}×{_SIDE}: not {variant.title}")
    return image


def _check_labels(labels: np.ndarray, path: Path, variant: _Variant) -> np.ndarray:
    if not len(labels):
        raise ValueError(f"{path}: holds no images; {_AGAIN}")
    try:
        return check_labels(labels, len(variant.classes), lambda number: f"image {number}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}; the file is corrupt or not {variant.title}") from None


_RECORDS = _Layout("", ("train.rec",), ("val.rec",), _read_records)
_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_BINARIES = tuple(f"{name}.bin" for name in _BATCHES)
_VARIANTS = {
    "cifar10": _Variant(
        "CIFAR-10",
        "cifar-10",
        DATA_SETS["cifar10"].classes,
        "labels",
        1,
        (
            _Layout("cifar-10-batches-py", _BATCHES, ("test_batch",), _read_python),
            _Layout("cifar-10-batches-bin", _BINARIES, ("test_batch.bin",), _read_binary),
            _RECORDS,
        ),
    ),
    "cifar100": _Variant(
        "CIFAR-100",
        "cifar-100",
        DATA_SETS["cifar100"].classes,
        "fine_labels",
        2,
        (
            _Layout("cifar-100-python", ("train",), ("test",), _read_python),
            _Layout("cifar-100-binary", ("train.bin",), ("test.bin",), _read_binary),
            _RECORDS,
        ),
    ),
}
