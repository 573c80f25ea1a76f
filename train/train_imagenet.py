#!/usr/bin/env python
"""Train the network of an architecture from scratch on ImageNet, and export it (section 4.3).

The architecture is of the normal or of the mobile setting. If it was found on CIFAR, its blocks go
into the paper's network for ImageNet. The run folder gets model.params, the deployable pair
model-symbol.json and model-0000.params, metrics.csv, log.txt, and checkpoints to resume from.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx import cli
from dsonas_mx.engine.recompute import parse_mirror
from dsonas_mx.latency.measure import NetworkLatency
from dsonas_mx.space.mobile_architecture import MobileArchitecture
from dsonas_mx.training.fit import Fit, FitOptions
from dsonas_mx.training.loss import smoothed, with_auxiliary

import mxnet as mx

from symbols import architectures, network_of

DEMO = {
    "image_size": 64,
    "num_samples": 800,
    "batch_size": 32,
    "num_epochs": 4,
    "lr": 0.05,
    "auxiliary": 0.0,
    "save_dir": "runs/small/train_imagenet",
}


def arguments() -> cli.Parser:
    parser = cli.Parser(description=__doc__)
    cli.add_imagenet(parser, batch_size=1024)
    cli.add_devices(parser)
    cli.add_dtype(parser)
    network = cli.add_network(parser, "imagenet", architectures.find)
    network.add_argument(
        "--auxiliary", type=float, default=0.4, help="weight of the tower; 0, and mobile: none"
    )
    fit = parser.add_argument_group("training")
    fit.add_argument("--num-epochs", type=int, default=240)
    fit.add_argument("--lr", type=float, default=0.5, help="of the first epoch; then linear to 0")
    fit.add_argument("--momentum", type=float, default=0.9)
    fit.add_argument("--wd", type=float, default=4e-5, help="weight decay")
    fit.add_argument("--label-smoothing", type=float, default=0.1)
    cli.add_memory(parser, mirror="off")
    cli.add_run(parser, "runs/train_imagenet")
    return parser


def main(options: argparse.Namespace) -> None:
    cli.check_options(options)
    settings = FitOptions(
        num_epochs=options.num_epochs,
        learning_rate=options.lr,
        final_learning_rate=0,
        schedule="linear",
        momentum=options.momentum,
        weight_decay=options.wd,
        top5=True,
    )
    cli.check_dtype(options)
    workers, devices = cli.connect(options)
    data = cli.imagenet(options)
    steps = cli.fit_steps(options, data.num_train) if options.dry_run else 0
    latency = NetworkLatency(network_of, devices[0])
    architecture = cli.load_imagenet_network(options, latency)
    if isinstance(architecture, MobileArchitecture):
        options.auxiliary = 0.0  # the paper does not say where the tower would stand
        net = network_of(architecture)
    else:
        net = network_of(architecture, auxiliary=options.auxiliary != 0)
    loss = smoothed(options.label_smoothing)
    if options.auxiliary:
        loss = with_auxiliary(options.auxiliary, loss)
    mirror = parse_mirror(options.mirror)
    if options.dry_run:
        cli.print_dry_run(options, net, loss, architecture, steps)
        return
    (train_data,), test_data = cli.train_loaders(options), cli.test_loader(options)
    mx.random.seed(options.seed)
    net.initialize(ctx=devices)
    fit = Fit(
        net,
        train_data,
        test_data,
        settings,
        devices,
        loss,
        cli.progress,
        mirror,
        workers,
        options.dtype,
    )
    skipped = cli.Skipped(train_data, test_data)
    cli.train_to_end(options, fit, architecture, lambda: network_of(architecture), skipped.log)


if __name__ == "__main__":
    cli.run(main, arguments(), DEMO)
