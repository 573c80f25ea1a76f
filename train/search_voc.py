#!/usr/bin/env python
"""Search a backbone on a segmentation task by DSO-NAS; the defaults are the paper's (section 4.4).

The data are folders in VOC layout below --data-dir. The run folder gets architecture.json,
lambdas.csv (λ by epoch), metrics.csv, the supernet's model.params, log.txt, and checkpoints.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dsonas_mx as dso
from dsonas_mx import cli
from dsonas_mx.cost.traced import count_symbol
from dsonas_mx.data.loader import split
from dsonas_mx.data.scenes import Crop, SceneLoader
from dsonas_mx.engine.recompute import parse_mirror
from dsonas_mx.search.search import Search
from dsonas_mx.space.normal import parse_blocks
from dsonas_mx.training.transfer import digest, parameters_file

import mxnet as mx
import numpy as np

from symbols.segmentation import DeepLabV3, deeplab, voc_space


def arguments() -> cli.Parser:
    parser = cli.Parser(description=__doc__)
    data = cli.add_scenes(parser, batch_size=80)
    data.add_argument(
        "--data",
        dest="data_set",
        default="coco",
        help="coco, sbd, voc, or any folder of its layout",
    )
    cli.add_devices(parser)
    space = parser.add_argument_group("search space")
    space.add_argument("--scope", choices=("share", "full"), default="share")
    space.add_argument("--levels", type=int, default=4, help="M, levels of a block")
    space.add_argument("--operations", default="sep3,sep5,max,avg", help="of a level; also sep7")
    space.add_argument("--blocks", default="2,2,13,6", help="a stage: a number, or one each")
    space.add_argument("--width", type=int, default=28, help="channels of the first stage")
    search = cli.add_search(
        parser, epochs=(0, 50), split="4:1", wd=4e-5, gamma=0.01, shrink_every=5, lr=0.014
    )
    search.add_argument(
        "--pretrained",
        metavar="RUN",
        help="where the supernet's backbone is from: a run of search_imagenet.py, which has its "
        "parameters at the end of pre-training, or a checkpoint",
    )
    cli.add_memory(parser, mirror="auto")
    cli.add_run(parser, "runs/search_voc")
    return parser


def space_of(options: argparse.Namespace) -> dso.SearchSpace:
    """Of the classes of the data."""
    return voc_space(
        scope=options.scope,
        levels=options.levels,
        operations=options.operations.split(","),
        blocks=parse_blocks(options.blocks, 4),
        width=options.width,
        num_classes=len(cli.known_classes(options, options.data_set)),
        image_size=options.crop,
    )


def main(options: argparse.Namespace) -> None:
    cli.check_options(options)
    settings = cli.search_settings(options)
    workers, devices = cli.connect(options)
    mirror = parse_mirror(options.mirror)
    crop, loss = Crop(options.crop), cli.pixel_loss(options)
    name = cli.data_name(options, options.data_set)
    start = dso.Architecture.complete(space_of(options), {**cli.origin(options), "data": name})

    def build(architecture: dso.Architecture) -> DeepLabV3:
        auxiliary = options.auxiliary != 0
        return deeplab(architecture, None, True, options.fix_gamma, auxiliary)

    if options.dry_run:
        count = cli.num_train(options, [options.data_set])
        steps = cli.search_steps(options, count, settings.split)
        supernet = deeplab(start, weighted=True, fix_gamma=options.fix_gamma)
        cost = count_symbol(supernet(mx.sym.Variable("data")), (1, 3, options.crop, options.crop))
        memory = "the paper's search: 4.3G"
        cli.print_scene_dry_run(options, build(start), loss, cost, [steps], memory=memory)
        return
    if (options.pretrained is None) == (options.pretrain_epochs == 0):
        raise ValueError(
            "the supernet needs a start: give --pretrained RUN or --pretrain-epochs N, one of them"
        )
    scenes = cli.training_scenes(options, [options.data_set])
    labels = np.zeros(len(scenes), int)
    parts = split(None, labels, settings.split or (1,), options.seed)
    loaders = [
        SceneLoader(scenes, part, options.batch_size, crop, options.seed, stream, options.workers)
        for stream, part in enumerate(parts)
    ]
    mx.random.seed(options.seed)
    lambda_data = loaders[1] if settings.split else None
    search = Search(
        build,
        start,
        loaders[0],
        lambda_data,
        settings,
        devices,
        loss,
        cli.progress,
        mirror,
        workers=workers,
    )
    source = options.pretrained and parameters_file(options.pretrained, pretrained=True)
    cli.search_to_end(
        options,
        search,
        before=lambda run: cli.take_backbone(run, search.net, source),
        data=name,
        pretrained=source and digest(source),
    )


if __name__ == "__main__":
    cli.run(main, arguments())
