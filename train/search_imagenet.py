#!/usr/bin/env python
"""Search an architecture on ImageNet by DSO-NAS; the defaults are the paper's (section 4.3).

The normal setting has four levels of operations in blocks that share their structure or not; the
mobile setting (--space mobile-gpu, mobile-cpu) ends with one MBConv in every block.

The run folder gets architecture.json, lambdas.csv and gammas.csv (λ and γ by epoch), metrics.csv,
weights.lst and lambdas.lst (which records each part has), pretrained.params and model.params (of
the supernet, before and after the search), log.txt, and checkpoints to resume from.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx import Architecture, MobileSpace, SearchSpace
from dsonas_mx.cli import imagenet, parser
from dsonas_mx.cli import options as cli
from dsonas_mx.io.options import Groups, group, option
from dsonas_mx.search.options import BudgetOptions
from dsonas_mx.space.mobile import SKELETONS, STRIDES
from dsonas_mx.space.mobile_architecture import AnyArchitecture, MobileArchitecture
from dsonas_mx.space.normal import parse_blocks

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
class SettingOptions(cli.Options):
    space: str = option(
        "normal",
        "the normal setting, or a skeleton of the mobile one",
        choices=("normal", *SKELETONS),
    )


@dataclass(frozen=True)
class SpaceOptions(cli.SpaceOptions):
    blocks: Optional[str] = option(
        None, "blocks a stage; if none is given 2,2,13,6 or a skeleton's"
    )
    width_multiplier: float = option(1.0, "of a mobile space")


@dataclass(frozen=True)
class Options(Groups):
    data: cli.RecordOptions = group(cli.RecordOptions(), "data")
    devices: cli.DeviceOptions = group(cli.DeviceOptions(), "devices")
    precision: cli.PrecisionOptions = group(cli.PrecisionOptions())
    setting: SettingOptions = group(SettingOptions(), "search space")
    space: SpaceOptions = group(SpaceOptions(width=28), "search space")
    search: cli.SupernetOptions = group(PAPER, "search")
    budget: BudgetOptions = group(BudgetOptions(), "budget")
    memory: cli.MemoryOptions = group(cli.MemoryOptions("auto"), "memory")
    run: cli.RunOptions = group(cli.RunOptions("runs/search_imagenet"), "run folder")


def arguments() -> parser.Parser:
    return parser.Parser(Options, description=__doc__)


def space_of(options: Options) -> Any:
    """The space of the normal setting, or of the mobile setting, which takes no others' options."""
    images = {"num_classes": options.data.num_classes, "image_size": options.data.image_size}
    given, setting = options.space, options.setting.space
    if setting == "normal":
        return SearchSpace.imagenet(**given.fields(4, "2,2,13,6"), **images)
    for name in ("scope", "levels", "operations", "width"):
        if name in options.given:
            raise ValueError(f"`{name}` is for the normal setting, not for {setting}: leave it out")
    blocks = None if given.blocks is None else parse_blocks(given.blocks, len(STRIDES))
    return MobileSpace.skeleton(setting, given.width_multiplier, blocks, **images)


def main(options: Options) -> None:
    from dsonas_mx.cli import devices, dry_run, run, search

    from symbols import network_of

    run.check_run(options)
    space = space_of(options)
    is_full = options.setting.space == "normal" and options.space.scope == "full"
    name = options.budget.budget or ("flops" if is_full else "latency")  # section 4.3
    options = options.but("budget", budget=name)
    setup = devices.setup_of(options.devices, options.memory, options.precision)
    kind = Architecture if isinstance(space, SearchSpace) else MobileArchitecture
    start = kind.complete(space, run.origin(options, "imagenet"))
    budget, target = budget_of(options, space, setup.contexts[0])

    def build(found: AnyArchitecture) -> Any:
        return network_of(found, weighted=True, fix_gamma=options.search.fix_gamma)

    if options.memory.dry_run:
        num_train = imagenet.data_set(options.data).num_train
        batch, split = options.data.batch_size, options.search.split
        steps = dry_run.search_steps(batch, num_train, split)
        dry_run.print_dry_run(setup, build(start), start, batch, steps)
        return
    loaders = imagenet.train_loaders(options.data, options.search.split)
    search.search_to_end(
        options, build, start, loaders, setup, data="imagenet", budget=budget, target=target
    )


def budget_of(options: Options, space: Any, device: Any) -> Tuple[Any, Any]:
    """The budget and the target."""
    from dsonas_mx.cli import budgets
    from dsonas_mx.latency.deductions import Deductions
    from dsonas_mx.latency.mobile import OperationLatency
    from dsonas_mx.search.target import OneOperation

    from symbols import network_of
    from symbols.mobile import Operation

    gamma = options.search.gamma
    if isinstance(space, SearchSpace):
        return budgets.budget(options.budget, gamma, space, Deductions(network_of, device))
    batch_size = 8 if device.device_type == "gpu" else 1  # as in table 3
    latency = OperationLatency(Operation, device, batch_size)
    return budgets.mobile_budget(options.budget, gamma, latency), OneOperation()


if __name__ == "__main__":
    parser.run(main, arguments(), DEMO)
