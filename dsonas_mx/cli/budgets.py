"""Options of budgets."""

from __future__ import annotations

import argparse
from typing import Any, Callable, Optional, Tuple

from ..latency.table import Table
from ..search.budget import BUDGETS, Constant, Measure, default_budget, make_budget
from ..search.target import FLOPsTarget
from ..space.normal import SearchSpace
from .parser import number


def add_budget(parser: argparse.ArgumentParser) -> None:
    """`--budget`, `--gamma0`, `--latency-table` and `--search-flops`."""
    group = parser.add_argument_group("budget")
    group.add_argument(
        "--budget",
        choices=BUDGETS,
        help="what adapts γ by connection; if none is given flops in the full scope",
    )
    group.add_argument("--gamma0", type=float, help="γ0 of budget latency; half of γ if not given")
    group.add_argument(
        "--latency-table",
        help="of tools/measure_latency.py, for budget latency; measured each epoch if not given",
    )
    group.add_argument(
        "--search-flops",
        type=number,
        help="beyond the paper: adapt γ so that the search ends within 5%% of these multiply-adds",
    )


def budget(
    options: argparse.Namespace, space: SearchSpace, measure: Measure
) -> Tuple[Constant, Optional[FLOPsTarget]]:
    """The budget and the target of the options.

    Budget latency uses the table of the options, which must be one of `space`, or else `measure`.
    """
    options.budget = options.budget or default_budget(options.scope)  # for the record
    if options.latency_table is not None:
        if options.budget != "latency":
            raise ValueError(f"--latency-table is of budget latency, not of {options.budget}")
        measure = Table.load(options.latency_table, space)
    latency = measure if options.budget == "latency" else None
    flops = options.search_flops
    return (
        make_budget(options.budget, options.gamma, options.gamma0, latency),
        None if flops is None else FLOPsTarget(flops),
    )


def mobile_budget(options: argparse.Namespace, measure: Callable[[Any], Any]) -> Constant:
    """The budget of the mobile setting: latency, by default, or none."""
    options.budget = options.budget or "latency"
    if options.budget not in ("none", "latency"):
        raise ValueError(f"--budget {options.budget} is for the normal setting: latency or none")
    for name in ("latency_table", "search_flops"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is for the normal setting: leave it out")
    latency = measure if options.budget == "latency" else None
    return make_budget(options.budget, options.gamma, options.gamma0, latency)
