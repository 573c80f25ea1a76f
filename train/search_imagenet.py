#!/usr/bin/env python
"""Search an architecture on ImageNet by DSO-NAS; the defaults are the paper's (section 4.3).

The normal setting has four levels of operations in blocks that share their structure or not; the
mobile setting (--space mobile-gpu, mobile-cpu) ends with one MBConv in every block.

The run folder gets architecture.json, lambdas.csv and gammas.csv (λ and γ by epoch), metrics.csv,
weights.lst and lambdas.lst (which records each part has), pretrained.params and model.params (of
the supernet, before and after the search), log.txt, and checkpoints to resume from.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dsonas_mx as dso
from dsonas_mx import cli
from dsonas_mx.engine.recompute import parse_mirror
from dsonas_mx.latency.deductions import Deductions
from dsonas_mx.latency.mobile import OperationLatency
from dsonas_mx.search.budget import Constant
from dsonas_mx.search.search import Search
from dsonas_mx.search.target import OneOperation
from dsonas_mx.space.mobile import SKELETONS, STRIDES, MobileSpace
from dsonas_mx.space.mobile_architecture import AnyArchitecture, MobileArchitecture
from dsonas_mx.space.normal import parse_blocks
from dsonas_mx.training.loss import cross_entropy

import mxnet as mx
from mxnet.gluon import HybridBlock

from symbols import network_of
from symbols.mobile import Operation

DEMO = {
    "image_size": 64,
    "num_samples": 1000,
    "batch_size": 20,
    "blocks": "1",
    "width": 8,
    "width_multiplier": 0.25,
    "pretrain_epochs": 1,
    "num_epochs": 6,
    "gamma": 0.03,
    "mirror": "off",
    "save_dir": "runs/small/search_imagenet",
}


def arguments() -> cli.Parser:
    parser = cli.Parser(description=__doc__)
    cli.add_imagenet(parser, batch_size=256)
    cli.add_devices(parser)
    cli.add_dtype(parser)
    space = parser.add_argument_group("search space")
    space.add_argument("--space", choices=("normal", *SKELETONS), default="normal")
    space.add_argument("--scope", choices=("share", "full"), default="share")
    space.add_argument("--levels", type=int, default=4, help="M, levels of a block")
    space.add_argument("--operations", default="sep3,sep5,max,avg", help="of a level; also sep7")
    space.add_argument("--blocks", help="blocks a stage; if none is given 2,2,13,6 or a skeleton's")
    space.add_argument("--width", type=int, default=28, help="channels of the first stage")
    space.add_argument("--width-multiplier", type=float, default=1.0, help="of a mobile space")
    cli.add_search(parser, epochs=(30, 30), split="4:1", wd=4e-5, gamma=0.01, shrink_every=1)
    cli.add_budget(parser)
    cli.add_memory(parser, mirror="auto")
    cli.add_run(parser, "runs/search_imagenet")
    return parser


Searched = Tuple[AnyArchitecture, Constant, Any]


def normal(options: argparse.Namespace, device: mx.Context) -> Searched:
    """The supernet, budget and target of the normal setting."""
    space = dso.SearchSpace.imagenet(
        scope=options.scope,
        levels=options.levels,
        operations=options.operations.split(","),
        blocks=parse_blocks(options.blocks or "2,2,13,6", 4),
        width=options.width,
        num_classes=options.num_classes,
        image_size=options.image_size,
    )
    if options.budget is None and options.scope == "share":
        options.budget = "latency"  # section 4.3
    budget, target = cli.budget(options, space, Deductions(network_of, device))
    return dso.Architecture.complete(space, cli.origin(options)), budget, target


def mobile(options: argparse.Namespace, device: mx.Context) -> Searched:
    """The supernet, budget and target of the mobile setting."""
    blocks = options.blocks and parse_blocks(options.blocks, len(STRIDES))
    images = {"num_classes": options.num_classes, "image_size": options.image_size}
    space = MobileSpace.skeleton(options.space, options.width_multiplier, blocks, **images)
    batch_size = 8 if device.device_type == "gpu" else 1  # as in table 3
    budget = cli.mobile_budget(options, OperationLatency(Operation, device, batch_size))
    return MobileArchitecture.complete(space, cli.origin(options)), budget, OneOperation()


def main(options: argparse.Namespace) -> None:
    cli.check_options(options)
    settings = cli.search_settings(options)
    cli.check_dtype(options)
    workers, devices = cli.connect(options)
    mirror = parse_mirror(options.mirror)
    data = cli.imagenet(options)
    searched = normal if options.space == "normal" else mobile
    start, budget, target = searched(options, devices[0])

    def build(architecture: AnyArchitecture) -> HybridBlock:
        return network_of(architecture, weighted=True, fix_gamma=options.fix_gamma)

    if options.dry_run:
        steps = cli.search_steps(options, data.num_train, settings.split)
        cli.print_dry_run(options, build(start), cross_entropy, start, steps)
        return
    loaders = cli.train_loaders(options, settings.split)
    mx.random.seed(options.seed)
    search = Search(
        build,
        start,
        loaders[0],
        loaders[1] if settings.split else None,
        settings,
        devices,
        cross_entropy,
        cli.progress,
        mirror,
        budget,
        target,
        workers,
        options.dtype,
    )
    cli.search_to_end(
        options,
        search,
        target,
        before=lambda run: cli.write_parts(run, loaders),
        after_epoch=cli.Skipped(*loaders).log,
    )


if __name__ == "__main__":
    cli.run(main, arguments(), DEMO)
