#!/usr/bin/env python
"""Train the network of an architecture from scratch on CIFAR, and export it.

The run folder gets model.params, the deployable pair model-symbol.json and model-0000.params,
metrics.csv, log.txt, and checkpoints to resume from.
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
from dsonas_mx.latency.measure import NetworkLatency
from dsonas_mx.training.fit import Fit, FitOptions
from dsonas_mx.training.loss import cross_entropy, with_auxiliary

import mxnet as mx

from symbols import architectures, get_model

DEMO = {
    "data_set": "fashion_mnist",
    "batch_size": 64,
    "num_epochs": 6,
    "period": 6,
    "dropout": 0.0,
    "drop_path": 0.0,
    "cutout": 0,
    "auxiliary": 0.0,
    "save_dir": "runs/demo/train",
}


def arguments() -> cli.Parser:
    parser = cli.Parser(description=__doc__)
    cli.add_data(parser)
    cli.add_devices(parser)
    network = cli.add_network(parser, "cifar", architectures.find)
    network.add_argument("--dropout", type=float, default=0.4, help="before the classifier")
    network.add_argument(
        "--drop-path", type=float, default=0.5, help="rate at the end, behind the last block"
    )
    network.add_argument(
        "--auxiliary", type=float, default=0.4, help="weight of the auxiliary tower; 0 for none"
    )
    fit = parser.add_argument_group("training")
    fit.add_argument("--num-epochs", type=int, default=630)
    fit.add_argument("--lr", type=float, default=0.05, help="at the start of each period")
    fit.add_argument("--final-lr", type=float, default=0.001, help="at the end of each period")
    fit.add_argument("--period", type=int, default=10, help="epochs of the first cosine")
    fit.add_argument("--factor", type=int, default=2, help="growth of the period")
    fit.add_argument("--momentum", type=float, default=0.9)
    fit.add_argument("--wd", type=float, default=3e-4, help="weight decay")
    fit.add_argument("--cutout", type=int, default=16, help="side of the square; 0 for none")
    fit.add_argument(
        "--validation",
        type=int,
        default=0,
        help="so many training images to test on instead of the test images; 0 for none",
    )
    cli.add_memory(parser, mirror="off")
    cli.add_run(parser, "runs/train_cifar")
    return parser


def main(options: argparse.Namespace) -> None:
    cli.check_options(options)
    settings = FitOptions(
        num_epochs=options.num_epochs,
        learning_rate=options.lr,
        final_learning_rate=options.final_lr,
        period=options.period,
        factor=options.factor,
        momentum=options.momentum,
        weight_decay=options.wd,
    )
    workers, devices = cli.connect(options)
    data = DATA_SETS[cli.data_set(options)]
    num_train = cli.left(data.num_train, options.validation)
    steps = cli.fit_steps(options, num_train) if options.dry_run else 0
    loss = with_auxiliary(options.auxiliary) if options.auxiliary else cross_entropy
    mirror = parse_mirror(options.mirror)
    latency = NetworkLatency(lambda found: get_model("dsonas", found), devices[0])
    architecture = cli.load_network(options, dso.SearchSpace.cifar10(), data, latency)
    net = get_model(
        "dsonas",
        architecture,
        dropout=options.dropout,
        auxiliary=options.auxiliary != 0,
        drop_path=options.drop_path,
    )
    if options.dry_run:
        cli.print_dry_run(options, net, loss, architecture, steps)
        return
    images, test_images, augmentation = cli.load_images(
        options, cutout=options.cutout, validation=options.validation
    )
    mx.random.seed(options.seed)
    net.initialize(ctx=devices)
    test_data = Loader(
        test_images, None, options.batch_size, augmentation.plain(), shuffle=False, drop_last=False
    )
    train_data = Loader(images, None, options.batch_size, augmentation, options.seed)
    fit = Fit(net, train_data, test_data, settings, devices, loss, cli.progress, mirror, workers)
    cli.train_to_end(options, fit, architecture, lambda: get_model("dsonas", architecture))


if __name__ == "__main__":
    cli.run(main, arguments(), DEMO)
