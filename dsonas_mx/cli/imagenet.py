"""Options of ImageNet, and what they ask for: records, their parts, batches."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Optional, Sequence, Set, Tuple

import numpy as np

from ..cost.width import Measure
from ..data import DataSet
from ..data.imagenet import (
    IMAGE_SIZE,
    MEAN,
    NUM_CLASSES,
    NUM_TRAIN,
    STD,
    ImageNetAugmentation,
)
from ..data.loader import Loader, RecordLoader, split
from ..data.records import Records
from ..io.files import atomic
from ..runs.folder import Run
from ..space.mobile_architecture import AnyArchitecture, MobileArchitecture, load_architecture
from ..space.normal import SearchSpace
from .network import load_network

PARTS = ("weights.lst", "lambdas.lst")  # of the samples of a search, in its run folder


def add_imagenet(parser: argparse.ArgumentParser, batch_size: int) -> None:
    """`--data-dir`, …, `--small`, `--batch-size`, `--seed`."""
    parser.set_defaults(data_set="imagenet")
    group = parser.add_argument_group("data")
    group.add_argument("--data-dir", help="has train.rec and val.rec of MXNet's im2rec, with .idx")
    group.add_argument("--data-train", metavar="FILE", help="instead of train.rec in --data-dir")
    group.add_argument("--data-val", metavar="FILE", help="instead of val.rec in --data-dir")
    group.add_argument("--num-classes", type=int, default=NUM_CLASSES)
    group.add_argument("--image-size", type=int, default=IMAGE_SIZE, help="side of the crops")
    group.add_argument("--num-samples", type=int, help="of the training images, classes alike")
    group.add_argument("--threads", type=int, default=4, help="that decode and augment images")
    group.add_argument(
        "--small",
        dest="demo",
        action="store_true",
        help="a small setting of any records; options that are given win over it",
    )
    group.add_argument(
        "--batch-size", type=int, default=batch_size, help="in all, over all devices"
    )
    group.add_argument("--seed", type=int, default=0, help="same seed, same result, on the CPU")


def imagenet(options: argparse.Namespace) -> DataSet:
    """What is known of the data before it is there."""
    classes = tuple(str(number) for number in range(options.num_classes))
    number = options.num_samples or NUM_TRAIN
    return DataSet(number, options.image_size, len(MEAN), classes, MEAN, STD, 0, 0)


def load_imagenet_network(options: argparse.Namespace, latency: Measure) -> AnyArchitecture:
    """The architecture that the options ask for, of the normal or of the mobile setting."""
    data = imagenet(options)
    if options.architecture:
        found = load_architecture(options.architecture)
        if isinstance(found, MobileArchitecture):
            for name in (
                "width",
                "target_params",
                "target_flops",
                "target_latency",
                "divisor",
                "blocks",
                "like",
            ):
                if getattr(options, name) is not None:
                    raise ValueError(
                        f"--{name.replace('_', '-')} is not for the mobile setting, whose "
                        "skeleton is fixed: leave it out"
                    )
            return found.with_space(
                num_classes=len(data.classes), in_channels=data.channels, image_size=data.image_size
            )
    return load_network(options, SearchSpace.imagenet(), data, latency)


def records(options: argparse.Namespace, train: bool) -> Records:
    """The training or the validation images."""
    given = options.data_train if train else options.data_val
    name = "train.rec" if train else "val.rec"
    if given is None and options.data_dir is None:
        raise ValueError(
            "ImageNet needs --data-dir, the folder of train.rec and val.rec that MXNet's im2rec "
            "makes of the images, or --data-train and --data-val"
        )
    path = Path(given or Path(options.data_dir) / name)
    return Records(path, options.num_classes, options.image_size, options.threads)


def train_loaders(
    options: argparse.Namespace, parts: Optional[Sequence[int]] = None
) -> List[Loader]:
    """Batches of the training images, or of each part of them; no image is in two parts."""
    images = records(options, train=True)
    if (options.num_samples or 0) > len(images):
        raise ValueError(
            f"{images.path} has {len(images):,} records that can be found, not "
            f"{options.num_samples:,}: give --num-samples {len(images)} or less"
        )
    pieces = split(options.num_samples, images.labels, parts or (1,), options.seed)
    augment = ImageNetAugmentation(options.image_size, threads=options.threads)
    return [
        RecordLoader(images, part, options.batch_size, augment, options.seed, stream=stream)
        for stream, part in enumerate(pieces)
    ]


def test_loader(options: argparse.Namespace) -> Loader:
    """Batches of all validation images."""
    augment = ImageNetAugmentation(options.image_size, threads=options.threads).plain()
    images = records(options, train=False)
    return Loader(images, None, options.batch_size, augment, shuffle=False, drop_last=False)


def write_parts(run: Run, loaders: Sequence[Loader]) -> None:
    """Write which records each part of a search has, as im2rec's lists: key, label, file."""
    for name, loader in zip(PARTS, loaders):
        images = loader.images
        assert isinstance(images, Records)
        rows = zip(images.keys[loader.indices].tolist(), images.labels[loader.indices].tolist())
        lines = [f"{key}\t{label:f}\t{images.path.name}\n" for key, label in rows]
        with atomic(run.folder / name) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")


class Skipped:
    """Logs the records that were skipped, each once; each worker those of its parts of batches."""

    def __init__(self, *loaders: Optional[Loader]) -> None:
        found = [loader.images for loader in loaders if loader is not None]
        self._records = {id(images): images for images in found if isinstance(images, Records)}
        self._known: Set[Tuple[int, int]] = set()

    def log(self, run: Run) -> None:
        """Those since the last call, and how many there are by now."""
        for number, images in self._records.items():
            if images.damaged:
                run.log(
                    f"{images.path}: its index was made again; no record can be read at byte "
                    f"{np.array2string(np.array(images.damaged), threshold=20, separator=', ')}"
                )
                images.damaged = []
            new = [key for key in sorted(images.skipped) if (number, key) not in self._known]
            self._known.update((number, key) for key in new)
            if new:
                examples = "; ".join(f"record {key}: {images.skipped[key]}" for key in new[:3])
                run.warn(
                    f"{images.path}: {len(images.skipped):,} records skipped; new are "
                    f"{np.array2string(np.array(new), threshold=20)}: {examples}"
                )
