"""Options of ImageNet, and what they ask for: records, their parts, batches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Sequence, Set, Tuple, Union

import numpy as np

from ..data import DataSet
from ..data.imagenet import (
    MEAN,
    NUM_TRAIN,
    STD,
    ImageNetAugmentation,
)
from ..data.loader import Loader, RecordLoader, split
from ..data.records import Records
from ..io.files import atomic
from ..space.architecture import Architecture
from ..space.mobile import STRIDES, MobileSpace
from ..space.mobile_architecture import AnyArchitecture, MobileArchitecture
from ..space.normal import SearchSpace, parse_blocks
from .options import RecordOptions

if TYPE_CHECKING:
    from ..runs.folder import Run

PARTS = ("weights.lst", "lambdas.lst")  # of the samples of a search, in its run folder


def data_set(data: RecordOptions) -> DataSet:
    """What is known of the data before it is there."""
    classes = tuple(str(number) for number in range(data.num_classes))
    number = data.num_samples or NUM_TRAIN
    return DataSet(number, data.image_size, len(MEAN), classes, MEAN, STD, 0, 0)


def space_of(options: Any) -> Union[SearchSpace, MobileSpace]:
    """The space of the normal setting, or of the mobile setting, which takes no others' options."""
    images = {"num_classes": options.data.num_classes, "image_size": options.data.image_size}
    given, setting = options.space, options.setting
    if setting.is_normal:
        return SearchSpace.imagenet(**given.fields(4, "2,2,13,6"), **images)
    for name in ("scope", "levels", "operations", "width"):
        if name in options.given:
            raise ValueError(
                f"`{name}` is for the normal setting, not for {setting.space}: leave it out"
            )
    blocks = None if given.blocks is None else parse_blocks(given.blocks, len(STRIDES))
    return MobileSpace.skeleton(setting.space, given.width_multiplier, blocks, **images)


def complete(space: Union[SearchSpace, MobileSpace], origin: Mapping[str, Any]) -> AnyArchitecture:
    """All of a space, of either setting."""
    if isinstance(space, SearchSpace):
        return Architecture.complete(space, origin)
    return MobileArchitecture.complete(space, origin)


def records(data: RecordOptions, train: bool) -> Records:
    """The training or the validation images."""
    path = data.data_train if train else data.data_val
    if path is None and data.data_dir is not None:
        path = str(Path(data.data_dir) / ("train.rec" if train else "val.rec"))
    if path is None:
        raise ValueError(
            "ImageNet needs --data-dir, the folder of train.rec and val.rec that MXNet's im2rec "
            "makes of the images, or --data-train and --data-val"
        )
    return Records(Path(path), data.num_classes, data.image_size, data.threads)


def train_loaders(data: RecordOptions, parts: Optional[Sequence[int]] = None) -> List[Loader]:
    """Batches of the training images, or of each part of them; no image is in two parts."""
    images = records(data, train=True)
    if (data.num_samples or 0) > len(images):
        raise ValueError(
            f"{images.path} has {len(images):,} records that can be found, not "
            f"{data.num_samples:,}: give --num-samples {len(images)} or less"
        )
    pieces = split(data.num_samples, images.labels, parts or (1,), data.seed)
    augment = ImageNetAugmentation(data.image_size, threads=data.threads)
    return [
        RecordLoader(images, part, data.batch_size, augment, data.seed, stream=stream)
        for stream, part in enumerate(pieces)
    ]


def test_loader(data: RecordOptions) -> Loader:
    """Batches of all validation images."""
    augment = ImageNetAugmentation(data.image_size, threads=data.threads).plain()
    images = records(data, train=False)
    return Loader(images, None, data.batch_size, augment, shuffle=False, drop_last=False)


def write_parts(run: Run, loaders: Sequence[Loader]) -> None:
    """Write which records, if it has any, each part of a search has, as im2rec's lists: key,
    label, file.
    """
    for name, loader in zip(PARTS, loaders):
        images = loader.images
        if not isinstance(images, Records):
            continue
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
