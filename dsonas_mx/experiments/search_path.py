"""The way of a search: the architectures it went through, from the run folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..io.files import PathLike
from ..plots.table import read_table
from ..space.architecture import Architecture
from ..space.scales import Scales


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

    def found(vector: np.ndarray) -> Architecture:
        return Architecture.from_scales(Scales(end.space, vector), end.origin)

    counts = [found(scales).num_connections for scales in epochs]
    if max(counts) < connections:
        raise ValueError(f"{run}: no epoch of the search had {connections} connections")
    last = max(epoch for epoch, kept in enumerate(counts) if kept >= connections)
    size = end.space.num_connections
    following = epochs[min(last + 1, len(epochs) - 1)]  # decides between equal ones
    order = np.lexsort((following[:size], epochs[last, :size]))

    def without(number: int) -> Architecture:
        scales = epochs[last].copy()
        scales[order[:number]] = 0
        return found(scales)

    low, high = -1, size  # without the first `low` there are too many, without `high` not
    while high - low > 1:
        middle = (low + high) // 2
        if without(middle).num_connections > connections:
            low = middle
        else:
            high = middle
    return without(high)
