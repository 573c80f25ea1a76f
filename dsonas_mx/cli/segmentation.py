"""Options of segmentation, the data that they ask for, and what a run takes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Optional, Sequence

from mxnet.gluon import HybridBlock

from ..cost.traced import Cost
from ..data import voc
from ..data.scenes import Crop, SceneLoader
from ..engine.device import contexts
from ..engine.graph import TrainGraph
from ..engine.recompute import parse_mirror
from ..io.files import write_json
from ..runs.folder import Run
from ..training.loss import pixel_cross_entropy, with_auxiliary
from ..training.segmentation import Stage
from ..training.transfer import read_parameters, take_over


class StageOption(NamedTuple):
    """A stage of --stages: names of data sets, epochs, learning rate."""

    data: Sequence[str]
    num_epochs: int
    learning_rate: float


def add_scenes(parser: argparse.ArgumentParser, batch_size: int) -> argparse._ArgumentGroup:
    """`--data-dir`, `--crop`, `--workers`, `--batch-size`, `--auxiliary`, `--seed`."""
    group = parser.add_argument_group("data")
    group.add_argument("--data-dir", help="the folder in which the data sets are, each in its own")
    group.add_argument("--crop", type=int, default=513, help="side of what is cut out to train on")
    group.add_argument("--workers", type=int, default=2, help="threads that read and augment")
    group.add_argument("--batch-size", type=int, default=batch_size, help="over all devices")
    group.add_argument(
        "--auxiliary", type=float, default=0.4, help="weight of the auxiliary head; 0 for none"
    )
    group.add_argument("--seed", type=int, default=0, help="same seed, same result, on the CPU")
    return group


def pixel_loss(options: argparse.Namespace) -> Callable[..., Any]:
    """The loss of a network with or without an auxiliary head, by the weight of that."""
    if not options.auxiliary:
        return pixel_cross_entropy
    return with_auxiliary(options.auxiliary, pixel_cross_entropy)


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


def known_classes(options: argparse.Namespace, name: str) -> Sequence[str]:
    """The classes of a data set; VOC's, of one that has a name but is not there."""
    try:
        return voc.read_classes(voc.find(options.data_dir, name))
    except FileNotFoundError:
        if name not in voc.FOLDERS:
            raise
        return voc.CLASSES


def num_train(options: argparse.Namespace, names: Sequence[str]) -> int:
    """How many training images there are, or, of data that is not there, should be."""
    try:
        for name in names:
            voc.find(options.data_dir, name)
    except FileNotFoundError:
        if not set(names) <= set(voc.NUM_TRAIN):
            raise
        return sum(voc.NUM_TRAIN[name] for name in names)
    return len(training_scenes(options, names))


def training_scenes(
    options: argparse.Namespace, names: Sequence[str], test: Sequence[voc.Files] = ()
) -> voc.Scenes:
    """The training images of data sets, without all that is tested on."""
    without = voc.held_out(options.data_dir, names) | {files.name for files in test}
    return voc.training([voc.find(options.data_dir, name) for name in names], without)


def load_stages(
    options: argparse.Namespace, stages: Sequence[StageOption], test: voc.Scenes
) -> List[Stage]:
    """The stages of a training with their data, without what it is tested on."""
    crop = Crop(options.crop)
    planned = []
    for number, (names, num_epochs, rate) in enumerate(stages):
        scenes = training_scenes(options, names, test.files)
        loader = SceneLoader(
            scenes, None, options.batch_size, crop, options.seed, number, options.workers
        )
        planned.append(Stage(loader, num_epochs, rate))
    return planned


def data_name(options: argparse.Namespace, name: str) -> str:
    """What a record of a run calls its data: no path."""
    return name if name in voc.FOLDERS else voc.find(options.data_dir, name).resolve().name


def take_backbone(run: Run, net: HybridBlock, file: Optional[Path]) -> None:
    """Take over parameters from another run; log what did not fit, backbone.json has all names."""
    if file is None:
        return
    try:
        found = take_over(net, read_parameters(file), net.backbone)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    write_json(run.folder / "backbone.json", found._asdict())
    run.log(f"{file}: {found}")


def print_scene_dry_run(
    options: argparse.Namespace,
    net: HybridBlock,
    loss: Callable[..., Any],
    cost: Cost,
    steps: Sequence[int],
    parameters: str = "",
    memory: str = "",
) -> None:
    """What a run takes: parameters, multiply-adds, MB, steps an epoch.

    `parameters` and `memory` are what to print beside them of the paper's.
    """
    shape = (options.batch_size, 3, options.crop, options.crop)
    devices, mirror = contexts(options.gpus, options.cpus), parse_mirror(options.mirror)
    graph = TrainGraph(net, loss, shape, (shape[0], *shape[2:]), devices, mirror)
    megabytes = graph.plan.megabytes  # the error of what does not fit is all that is printed
    print(f"parameters     {cost.parameters:>16,}{_aside(parameters)}")
    print(f"multiply-adds  {cost.multiply_adds:>16,}")
    print(f"MB a device    {megabytes:>16,.0f}{_aside(memory)}")
    print(f"steps an epoch {', '.join(f'{count:,}' for count in steps):>16}")


def _aside(text: str) -> str:
    return f"  ({text})" if text else ""
