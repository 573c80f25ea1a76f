"""Options of data, and the images that they ask for."""

from __future__ import annotations

import argparse
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from ..data import DATA_SETS, check_parts, cifar, load, load_parts
from ..data.augment import Augmentation
from ..data.images import Images
from ..data.loader import split


def add_data(parser: argparse.ArgumentParser) -> None:
    """`--data-set`, `--data-dir`, `--normalize`, `--demo`, `--batch-size`, `--seed`."""
    group = parser.add_argument_group("data")
    group.add_argument("--data-set", choices=tuple(DATA_SETS), default="cifar10")
    group.add_argument(
        "--data-dir",
        help="CIFAR as python batches, binary files, or train.rec and val.rec",
    )
    group.add_argument(
        "--normalize",
        choices=("own", "release"),
        default="own",
        help="mean and standard deviation: the data set's own, or those of the authors' release",
    )
    group.add_argument(
        "--demo",
        action="store_true",
        help="a small setting on the embedded Fashion-MNIST; options that are given win over it",
    )
    group.add_argument("--batch-size", type=int, default=128, help="in all, over all devices")
    group.add_argument("--seed", type=int, default=0, help="same seed, same result, on the CPU")


def data_set(options: argparse.Namespace) -> str:
    """The name of the data set, as `dsonas_mx.data.load` knows it."""
    return options.data_set


def origin(options: argparse.Namespace) -> Dict[str, Any]:
    """What decides a result: the data set and the options, without files, folders and devices."""
    elsewhere = set(
        "data_set data_dir split_files architecture like latency_table save_dir gpus cpus kv_store "
        "demo pretrained backbone workers eval pictures mirror dry_run resume resume_from "
        "checkpoint_minutes on_nan data_train data_val threads tensorboard log_format".split()
    )
    kept = {name: value for name, value in vars(options).items() if name not in elsewhere}
    return {"data": data_set(options), **kept}


def parse_split(text: str) -> Optional[Tuple[int, int]]:
    """'4:1' → (4, 1); 'none' → None."""
    if text == "none":
        return None
    try:
        weights, lambdas = (int(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"--split must be as 4:1, or none, got {text!r}") from None
    return weights, lambdas


def load_images(
    options: argparse.Namespace, cutout: int = 0, validation: int = 0
) -> Tuple[Images, Images, Augmentation]:
    """Training images, test images, and the training augmentation of their data set.

    With `validation`, so many training images are taken out and returned instead of the test
    images: every class alike, and always the same ones.
    """
    train, test = (load(data_set(options), options.data_dir, half) for half in (True, False))
    if validation:
        parts = split(None, train.labels, (left(len(train), validation), validation))
        train, test = (Images(train.images[p], train.labels[p], train.classes) for p in parts)
    return train, test, augmentation(options, cutout)


def left(num_train: int, validation: int) -> int:
    """How many of so many training images are left without those of `--validation`."""
    if not 0 <= validation < num_train:
        raise ValueError(f"--validation must be from 0 to {num_train - 1}, got {validation}")
    return num_train - validation


def load_search_images(
    options: argparse.Namespace, parts: Optional[Tuple[int, int]]
) -> List[Tuple[Images, Optional[np.ndarray]]]:
    """For weights and, with a split, for λ: images, and which of them.

    Those of `--split-files` are all of their file; else `--split` divides the training images.
    """
    if options.split_files is None:
        images = load(data_set(options), options.data_dir)
        return [(images, part) for part in split(None, images.labels, parts or (1,), options.seed)]
    assert parts is not None  # see check_split_files
    files = load_parts(data_set(options), options.split_files)
    counts = [len(images) for images in files]
    expected = sum(counts) * parts[0] / sum(parts)
    if abs(counts[0] - expected) > len(files[0].classes):  # a split may round in every class
        raise ValueError(
            f"--split-files {options.split_files}: {counts[0]:,} and {counts[1]:,} images are not "
            f"{parts[0]}:{parts[1]}: give their ratio as --split"
        )
    return [(images, None) for images in files]


def check_split_files(options: argparse.Namespace) -> None:
    """Refuse `--split-files` beside what contradicts it, or without its files."""
    if parse_split(options.split) is None:
        raise ValueError("--split none takes no --split-files: leave out one of the two")
    if options.data_dir is not None:
        raise ValueError("--split-files has all images of a search: leave out --data-dir")
    check_parts(data_set(options), options.split_files)


def augmentation(options: argparse.Namespace, cutout: int = 0) -> Augmentation:
    """The training augmentation of the data set."""
    data = DATA_SETS[data_set(options)]
    mean, std = data.mean, data.std
    if options.normalize == "release":
        if data.channels != len(cifar.RELEASE_MEAN):
            raise ValueError("--normalize release is for CIFAR: leave it out")
        mean, std = cifar.RELEASE_MEAN, cifar.RELEASE_STD
    return Augmentation(mean, std, pad=data.pad, fill=data.fill, cutout=cutout)
