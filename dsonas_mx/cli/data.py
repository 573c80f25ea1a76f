"""The images in memory that options ask for."""

from __future__ import annotations

from typing import List, Optional, Tuple

import numpy as np

from ..data import DATA_SETS, check_parts, cifar, load, load_parts
from ..data.augment import Augmentation
from ..data.images import Images
from ..data.loader import Loader, split
from ..search.options import Split
from .options import ImageOptions


def load_images(
    data: ImageOptions, cutout: int = 0, validation: int = 0
) -> Tuple[Images, Images, Augmentation]:
    """Training images, test images, and the training augmentation of their data set.

    With `validation`, so many training images are taken out and returned instead of the test
    images: every class alike, and always the same ones.
    """
    train, test = (load(data.data_set, data.data_dir, half) for half in (True, False))
    if validation:
        parts = split(None, train.labels, (left(len(train), validation), validation))
        train, test = (Images(train.images[p], train.labels[p], train.classes) for p in parts)
    return train, test, augmentation(data, cutout)


def fit_loaders(data: ImageOptions, cutout: int, validation: int) -> Tuple[Loader, Loader]:
    """Batches to train and to test on."""
    train, test, augment = load_images(data, cutout, validation)
    size = data.batch_size
    return (
        Loader(train, None, size, augment, data.seed),
        Loader(test, None, size, augment.plain(), shuffle=False, drop_last=False),
    )


def search_loaders(data: ImageOptions, parts: Split, files: Optional[str]) -> List[Loader]:
    """Batches for weights and, with a split, for λ."""
    augment = augmentation(data)
    return [
        Loader(images, part, data.batch_size, augment, data.seed, stream=stream)
        for stream, (images, part) in enumerate(load_search_images(data, parts, files))
    ]


def left(num_train: int, validation: int) -> int:
    """How many of so many training images are left without those of the validation."""
    if not 0 <= validation < num_train:
        raise ValueError(f"`validation` must be from 0 to {num_train - 1}, got {validation}")
    return num_train - validation


def load_search_images(
    data: ImageOptions, parts: Split, files: Optional[str] = None
) -> List[Tuple[Images, Optional[np.ndarray]]]:
    """For weights and, with a split, for λ: images, and which of them.

    Those of a folder of `files` are all of their file; else `parts` divide the training images.
    """
    if files is None:
        images = load(data.data_set, data.data_dir)
        return [(images, part) for part in split(None, images.labels, parts or (1,), data.seed)]
    assert parts is not None  # see check_split_files
    both = load_parts(data.data_set, files)
    counts = [len(images) for images in both]
    expected = sum(counts) * parts[0] / sum(parts)
    if abs(counts[0] - expected) > len(both[0].classes):  # a split may round in every class
        raise ValueError(
            f"--split-files {files}: {counts[0]:,} and {counts[1]:,} images are not "
            f"{parts[0]}:{parts[1]}: give their ratio as --split"
        )
    return [(images, None) for images in both]


def check_split_files(data: ImageOptions, parts: Split, files: Optional[str]) -> None:
    """Refuse a folder of `files` beside what contradicts it, or without its files."""
    if files is None:
        return
    if parts is None:
        raise ValueError("--split none takes no --split-files: leave out one of the two")
    if data.data_dir is not None:
        raise ValueError("--split-files has all images of a search: leave out --data-dir")
    check_parts(data.data_set, files)


def augmentation(data: ImageOptions, cutout: int = 0) -> Augmentation:
    """The training augmentation of the data set."""
    known = DATA_SETS[data.data_set]
    mean, std = known.mean, known.std
    if data.normalize == "release":
        mean, std = cifar.RELEASE_MEAN, cifar.RELEASE_STD
    return Augmentation(mean, std, pad=known.pad, fill=known.fill, cutout=cutout)
