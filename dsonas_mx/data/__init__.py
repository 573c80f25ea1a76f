"""Images to search and train on: data sets in memory, augmentation, batches."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from . import cifar, fashion_mnist
from .images import Images

__all__ = ["DATA_SETS", "DataSet", "Images", "load"]


class DataSet(NamedTuple):
    """What is known of a data set before it is there."""

    num_train: int
    image_size: int
    channels: int
    classes: Tuple[str, ...]


DATA_SETS = {
    "cifar10": DataSet(50_000, 32, 3, cifar.CLASSES),
    "fashion_mnist": DataSet(6_000, 28, 1, fashion_mnist.CLASSES),
}


def load(name: str, data_dir: Optional[str] = None, train: bool = True) -> Images:
    """The training or test half of a data set, `'cifar10'` or `'fashion_mnist'` (embedded)."""
    if name == "cifar10":
        return cifar.load(data_dir, train)
    if name == "fashion_mnist":
        return fashion_mnist.load(train)
    raise ValueError(f"data set must be cifar10 or fashion_mnist, got {name}")
