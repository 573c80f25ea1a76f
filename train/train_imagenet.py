#!/usr/bin/env python
"""Train the network of an architecture from scratch on ImageNet, and export it (section 4.3).

The architecture is of the normal or of the mobile setting. If it was found on CIFAR, its blocks go
into the paper's network for ImageNet. The run folder gets model.params, the deployable pair
model-symbol.json and model-0000.params, metrics.csv, log.txt, and checkpoints to resume from.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import List

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx import SearchSpace
from dsonas_mx.cli import imagenet, machine, parser
from dsonas_mx.cli import options as cli
from dsonas_mx.io.options import Groups, group
from dsonas_mx.space.mobile_architecture import MobileArchitecture

DEMO = {
    "image_size": 64,
    "num_samples": 800,
    "batch_size": 32,
    "num_epochs": 4,
    "lr": 0.05,
    "auxiliary": 0.0,
    "save_dir": "runs/small/train_imagenet",
}


@dataclass(frozen=True)
class Options(Groups):
    data: cli.RecordOptions = group(cli.RecordOptions(batch_size=1024), "data")
    devices: machine.DeviceOptions = group(machine.DeviceOptions(), "devices")
    precision: machine.PrecisionOptions = group(machine.PrecisionOptions())
    network: cli.TowerOptions = group(
        cli.TowerOptions(), "network", help=cli.sizes("target_flops", "600M")
    )
    training: cli.SmoothedOptions = group(
        cli.SmoothedOptions(240, 0.5, 0.0, weight_decay=4e-5, schedule="linear", top5=True),
        "training",
        without=("final_learning_rate", "period", "factor"),
        help={"learning_rate": "of the first epoch; then linear to 0"},
    )
    memory: machine.MemoryOptions = group(machine.MemoryOptions(), "memory")
    run: machine.RunOptions = group(machine.RunOptions("runs/train_imagenet"), "run folder")


def arguments() -> parser.Parser:
    return parser.Parser(Options, description=__doc__)


def main(options: Options) -> None:
    from dsonas_mx.cli import devices, dry_run, network, training
    from dsonas_mx.latency.measure import NetworkLatency
    from dsonas_mx.training.loss import smoothed, with_auxiliary

    from symbols import architectures, network_of

    size = options.data.batch_size
    setup = devices.setup_of(options)
    data = imagenet.opened(options)
    options = data.options
    steps = dry_run.fit_steps(size, data.about.num_train) if options.memory.dry_run else 0
    latency = NetworkLatency(network_of, setup.contexts[0])
    notes: List[str] = []
    architecture, options = network.load_network(
        options, SearchSpace.imagenet(), data.about, latency, architectures.find, notes.append
    )
    if isinstance(architecture, MobileArchitecture):  # where would its tower stand?
        options = options.but("network", auxiliary=0.0)
    auxiliary = options.network.auxiliary
    net = network_of(architecture, **({"auxiliary": True} if auxiliary else {}))
    smooth = smoothed(options.training.label_smoothing)
    loss = with_auxiliary(auxiliary, smooth) if auxiliary else smooth
    if options.memory.dry_run:
        dry_run.print_dry_run(setup, net, architecture, size, steps, loss, notes)
        return
    training.train_to_end(
        options,
        net,
        lambda: network_of(architecture),
        imagenet.fit_loaders(data),
        setup,
        data.told,
        loss=loss,
        notes=notes,
    )


if __name__ == "__main__":
    parser.run(main, arguments(), DEMO)
