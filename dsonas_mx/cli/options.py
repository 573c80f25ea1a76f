"""The options that scripts share, in groups; nothing here needs MXNet, which takes seconds to load.

What a search and a training are told is in `dsonas_mx.search.options` and
`dsonas_mx.training.options`; a script puts groups together, and has the defaults of its data set.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from ..data import DATA_SETS, SMALL, DataSet, check_source
from ..data.loader import check_seed
from ..data.registry import OWN
from ..data.small import LEAST_SIDE, MOST_SIDE
from ..data.source import Source, kind_of, open_source
from ..io.options import Options, at_least, names, not_negative, number, option, place
from ..search.options import SearchOptions
from ..space.mobile import SKELETONS
from ..space.normal import SCOPES, parse_blocks
from ..space.operations import DEFAULT_OPERATIONS, TABLE
from ..training.options import FitOptions
from .presets import PRESETS

SIDE = 32  # of small images that are made of pictures of any size
SEED = "same seed, same result, on the CPU with as many threads (OMP_NUM_THREADS)"
_BATCH = "in all, over all devices"


def check_seeds(name: str, value: int) -> None:
    """Refuse what no generator takes."""
    check_seed(value)


# Data


class Told(NamedTuple):
    """What a run is told of its data: the name; what is known of it; the source of own data."""

    name: str
    about: Optional[DataSet] = None
    source: Optional[Source] = None


@dataclass(frozen=True)
class ImageOptions(Options):
    """Small images: one's own, CIFAR, or the embedded Fashion-MNIST."""

    data_set: Optional[str] = place(
        None, "which images, if not one's own; cifar10 if neither says so", choices=SMALL
    )
    data_dir: Optional[str] = place(
        None,
        "one's own images: a folder with a folder a class (or train/CLASS and val/CLASS), an .npz "
        "of images and labels, or train.rec and val.rec; or the files of CIFAR",
    )
    image_size: Optional[int] = place(
        None,
        f"side that images get, {LEAST_SIDE} to {MOST_SIDE}; if not given that of the data set, or "
        f"of own arrays and records, and {SIDE} for a folder",
        parse=int,
    )
    normalize: str = option(
        "own",
        "mean and standard deviation: the data set's own, or those of the authors' release",
        choices=("own", "release"),
    )
    demo: bool = place(
        False, "a small setting on the embedded Fashion-MNIST; options that are given win over it"
    )
    preset: Optional[str] = place(
        None,
        "how much to do with the images that there are: quick, minutes; standard, ten minutes for "
        "2,000 images, and for one's own if not given; paper, all of it; given options win over it",
        choices=PRESETS,
    )
    batch_size: int = option(128, _BATCH, check=at_least(1))
    seed: int = option(0, SEED, check=check_seeds)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name not in OWN:
            check_source(self.name, self.data_dir)
        if self.normalize == "release" and (self.about.is_own or self.about.channels != 3):
            raise ValueError("`normalize` release is for CIFAR: leave it out")

    @cached_property
    def name(self) -> str:
        """Of the data set, or what kind of own data there is."""
        return self.data_set or kind_of(self.data_dir) or "cifar10"

    @cached_property
    def source(self) -> Optional[Source]:
        """One's own data."""
        return open_source(str(self.data_dir)) if self.name in OWN else None

    @cached_property
    def about(self) -> DataSet:
        """What is known of the data set before its images are read."""
        size, source = self.image_size, self.source
        if size is None:
            size = DATA_SETS[self.name].image_size if source is None else source.side or SIDE
        if not LEAST_SIDE <= size <= MOST_SIDE:
            raise ValueError(
                f"{self.data_dir or self.name}: images of {size}×{size}: give `image_size` "
                f"{LEAST_SIDE} to {MOST_SIDE}, or use the scripts for ImageNet, which take larger "
                "ones"
            )
        return DATA_SETS[self.name].at(size) if source is None else source.about(size)

    @property
    def told(self) -> Told:
        """What a search and a training are told of the images."""
        return Told(self.name, self.about, self.source)


def images_of(values: Mapping[str, Any]) -> DataSet:
    """What is known of the images that values, by their names in a record, say."""
    given = {k: values[k] for k in ("data_set", "data_dir", "image_size") if k in values}
    images = ImageOptions(**given)
    return images.about


@dataclass(frozen=True)
class RecordOptions(Options):
    """ImageNet as records, or one's own large images."""

    data_dir: Optional[str] = place(
        None,
        "has train.rec and val.rec of tools/prepare_data.py or im2rec; or one's own images: a "
        "folder with a folder a class, or an .npz of images and labels",
    )
    data_train: Optional[str] = place(None, "instead of train.rec in --data-dir", metavar="FILE")
    data_val: Optional[str] = place(None, "instead of val.rec in --data-dir", metavar="FILE")
    num_classes: Optional[int] = option(
        None, "of the records, if their labels do not have all", parse=int, check=at_least(1)
    )
    image_size: int = option(224, "side of the crops", check=at_least(1))
    num_samples: Optional[int] = option(
        None, "of the training images, classes alike", parse=int, check=at_least(1)
    )
    threads: int = place(4, "that decode and augment images", check=at_least(1))
    demo: bool = place(
        False,
        "a small setting to see that all works: crops of 64×64 of at most 1,000 of the images, "
        "a narrow network, a few epochs; options that are given win over it",
        "--small",
        record="demo",
    )
    batch_size: int = option(256, _BATCH, check=at_least(1))
    seed: int = option(0, SEED, check=check_seeds)

    @cached_property
    def source(self) -> Optional[Source]:
        """One's own data, if they are no records."""
        if self.data_train or self.data_val or kind_of(self.data_dir) not in ("folder", "arrays"):
            return None
        return open_source(str(self.data_dir), self.image_size, self.threads, channels=3)


# Network


@dataclass(frozen=True)
class SpaceOptions(Options):
    """The normal search space (section 3.1)."""

    scope: str = option(
        "share", "share: one structure for all blocks; full: one for each", choices=SCOPES
    )
    levels: int = option(4, "M, levels of a block")
    operations: Tuple[str, ...] = option(
        DEFAULT_OPERATIONS, f"of a level, out of {', '.join(TABLE)}", parse=names, show=",".join
    )
    blocks: Optional[str] = option("8", "blocks a stage: a number, or one a stage")
    width: int = option(48, "channels of the first stage")

    def fields(self, stages: int, blocks: str = "") -> Dict[str, Any]:
        """Those of a `SearchSpace` of so many stages; `blocks` if none are given."""
        return {
            "scope": self.scope,
            "levels": self.levels,
            "operations": self.operations,
            "blocks": parse_blocks(self.blocks or blocks, stages),
            "width": self.width,
        }


@dataclass(frozen=True)
class SettingOptions(Options):
    """Which of the paper's search spaces."""

    space: str = option(
        "normal",
        "the normal setting, or a skeleton of the mobile one",
        choices=("normal", *SKELETONS),
    )

    @property
    def is_normal(self) -> bool:
        """Whether it is none of the mobile setting."""
        return self.space == "normal"


@dataclass(frozen=True)
class EitherSpaceOptions(SpaceOptions):
    """The normal search space for ImageNet, or of the mobile setting."""

    blocks: Optional[str] = option(
        None, "blocks a stage; if none is given 2,2,13,6 or a skeleton's"
    )
    width: int = option(28, "channels of the first stage")
    width_multiplier: float = option(1.0, "of a mobile space")


@dataclass(frozen=True)
class NetworkOptions(Options):
    """Which network to train: a file's, or a baseline; and its size."""

    architecture: Optional[str] = place(
        None,
        "what a search found, or the name of one in symbols/architectures",
        metavar="FILE",
        one_of="network",
        required=True,
    )
    random: Optional[str] = option(
        None, "a random network, drawn by --seed", choices=SCOPES, one_of="network"
    )
    full_network: bool = option(False, "all operations, connections", one_of="network")
    like: Optional[str] = place(
        None,
        "what a search found, for --random and --full-network: its space, connections a block "
        "and, by the width, at least its parameters; without it the paper's space",
        metavar="FILE",
    )
    width: Optional[int] = option(
        None, "channels of the first stage, not the file's", parse=int, one_of="size"
    )
    target_params: Optional[int] = option(
        None, "as 3.0M: the widest within it", parse=number, one_of="size"
    )
    target_flops: Optional[int] = option(
        None, "multiply-adds, as 600M", parse=number, one_of="size"
    )
    target_latency: Optional[float] = option(
        None, "ms of a forward pass of one image, on the device", parse=float, one_of="size"
    )
    divisor: Optional[int] = option(None, "of a width that a target chooses; 1 if none", parse=int)
    blocks: Optional[str] = option(
        None,
        "blocks a stage, not the file's; the paper's if no size is given, and one block is shared "
        "by all",
    )

    @property
    def has_size(self) -> bool:
        """Whether one of those is given that decide the width."""
        sizes = (self.width, self.target_params, self.target_flops, self.target_latency)
        return any(size is not None for size in sizes)


@dataclass(frozen=True)
class SupernetOptions(SearchOptions):
    """A search, and which BN scales its supernet has fixed."""

    fix_gamma: str = option("all", "fixed BN scales", choices=("all", "operations", "none"))


@dataclass(frozen=True)
class ImageSearchOptions(SupernetOptions):
    """A search whose two parts of the data may have files of their own."""

    split_files: Optional[str] = place(
        None,
        "the samples of both parts: train1.rec and train2.rec of prepare_data.py",
        metavar="DIR",
    )


@dataclass(frozen=True)
class TowerOptions(NetworkOptions):
    """A network with an auxiliary tower, in training (ImageNet)."""

    auxiliary: float = option(0.4, "weight of the tower; 0, and mobile: none", check=not_negative)


@dataclass(frozen=True)
class ImageNetworkOptions(NetworkOptions):
    """A network that is trained on small images, with what keeps it from learning them by heart."""

    dropout: float = option(0.4, "before the classifier")
    drop_path: float = option(0.5, "rate at the end, behind the last block")
    auxiliary: float = option(0.4, "weight of the auxiliary tower; 0 for none", check=not_negative)


@dataclass(frozen=True)
class ImageTrainingOptions(FitOptions):
    """A training on small images."""

    cutout: int = option(16, "side of the square; 0 for none", check=at_least(0))
    validation: int = option(
        0, "so many training images to test on instead of the test images; 0 for none"
    )


@dataclass(frozen=True)
class SmoothedOptions(FitOptions):
    """A training on ImageNet, as the paper's: a straight line, and smoothed labels."""

    label_smoothing: float = option(0.1, "what the other classes share of a label")


def sizes(paper: str, size: str) -> Dict[str, str]:
    """Helps of a network whose size, of that name, is the paper's if no other is given."""
    helps = {
        "target_params": "as 3.0M: the widest within it",
        "target_flops": "multiply-adds, as 600M",
    }
    return {paper: f"{helps[paper]}; {size} if no size, --like or small setting is given"}
