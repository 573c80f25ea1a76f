"""The options that scripts share, in groups; nothing here needs MXNet, which takes seconds to load.

What a search and a training are told is in `dsonas_mx.search.options` and
`dsonas_mx.training.options`; a script puts groups together, and has the defaults of its data set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Protocol, Sequence, Tuple

from ..data import DATA_SETS, check_source
from ..data.imagenet import IMAGE_SIZE, NUM_CLASSES
from ..data.loader import check_seed
from ..io.options import Options, at_least, names, not_negative, number, option
from ..search.options import SearchOptions
from ..space.normal import SCOPES, parse_blocks

_SEED = "same seed, same result, on the CPU with as many threads (OMP_NUM_THREADS)"
_BATCH = "in all, over all devices"


def _seed(name: str, value: int) -> None:
    check_seed(value)


# Data


@dataclass(frozen=True)
class ImageOptions(Options):
    """Images in memory: CIFAR, or the embedded Fashion-MNIST."""

    data_set: str = option("cifar10", "which images", choices=tuple(DATA_SETS), decides=False)
    data_dir: Optional[str] = option(
        None, "CIFAR as python batches, binary files, or train.rec and val.rec", decides=False
    )
    normalize: str = option(
        "own",
        "mean and standard deviation: the data set's own, or those of the authors' release",
        choices=("own", "release"),
    )
    demo: bool = option(
        False,
        "a small setting on the embedded Fashion-MNIST; options that are given win over it",
        decides=False,
    )
    batch_size: int = option(128, _BATCH, check=at_least(1))
    seed: int = option(0, _SEED, check=_seed)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_source(self.data_set, self.data_dir)
        if self.normalize == "release" and DATA_SETS[self.data_set].channels != 3:
            raise ValueError("`normalize` release is for CIFAR: leave it out")


@dataclass(frozen=True)
class RecordOptions(Options):
    """ImageNet, as records."""

    data_dir: Optional[str] = option(
        None, "has train.rec and val.rec of MXNet's im2rec, with .idx", decides=False
    )
    data_train: Optional[str] = option(
        None, "instead of train.rec in --data-dir", metavar="FILE", decides=False
    )
    data_val: Optional[str] = option(
        None, "instead of val.rec in --data-dir", metavar="FILE", decides=False
    )
    num_classes: int = option(NUM_CLASSES, "of the records: labels from 0 to one less")
    image_size: int = option(IMAGE_SIZE, "side of the crops")
    num_samples: Optional[int] = option(
        None, "of the training images, classes alike", parse=int, check=at_least(1)
    )
    threads: int = option(4, "that decode and augment images", check=at_least(1), decides=False)
    demo: bool = option(
        False,
        "a small setting of any records; options that are given win over it",
        "--small",
        record="demo",
        decides=False,
    )
    batch_size: int = option(256, _BATCH, check=at_least(1))
    seed: int = option(0, _SEED, check=_seed)

    @property
    def data_set(self) -> str:
        """What a record of a run calls its data."""
        return "imagenet"


@dataclass(frozen=True)
class SceneOptions(Options):
    """Folders in VOC layout."""

    data_dir: Optional[str] = option(
        None, "the folder in which the data sets are, each in its own", decides=False
    )
    crop: int = option(513, "side of what is cut out to train on", check=at_least(1))
    workers: int = option(2, "threads that read and augment", check=at_least(1), decides=False)
    batch_size: int = option(16, "over all devices", check=at_least(1))
    auxiliary: float = option(0.4, "weight of the auxiliary head; 0 for none", check=not_negative)
    seed: int = option(0, _SEED, check=_seed)


# Network


@dataclass(frozen=True)
class SpaceOptions(Options):
    """The normal search space (section 3.1)."""

    scope: str = option(
        "share", "share: one structure for all blocks; full: one for each", choices=SCOPES
    )
    levels: int = option(4, "M, levels of a block")
    operations: Tuple[str, ...] = option(
        ("sep3", "sep5", "max", "avg"), "of a level; also sep7", parse=names, show=",".join
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
class NetworkOptions(Options):
    """Which network to train: a file's, or a baseline; and its size."""

    architecture: Optional[str] = option(
        None,
        "what a search found, or the name of one in symbols/architectures",
        metavar="FILE",
        one_of="network",
        required=True,
        decides=False,
    )
    random: Optional[str] = option(
        None, "a random network, drawn by --seed", choices=SCOPES, one_of="network"
    )
    full_network: bool = option(False, "all operations, connections", one_of="network")
    like: Optional[str] = option(
        None,
        "what a search found, for --random and --full-network: its space, connections a block "
        "and, by the width, at least its parameters; without it the paper's space",
        metavar="FILE",
        decides=False,
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
class SegmentationNetworkOptions(Options):
    """Which backbone is trained under a segmentation head."""

    architecture: Optional[str] = option(
        None,
        "what a search found, or the name of one in symbols/architectures",
        metavar="FILE",
        one_of="network",
        decides=False,
    )
    model: Optional[str] = option(
        None,
        "a baseline's backbone",
        choices=("mobilenet_v1", "mobilenet_v2"),
        one_of="network",
    )
    backbone: Optional[str] = option(
        None,
        "a run of train_imagenet.py with the backbone's parameters; its architecture, if none is "
        "given",
        metavar="RUN",
        decides=False,
    )
    width: Optional[int] = option(None, "channels of the first stage, not the file's", parse=int)
    blocks: Optional[str] = option(None, "blocks a stage, not the file's")


def sizes(paper: str, size: str) -> Dict[str, str]:
    """Helps of a network whose size, of that name, is the paper's if no other is given."""
    helps = {
        "target_params": "as 3.0M: the widest within it",
        "target_flops": "multiply-adds, as 600M",
    }
    return {paper: f"{helps[paper]}; {size} if no size, --like or small setting is given"}


class StageOption(NamedTuple):
    """A stage of a training: names of data sets, epochs, learning rate."""

    data: Sequence[str]
    num_epochs: int
    learning_rate: float


def parse_stages(text: str) -> List[StageOption]:
    """'coco+voc:100:0.014,voc:350:0.008' → data sets, epochs and learning rate of each stage."""
    stages = []
    for part in text.split(","):
        try:
            data, epochs, rate = part.rsplit(":", 2)
            stage = StageOption(data.split("+"), int(epochs), float(rate))
            good = all(stage.data) and stage.num_epochs > 0 and 0 < stage.learning_rate < 1e3
        except ValueError:
            good = False
        if not good:
            raise ValueError(
                f"--stages must be as coco+sbd+voc:100:0.014,voc:350:0.008, got {part!r}"
            )
        stages.append(stage)
    return stages


@dataclass(frozen=True)
class StageOptions(Options):
    """The stages of a segmentation training (section 4.4)."""

    stages: str = option(
        "coco+sbd+voc:100:0.014,sbd+voc:160:0.008,voc:350:0.008",
        "data:epochs:learning rate of each",
        check=lambda name, value: parse_stages(value),
    )

    @property
    def all(self) -> List[StageOption]:
        """One after the other."""
        return parse_stages(self.stages)


@dataclass(frozen=True)
class TestOptions(Options):
    """How a segmentation network is tested."""

    eval: Optional[str] = option(
        None,
        "only test what a run of this script trained; into RUN/eval",
        metavar="RUN",
        decides=False,
    )
    multi_scale: bool = option(False, "test at 0.5 to 1.75 of the size")
    flip: bool = option(False, "test mirrored, too")
    pictures: int = option(8, "test images to make pictures of", check=at_least(0), decides=False)


# Machine


@dataclass(frozen=True)
class DeviceOptions(Options):
    """The devices, of this process and of others."""

    gpus: str = option("", "numbers of GPUs, as 0,1; empty for the CPU", decides=False)
    cpus: int = option(1, "devices to divide the CPU into", decides=False)
    kv_store: str = option(
        "device",
        "dist_sync: with all processes of tools/launch.py, each with such devices",
        choices=("device", "dist_sync"),
        decides=False,
    )


@dataclass(frozen=True)
class PrecisionOptions(Options):
    """The type of maps."""

    dtype: str = option(
        "float32",
        "of maps and convolutions; float16 is for GPUs, parameters stay float32",
        choices=("float32", "float16"),
    )


@dataclass(frozen=True)
class MemoryOptions(Options):
    """What a run takes."""

    recompute: str = option(
        "off",
        "compute activations again in backward: auto for little memory, deep for the least, "
        "off, or so many MB on each device",
        "--mirror",
        decides=False,
    )
    dry_run: bool = option(
        False,
        "say what the run takes, and stop before it allocates or needs any data",
        decides=False,
    )


# Run


def _minutes(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be at least 0, got {value}")


@dataclass(frozen=True)
class RunOptions(Options):
    """The run folder, and how a run survives and is watched."""

    save_dir: str = option("runs/run", "the run folder", decides=False)
    resume: bool = option(False, "go on from the newest checkpoint", decides=False)
    resume_from: Optional[str] = option(
        None,
        "go on from a checkpoint, as RUN/checkpoint/000012, of this run folder or, in a new one, "
        "of another",
        metavar="PATH",
        decides=False,
    )
    checkpoint_minutes: float = option(
        30,
        "between checkpoints within an epoch; 0 for none but at its end",
        parse=float,
        check=_minutes,
        decides=False,
    )
    on_nan: str = option(
        "stop",
        "a loss that is not finite ends the run, or takes it back to the end of the last epoch, "
        "with half the learning rate, five times at most",
        choices=("stop", "rollback"),
        decides=False,
    )
    tensorboard: bool = option(
        False,
        "write scalars, λ and the block for TensorBoard; needs tensorboardX",
        decides=False,
    )
    log_format: str = option(
        "text",
        "of what is printed: json for an object a line, of an epoch with its numbers, of an error "
        "with its status",
        choices=("text", "json"),
        decides=False,
    )

    @property
    def resumes(self) -> bool:
        """Whether it shall go on with what is there."""
        return self.resume or self.resume_from is not None


class Script(Protocol):
    """The options of a script that searches or trains: what all of them have."""

    @property
    def devices(self) -> DeviceOptions: ...

    @property
    def memory(self) -> MemoryOptions: ...

    @property
    def run(self) -> RunOptions: ...

    def record(self, deciding: bool = False) -> Dict[str, Any]: ...
