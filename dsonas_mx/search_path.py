"""The way of a search: the architectures it went through, from the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import numpy as np

from .architecture import Architecture
from .files import PathLike
from .plots.table import read_table


def with_connections(run: PathLike, connections: int) -> Architecture:
    """The architecture of a search when it had so many connections, to compare searches there.

    Of the last epoch with as many or more, without those of the smallest λ. What dangles goes with
    them, so it may have a few less. A search that never had so few gives its last one.

    Parameters
    ----------
    run : path
        A run folder with ``architecture.json`` and ``lambdas.csv``.

    Raises
    ------
    ValueError
        No epoch had so many, or a file is damaged.
    """
    end = Architecture.load(Path(run) / "architecture.json")
    if end.num_connections > connections:
        return end
    table = read_table(Path(run) / "lambdas.csv")
    epochs = np.stack([values for name, values in table.items() if name != "epoch"], axis=1)
    found = _finder(end)
    enough = [scales for scales in epochs if found(scales).num_connections >= connections]
    if not enough:
        raise ValueError(f"{run}: no epoch of the search had {connections} connections")
    scales = enough[-1]
    levels = np.unique(np.append(scales[: end.space.num_connections], 0.0))
    thinner = (found(np.where(scales > level, scales, 0.0)) for level in levels)
    return next(one for one in thinner if one.num_connections <= connections)


def _finder(end: Architecture) -> Callable[[np.ndarray], Architecture]:
    space, size = end.space, end.space.num_connections

    def found(scales: np.ndarray) -> Architecture:
        rows = scales[:size].reshape(space.num_structures, -1)
        branches = scales[size:].reshape(space.num_reductions, 2)
        return Architecture.from_lambdas(space, rows, branches, end.origin)

    return found
