#!/usr/bin/env python
"""Train a segmentation network over a found backbone, or MobileNet's, in stages; or test one.

The data are folders in VOC layout below --data-dir. The run folder gets model.params, the
deployable pair model-symbol.json and model-0000.params, metrics.csv, result.json, pictures/ of
image, truth and prediction, log.txt, and checkpoints to resume from.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dsonas_mx as dso
from dsonas_mx import cli
from dsonas_mx.cost.traced import count_symbol
from dsonas_mx.data import voc
from dsonas_mx.data.scenes import Crop
from dsonas_mx.engine.recompute import parse_mirror
from dsonas_mx.space.mobile_architecture import MobileArchitecture, load_architecture
from dsonas_mx.space.normal import parse_blocks
from dsonas_mx.training.segmentation import SegmentationFit, check_settings

import mxnet as mx

from symbols import architectures
from symbols.segmentation import MOBILENETS, beside_published, deeplab

STAGES = "coco+sbd+voc:100:0.014,sbd+voc:160:0.008,voc:350:0.008"
SAVE_DIR = "runs/train_voc"


def arguments() -> cli.Parser:
    parser = cli.Parser(description=__doc__)
    data = cli.add_scenes(parser, batch_size=16)
    data.add_argument("--test-data", help="where to test, on its val.txt; the last stage's folder")
    cli.add_devices(parser)
    network = parser.add_argument_group("network")
    which = network.add_mutually_exclusive_group()
    which.add_argument(
        "--architecture",
        metavar="FILE",
        type=architectures.find,
        help="what a search found, or the name of one in symbols/architectures",
    )
    which.add_argument("--model", choices=tuple(MOBILENETS), help="a baseline's backbone")
    network.add_argument(
        "--backbone",
        metavar="RUN",
        help="a run of train_imagenet.py with the backbone's parameters; its architecture, if none "
        "is given",
    )
    network.add_argument("--width", type=int, help="channels of the first stage, not the file's")
    network.add_argument("--blocks", help="blocks a stage, not the file's")
    fit = parser.add_argument_group("training")
    fit.add_argument("--stages", default=STAGES, help="data:epochs:learning rate of each")
    fit.add_argument("--momentum", type=float, default=0.9)
    fit.add_argument("--wd", type=float, default=4e-5, help="weight decay")
    fit.add_argument("--test-every", type=int, default=10, help="epochs between tests")
    test = parser.add_argument_group("test")
    test.add_argument(
        "--eval", metavar="RUN", help="only test what a run of this script trained; into RUN/eval"
    )
    test.add_argument("--multi-scale", action="store_true", help="test at 0.5 to 1.75 of the size")
    test.add_argument("--flip", action="store_true", help="test mirrored, too")
    test.add_argument("--pictures", type=int, default=8, help="test images to make pictures of")
    cli.add_memory(parser, mirror="off")
    cli.add_run(parser, SAVE_DIR)
    return parser


def found(options: argparse.Namespace, classes: int) -> Optional[dso.Architecture]:
    """The architecture of the options; None for a baseline."""
    if options.model is not None:
        return None
    source = options.architecture
    if source is None and options.backbone is not None:
        source = Path(options.backbone) / "architecture.json"
        if not source.is_file():
            raise FileNotFoundError(f"{source}: not there; give --architecture FILE as well")
    if source is None:
        raise ValueError("which network? Give --architecture FILE, --model, or --backbone RUN")
    changes = {"num_classes": classes, "image_size": options.crop, "in_channels": 3}
    if options.width is not None:
        changes["width"] = options.width
    architecture = load_architecture(source)
    if isinstance(architecture, MobileArchitecture):
        raise ValueError(f"{source} is of the mobile setting: give one of the normal setting")
    if architecture.space.stem != "imagenet":  # found on CIFAR
        architecture = architecture.transferred_to(dso.SearchSpace.imagenet())
    if options.blocks is not None:
        changes["blocks"] = parse_blocks(options.blocks, len(architecture.space.blocks))
    return architecture.with_space(**changes)


def main(options: argparse.Namespace) -> None:
    if options.eval is not None:
        cli.take_from_run(options, SAVE_DIR)
    cli.check_options(options)
    check_settings(options.momentum, options.wd)
    stages = cli.parse_stages(options.stages)
    Crop(options.crop)  # refuses a size that is none
    workers, devices = cli.connect(options)
    mirror = parse_mirror(options.mirror)
    where = options.test_data or stages[-1].data[-1]
    options.data_set = cli.data_name(options, where)  # for the record
    classes = len(cli.known_classes(options, where))
    architecture = found(options, classes)
    network = architecture or options.model
    deployed = deeplab(network, classes)
    image = (1, 3, options.crop, options.crop)
    cost = count_symbol(deployed(mx.sym.Variable("data")), image)
    net = deeplab(network, classes, auxiliary=options.auxiliary != 0)
    loss = cli.pixel_loss(options)
    if options.dry_run:
        steps = [cli.fit_steps(options, cli.num_train(options, s.data)) for s in stages]
        paper = beside_published(cost.parameters, options.model)
        cli.print_scene_dry_run(options, net, loss, cost, steps, parameters=paper)
        return
    scenes = voc.load(voc.find(options.data_dir, where), "val")
    if options.eval is not None:
        cli.test_of_run(options, deployed, scenes, architecture, cost)
        return
    mx.random.seed(options.seed)
    net.initialize(ctx=devices)
    fit = SegmentationFit(
        net,
        cli.load_stages(options, stages, scenes),
        scenes,
        options.momentum,
        options.wd,
        options.test_every,
        devices,
        loss,
        cli.progress,
        mirror,
        workers,
    )
    cli.train_scenes_to_end(options, fit, scenes, architecture, deployed, cost)


if __name__ == "__main__":
    cli.run(main, arguments())
