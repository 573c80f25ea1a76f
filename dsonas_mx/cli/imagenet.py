"""Options of ImageNet, and what they ask for: records, their parts, batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ..data import DATA_SETS, DataSet
from ..data.imagenet import ImageNetAugmentation, mean_std_at
from ..data.loader import Loader, RecordLoader, split
from ..data.pictures import Pictures
from ..data.records import Records
from ..data.source import Source
from ..io.files import read_json, write_lines
from ..space.architecture import Architecture
from ..space.mobile import STRIDES, MobileSpace
from ..space.mobile_architecture import AnyArchitecture, MobileArchitecture
from ..space.normal import SearchSpace, parse_blocks
from .data_log import DATA
from .options import RecordOptions, Told

if TYPE_CHECKING:
    from ..runs.folder import Run

PARTS = ("weights.lst", "lambdas.lst")  # of the samples of a search, in its run folder


class Opened(NamedTuple):
    """Options whose `num_classes` is that of the data, and what is known of these.

    Attributes
    ----------
    options : Groups
    about : DataSet
        ImageNet in a dry run without data.
    train : Pictures or None
        All training pictures; None in such a dry run.
    source : Source or None
        Of own data that are no records.
    """

    options: Any
    about: DataSet
    train: Optional[Pictures]
    source: Optional[Source]

    @property
    def told(self) -> Told:
        """What a search and a training are told of it."""
        return Told(self.about.name, self.about, self.source)


def opened(options: Any) -> Opened:
    """The data that options ask for; see `Opened`."""
    data: RecordOptions = options.data
    known = replace(DATA_SETS["imagenet"], image_size=data.image_size)
    file, source = _file(data, train=True), data.source
    train: Optional[Pictures] = None
    if source is not None:
        about, train = source.about(data.image_size, known.resize), source.train
        if data.num_classes not in (None, len(about.classes)):
            raise ValueError(
                f"{data.data_dir} has {len(about.classes)} classes: leave out `num_classes`"
            )
    elif not options.memory.dry_run or (file is not None and file.is_file()):
        train = records(data, train=True)
        about = replace(known, classes=train.classes, num_train=len(train))
    elif data.num_classes is not None:
        about = replace(known, classes=tuple(str(n) for n in range(data.num_classes)))
    else:
        about = known
    about = replace(about, num_train=data.num_samples or about.num_train)
    return Opened(options.but("data", num_classes=len(about.classes)), about, train, source)


def _file(data: RecordOptions, train: bool) -> Optional[Path]:
    path = data.data_train if train else data.data_val
    if path is None and data.data_dir is not None:
        path = str(Path(data.data_dir) / ("train.rec" if train else "val.rec"))
    return None if path is None else Path(path)


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
    path = _file(data, train)
    if path is None:
        raise ValueError(
            "ImageNet needs --data-dir, the folder of train.rec and val.rec, or a folder with a "
            "folder a class; or --data-train and --data-val"
        )
    return Records(path, data.num_classes, data.image_size, data.threads)


def augmentation(data: Opened) -> ImageNetAugmentation:
    """That of training; mean and deviation of own data are those of the run that goes on, if it has
    them, or measured.
    """
    given: RecordOptions = data.options.data
    augment = ImageNetAugmentation(given.image_size, threads=given.threads)
    if data.source is None:
        return augment
    before = data.options.run.continued
    if before is not None and (before / DATA).is_file():
        known = read_json(before / DATA, DataSet.from_json)
        return replace(augment, mean=known.mean, std=known.std)
    from .devices import progress

    mean, std = mean_std_at(data.source.train, given.image_size, progress)
    return replace(augment, mean=mean, std=std)


def train_loaders(opened: Opened, parts: Optional[Sequence[int]] = None) -> List[Loader]:
    """Batches of the training images, or of each part of them; no image is in two parts."""
    data, images = opened.options.data, opened.train
    assert images is not None
    if (data.num_samples or 0) > len(images):
        raise ValueError(
            f"{images.place} has {len(images):,} {images.what}s that can be found, not "
            f"{data.num_samples:,}: give --num-samples {len(images)} or less"
        )
    pieces = split(data.num_samples, images.labels, parts or (1,), data.seed)
    augment = augmentation(opened)
    return [
        RecordLoader(images, part, data.batch_size, augment, data.seed, stream=stream)
        for stream, part in enumerate(pieces)
    ]


def fit_loaders(opened: Opened) -> Tuple[Loader, Loader]:
    """Batches of the training images, and of all validation images."""
    (train,), data = train_loaders(opened), opened.options.data
    images = records(data, train=False) if opened.source is None else opened.source.test
    plain = train.augment.plain()  # type: ignore[attr-defined]
    return train, Loader(images, None, data.batch_size, plain, shuffle=False, drop_last=False)


def write_parts(run: Run, loaders: Sequence[Loader]) -> None:
    """Write which records, if it has any, each part of a search has, as im2rec's lists: key,
    label, file.
    """
    for name, loader in zip(PARTS, loaders):
        images = loader.images
        if not isinstance(images, Pictures):
            continue
        keys = images.keys[loader.indices].tolist()
        labels = images.labels[loader.indices].tolist()
        if isinstance(images, Records):
            rows = [(key, label, images.path.name) for key, label in zip(keys, labels)]
        else:
            rows = list(zip(loader.indices.tolist(), labels, keys))
        lines = [f"{number}\t{label:f}\t{file}" for number, label, file in rows]
        write_lines(run.folder / name, lines, "surrogateescape")
