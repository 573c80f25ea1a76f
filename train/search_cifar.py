#!/usr/bin/env python
"""Search an architecture on CIFAR by DSO-NAS; the defaults are the paper's (section 4.2).

The run folder gets architecture.json, lambdas.csv (λ by epoch), metrics.csv, the supernet's
model.params, log.txt, and checkpoints to resume from; with a budget of latency gammas.csv (γ by
epoch).
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.cli import machine, parser, presets
from dsonas_mx.cli import options as cli
from dsonas_mx.cli.data import check_split_files, search_loaders
from dsonas_mx.io.options import Groups, group
from dsonas_mx.search.budget import default_budget
from dsonas_mx.search.options import BudgetOptions

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


@dataclass(frozen=True)
class Options(Groups):
    data: cli.ImageOptions = group(cli.ImageOptions(), "data")
    devices: machine.DeviceOptions = group(machine.DeviceOptions(), "devices")
    space: cli.SpaceOptions = group(cli.SpaceOptions(), "search space")
    search: cli.ImageSearchOptions = group(cli.ImageSearchOptions(), "search")
    budget: BudgetOptions = group(BudgetOptions(), "budget")
    memory: machine.MemoryOptions = group(machine.MemoryOptions("auto"), "memory")
    run: machine.RunOptions = group(machine.RunOptions("runs/search_cifar"), "run folder")

    @classmethod
    def implied(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return presets.of_search(values, cli.images_of(values))


def arguments() -> parser.Parser:
    return parser.Parser(Options, description=__doc__)


def main(options: Options) -> None:
    from dsonas_mx.cli import budgets, devices, dry_run, run, search
    from dsonas_mx.latency.deductions import Deductions

    from symbols import get_model

    images, how = options.data, options.search
    check_split_files(images, how.split, how.split_files)
    name = options.budget.budget or default_budget(options.space.scope)
    options = options.but("budget", budget=name)
    setup = devices.setup_of(options)
    known = images.about
    space = SearchSpace.cifar10(**options.space.fields(3), **known.images())
    latency = Deductions(lambda found: get_model("dsonas", found), setup.contexts[0])
    budget, target = budgets.budget(options.budget, how.gamma, space, latency)
    origin = {**run.origin(options, images.name), **known.names()}
    start = Architecture.complete(space, origin)

    def build(found: Architecture) -> Any:
        return get_model("dsonas", found, weighted=True, fix_gamma=how.fix_gamma)

    if options.memory.dry_run:
        steps = dry_run.search_steps(images.batch_size, known.num_train, how.split)
        dry_run.print_dry_run(setup, build(start), start, images.batch_size, steps)
        return
    loaders = search_loaders(images, how.split, how.split_files)
    search.search_to_end(
        options, build, start, loaders, setup, images.told, budget=budget, target=target
    )


if __name__ == "__main__":
    parser.run(main, arguments(), DEMO)
