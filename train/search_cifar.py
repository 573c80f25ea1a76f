#!/usr/bin/env python
"""Search an architecture on CIFAR by DSO-NAS; the defaults are the paper's (section 4.2).

The run folder gets architecture.json, lambdas.csv (λ by epoch), metrics.csv, the supernet's
model.params, log.txt, and checkpoints to resume from; with a budget of latency gammas.csv (γ by
epoch).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dsonas_mx as dso
from dsonas_mx import cli
from dsonas_mx.data import DATA_SETS
from dsonas_mx.data.loader import Loader
from dsonas_mx.engine.recompute import parse_mirror
from dsonas_mx.latency.deductions import Deductions
from dsonas_mx.search.search import Search
from dsonas_mx.space.normal import parse_blocks
from dsonas_mx.training.loss import cross_entropy

import mxnet as mx
from mxnet.gluon import HybridBlock

from symbols import get_model

DEMO = {
    "data_set": "fashion_mnist",
    "blocks": "1",
    "width": 8,
    "batch_size": 64,
    "pretrain_epochs": 3,
    "num_epochs": 12,
    "shrink_every": 2,
    "patience": 4,
    "gamma": 0.01,
    "mirror": "off",
    "save_dir": "runs/demo/search",
}


def arguments() -> cli.Parser:
    parser = cli.Parser(description=__doc__)
    cli.add_data(parser)
    cli.add_devices(parser)
    space = parser.add_argument_group("search space")
    space.add_argument("--scope", choices=("share", "full"), default="share")
    space.add_argument("--levels", type=int, default=4, help="M, levels of a block")
    space.add_argument("--operations", default="sep3,sep5,max,avg", help="of a level; also sep7")
    space.add_argument("--blocks", default="8", help="blocks a stage: a number, or one a stage")
    space.add_argument("--width", type=int, default=48, help="channels of the first stage")
    search = cli.add_search(
        parser, epochs=(120, 120), split="1:1", wd=3e-4, gamma=0.001, shrink_every=5
    )
    search.add_argument(
        "--split-files",
        metavar="DIR",
        help="the samples of both parts: train1.rec and train2.rec of prepare_data.py",
    )
    cli.add_budget(parser)
    cli.add_memory(parser, mirror="auto")
    cli.add_run(parser, "runs/search_cifar")
    return parser


def main(options: argparse.Namespace) -> None:
    cli.check_options(options)
    settings = cli.search_settings(options)
    parts = settings.split
    workers, devices = cli.connect(options)
    mirror = parse_mirror(options.mirror)
    data = DATA_SETS[cli.data_set(options)]
    space = dso.SearchSpace.cifar10(
        scope=options.scope,
        levels=options.levels,
        operations=options.operations.split(","),
        blocks=parse_blocks(options.blocks, 3),
        width=options.width,
        num_classes=len(data.classes),
        in_channels=data.channels,
        image_size=data.image_size,
    )
    budget, target = cli.budget(
        options, space, Deductions(lambda found: get_model("dsonas", found), devices[0])
    )
    start = dso.Architecture.complete(space, cli.origin(options))

    def build(architecture: dso.Architecture) -> HybridBlock:
        return get_model("dsonas", architecture, weighted=True, fix_gamma=options.fix_gamma)

    if options.dry_run:
        steps = cli.search_steps(options, data.num_train, parts)
        cli.print_dry_run(options, build(start), cross_entropy, start, steps)
        return
    augmentation = cli.augmentation(options)
    loaders = [
        Loader(images, part, options.batch_size, augmentation, options.seed, stream=stream)
        for stream, (images, part) in enumerate(cli.load_search_images(options, parts))
    ]
    mx.random.seed(options.seed)
    lambda_data = loaders[1] if parts else None
    search = Search(
        build,
        start,
        loaders[0],
        lambda_data,
        settings,
        devices,
        cross_entropy,
        cli.progress,
        mirror,
        budget,
        target,
        workers,
    )
    cli.search_to_end(options, search, target)


if __name__ == "__main__":
    cli.run(main, arguments(), DEMO)
