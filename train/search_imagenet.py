#!/usr/bin/env python
"""Search an architecture on ImageNet by DSO-NAS; the defaults are the paper's (section 4.3).

The normal setting has four levels of operations in blocks that share their structure or not; the
mobile setting (--space mobile-gpu, mobile-cpu) ends with one MBConv in every block.

The run folder gets architecture.json, lambdas.csv and gammas.csv (λ and γ by epoch), metrics.csv,
weights.lst and lambdas.lst (which records each part has), pretrained.params and model.params (of
the supernet, before and after the search), log.txt, and checkpoints to resume from.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli import imagenet, machine, parser
from dsonas_mx.cli import options as cli
from dsonas_mx.io.options import Groups, group
from dsonas_mx.search.options import BudgetOptions
from dsonas_mx.space.mobile_architecture import AnyArchitecture

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
PAPER = cli.SupernetOptions(30, 30, (4, 1), 1, weight_decay=4e-5, gamma=0.01)


@dataclass(frozen=True)
class Options(Groups):
    data: cli.RecordOptions = group(cli.RecordOptions(), "data")
    devices: machine.DeviceOptions = group(machine.DeviceOptions(), "devices")
    precision: machine.PrecisionOptions = group(machine.PrecisionOptions())
    setting: cli.SettingOptions = group(cli.SettingOptions(), "search space")
    space: cli.EitherSpaceOptions = group(cli.EitherSpaceOptions(), "search space")
    search: cli.SupernetOptions = group(PAPER, "search")
    budget: BudgetOptions = group(BudgetOptions(), "budget")
    memory: machine.MemoryOptions = group(machine.MemoryOptions("auto"), "memory")
    run: machine.RunOptions = group(machine.RunOptions("runs/search_imagenet"), "run folder")


def arguments() -> parser.Parser:
    return parser.Parser(Options, description=__doc__)


def main(options: Options) -> None:
    from dsonas_mx.cli import budgets, devices, dry_run, run, search

    from symbols import network_of
    from symbols.mobile import Operation

    size = options.data.batch_size
    setup = devices.setup_of(options)
    data = imagenet.opened(options)
    options, about = data.options, data.about
    space = imagenet.space_of(options)
    is_full = options.setting.is_normal and options.space.scope == "full"
    name = options.budget.budget or ("flops" if is_full else "latency")  # section 4.3
    options = options.but("budget", budget=name)
    start = imagenet.complete(space, {**run.origin(options, about.name), **about.names()})
    budget, target = budgets.of_setting(options, space, network_of, Operation, setup.contexts[0])

    def build(found: AnyArchitecture) -> Any:
        return network_of(found, weighted=True, fix_gamma=options.search.fix_gamma)

    if options.memory.dry_run:
        steps = dry_run.search_steps(size, about.num_train, options.search.split)
        dry_run.print_dry_run(setup, build(start), start, size, steps)
        return
    loaders = imagenet.train_loaders(data, options.search.split)
    search.search_to_end(
        options, build, start, loaders, setup, data.told, budget=budget, target=target
    )


if __name__ == "__main__":
    parser.run(main, arguments(), DEMO)
