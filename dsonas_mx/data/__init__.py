"""Images to search and train on: data sets in memory, augmentation, batches."""

from __future__ import annotations

from typing import Optional

from . import cifar, fashion_mnist
from .images import Images

__all__ = ["Images", "load"]


def load(name: str, data_dir: Optional[str] = None, train: bool = True) -> Images:
    """The training or test half of a data set, `'cifar10'` or `'fashion_mnist'` (embedded)."""
    if name == "cifar10":
        return cifar.load(data_dir, train)
    if name == "fashion_mnist":
        return fashion_mnist.load(train)
    raise ValueError(f"data set must be cifar10 or fashion_mnist, got {name}")
