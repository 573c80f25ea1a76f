"""Images to search and train on: data sets in memory, augmentation, batches."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, NamedTuple, Optional, Tuple

from . import cifar, fashion_mnist
from .images import Images

__all__ = ["DATA_SETS", "DataSet", "Images", "load", "load_parts"]

EMBEDDED = "fashion_mnist"
PARTS = ("train1.rec", "train2.rec")  # files of the samples for weights and for λ


class DataSet(NamedTuple):
    """What is known of a data set before it is there, and how its images are prepared.

    Attributes
    ----------
    mean, std, pad, fill
        See `Augmentation`.
    """

    num_train: int
    image_size: int
    channels: int
    classes: Tuple[str, ...]
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    pad: int
    fill: int

    def images(self) -> Dict[str, int]:
        """Classes, channels and side, as a search space has them."""
        return {
            "num_classes": len(self.classes),
            "in_channels": self.channels,
            "image_size": self.image_size,
        }


DATA_SETS = {
    "cifar10": DataSet(50_000, 32, 3, cifar.CLASSES, cifar.MEAN, cifar.STD, 4, 127),
    "cifar100": DataSet(50_000, 32, 3, cifar.CLASSES_100, cifar.MEAN_100, cifar.STD_100, 4, 127),
    # The background is black, and a garment is not moved far.
    "fashion_mnist": DataSet(
        6_000, 28, 1, fashion_mnist.CLASSES, fashion_mnist.MEAN, fashion_mnist.STD, 2, 0
    ),
}


def load(name: str, data_dir: Optional[str] = None, train: bool = True) -> Images:
    """The training or test half of one of `DATA_SETS`; Fashion-MNIST is embedded."""
    check_source(name, data_dir)
    return fashion_mnist.load(train) if name == EMBEDDED else cifar.load(data_dir, train, name)


def load_parts(name: str, folder: str) -> Tuple[Images, Images]:
    """The training images for weights, ``train1.rec`` of a folder, and for λ, ``train2.rec``."""
    check_parts(name, folder)
    first, second = (cifar.load_records(Path(folder) / part, name) for part in PARTS)
    return first, second


def check_source(name: str, data_dir: Optional[str]) -> None:
    """Refuse an unknown data set, and a folder of one that has none."""
    _check(name)
    if name == EMBEDDED and data_dir:
        raise ValueError("fashion_mnist is embedded: leave out `data_dir`, or give `data_set`")


def check_parts(name: str, folder: str) -> None:
    """Refuse a folder without the two files of `load_parts`."""
    _check(name)
    if name == EMBEDDED:
        raise ValueError("fashion_mnist is embedded and has no files: leave out `split_files`")
    for part in PARTS:
        if not (Path(folder) / part).is_file():
            raise FileNotFoundError(
                f"{Path(folder) / part}: not there; make it with tools/prepare_data.py {name}"
            )


def _check(name: str) -> None:
    if name not in DATA_SETS:
        raise ValueError(f"data set must be {', '.join(DATA_SETS)}, got {name}")
