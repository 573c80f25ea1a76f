"""The budget that options ask for."""

from typing import Any, Callable, Optional, Tuple

import mxnet as mx

from ..latency.deductions import Deductions
from ..latency.mobile import OperationLatency
from ..latency.table import Table
from ..search.budget import Budget, Measure, make_budget
from ..search.options import BudgetOptions
from ..search.target import FLOPsTarget, OneOperation
from ..space.normal import SearchSpace


def budget(
    options: BudgetOptions, gamma: float, space: SearchSpace, measure: Measure
) -> Tuple[Budget, Optional[FLOPsTarget]]:
    """The budget, of a complete `options.budget`, and the target.

    Budget latency uses the table of the options, which must be one of `space`, or else `measure`.
    """
    assert options.budget is not None
    if options.latency_table is not None:
        if options.budget != "latency":
            raise ValueError(f"--latency-table is of budget latency, not of {options.budget}")
        measure = Table.load(options.latency_table, space)
    latency = measure if options.budget == "latency" else None
    flops = options.search_flops
    return (
        make_budget(options.budget, gamma, options.gamma0, latency),
        None if flops is None else FLOPsTarget(flops),
    )


def mobile_budget(options: BudgetOptions, gamma: float, measure: Callable[[Any], Any]) -> Budget:
    """The budget of the mobile setting: latency or none."""
    if options.budget not in ("none", "latency"):
        raise ValueError(f"--budget {options.budget} is for the normal setting: latency or none")
    for name in ("latency_table", "search_flops"):
        if getattr(options, name) is not None:
            raise ValueError(f"`{name}` is for the normal setting: leave it out")
    latency = measure if options.budget == "latency" else None
    return make_budget(options.budget, gamma, options.gamma0, latency)


def of_setting(
    options: Any, space: Any, build: Any, operation: Any, device: mx.Context
) -> Tuple[Budget, Optional[Any]]:
    """The budget and the target of a space of the normal or of the mobile setting.

    Parameters
    ----------
    build : callable
        The network of an architecture.
    operation : callable
        An operation of the mobile setting, alone: see `OperationLatency`.
    """
    gamma = options.search.gamma
    if isinstance(space, SearchSpace):
        return budget(options.budget, gamma, space, Deductions(build, device))
    batch_size = 8 if device.device_type == "gpu" else 1  # as in table 3
    latency = OperationLatency(operation, device, batch_size)
    return mobile_budget(options.budget, gamma, latency), OneOperation()
