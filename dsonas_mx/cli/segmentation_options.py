"""The options of segmentation, in groups, as `dsonas_mx.cli.options` has those of the others."""

from dataclasses import dataclass
from typing import List, NamedTuple, Optional, Sequence

from ..io.options import Options, at_least, not_negative, option, place
from .options import SEED, SupernetOptions, check_seeds


@dataclass(frozen=True)
class SceneOptions(Options):
    """Folders in VOC layout."""

    data_dir: Optional[str] = place(None, "the folder in which the data sets are, each in its own")
    crop: int = option(513, "side of what is cut out to train on", check=at_least(1))
    threads: int = place(2, "threads that read and augment", "--workers", check=at_least(1))
    batch_size: int = option(16, "over all devices", check=at_least(1))
    auxiliary: float = option(0.4, "weight of the auxiliary head; 0 for none", check=not_negative)
    seed: int = option(0, SEED, check=check_seeds)


@dataclass(frozen=True)
class SearchSceneOptions(SceneOptions):
    """What is searched on."""

    data_set: str = place(
        "coco", "coco, sbd, voc, or any folder of its layout", "--data", record="data_set"
    )


@dataclass(frozen=True)
class TrainSceneOptions(SceneOptions):
    """What is tested on; the stages say what is trained on."""

    test_data: Optional[str] = option(
        None, "where to test, on its val.txt; the last stage's folder"
    )


@dataclass(frozen=True)
class BackboneSearchOptions(SupernetOptions):
    """A search that starts from a supernet which was trained on other images."""

    pretrained: Optional[str] = place(
        None,
        "where the supernet's backbone is from: a run of search_imagenet.py, which has its "
        "parameters at the end of pre-training, or a checkpoint",
        metavar="RUN",
    )


@dataclass(frozen=True)
class BackboneOptions(Options):
    """Which backbone is trained under a segmentation head."""

    architecture: Optional[str] = place(
        None,
        "what a search found, or the name of one in symbols/architectures",
        metavar="FILE",
        one_of="network",
    )
    model: Optional[str] = option(
        None, "a baseline's backbone", choices=("mobilenet_v1", "mobilenet_v2"), one_of="network"
    )
    backbone: Optional[str] = place(
        None,
        "a run of train_imagenet.py with the backbone's parameters; its architecture, if none is "
        "given",
        metavar="RUN",
    )
    width: Optional[int] = option(None, "channels of the first stage, not the file's", parse=int)
    blocks: Optional[str] = option(None, "blocks a stage, not the file's")


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

    eval: Optional[str] = place(
        None, "only test what a run of this script trained; into RUN/eval", metavar="RUN"
    )
    multi_scale: bool = option(False, "test at 0.5 to 1.75 of the size")
    flip: bool = option(False, "test mirrored, too")
    pictures: int = place(8, "test images to make pictures of", check=at_least(0))
