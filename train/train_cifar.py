#!/usr/bin/env python
"""Train the network of an architecture from scratch on CIFAR, and export it.

The run folder gets model.params, the deployable pair model-symbol.json and model-0000.params,
metrics.csv, log.txt, and checkpoints to resume from.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Mapping

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx import SearchSpace
from dsonas_mx.cli import data, machine, parser, presets
from dsonas_mx.cli import options as cli
from dsonas_mx.io.options import Groups, group

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


@dataclass(frozen=True)
class Options(Groups):
    data: cli.ImageOptions = group(cli.ImageOptions(), "data")
    devices: machine.DeviceOptions = group(machine.DeviceOptions(), "devices")
    network: cli.ImageNetworkOptions = group(
        cli.ImageNetworkOptions(), "network", help=cli.sizes("target_params", "3.0M")
    )
    training: cli.ImageTrainingOptions = group(cli.ImageTrainingOptions(), "training")
    memory: machine.MemoryOptions = group(machine.MemoryOptions(), "memory")
    run: machine.RunOptions = group(machine.RunOptions("runs/train_cifar"), "run folder")

    @classmethod
    def implied(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return presets.of_training(values, cli.images_of(values))


def arguments() -> parser.Parser:
    return parser.Parser(Options, description=__doc__)


def main(options: Options) -> None:
    from dsonas_mx.cli import devices, dry_run, network, training
    from dsonas_mx.latency.measure import NetworkLatency
    from dsonas_mx.training.loss import cross_entropy, with_auxiliary

    from symbols import architectures, get_model

    images, how = options.data, options.training
    setup = devices.setup_of(options)
    num_train = data.left(images.about.num_train, how.validation)
    steps = dry_run.fit_steps(images.batch_size, num_train) if options.memory.dry_run else 0
    latency = NetworkLatency(lambda found: get_model("dsonas", found), setup.contexts[0])
    notes: List[str] = []
    architecture, options = network.load_network(
        options, SearchSpace.cifar10(), images.about, latency, architectures.find, notes.append
    )
    auxiliary = options.network.auxiliary
    loss = with_auxiliary(auxiliary) if auxiliary else cross_entropy
    net = get_model(
        "dsonas",
        architecture,
        dropout=options.network.dropout,
        auxiliary=auxiliary != 0,
        drop_path=options.network.drop_path,
    )
    if options.memory.dry_run:
        dry_run.print_dry_run(setup, net, architecture, images.batch_size, steps, loss, notes)
        return
    loaders = data.fit_loaders(images, how.cutout, how.validation)
    notes += presets.advice(images.preset, num_train, how.num_epochs, architecture.space.width)
    training.train_to_end(
        options,
        net,
        lambda: get_model("dsonas", architecture),
        loaders,
        setup,
        images.told,
        loss=loss,
        notes=notes,
    )


if __name__ == "__main__":
    parser.run(main, arguments(), DEMO)
