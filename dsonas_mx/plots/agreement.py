"""λ of each connection over the seeds of a search, sorted: how far they agree."""

from typing import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..space.normal import INPUT, OPERATIONS, SearchSpace
from .style import (
    COLOURS,
    FAINT,
    GONE,
    LEGEND,
    TEXT,
    kind,
    kind_handles,
    set_margins,
    style_axes,
    write_title,
)

_DRAWS = 200  # of λ in random order
_COLUMNS = 3  # of blocks, in the full scope


def draw_agreement(space: SearchSpace, lambdas: np.ndarray, notes: Sequence[str]) -> Figure:
    """A panel a structure: a dot for λ of each connection and seed, connections by their mean.

    The black line is the mean over the seeds; the dashed one what it would be if each seed had its
    λ in random order. The further apart, the more do the seeds agree.

    Parameters
    ----------
    space : SearchSpace
    lambdas : array, seeds × structures × connections
    notes : sequence of str
        Below the title.

    Raises
    ------
    ValueError
        Not of the space, or of one seed only.
    """
    shape = (space.num_structures, len(space.connections))
    if lambdas.ndim != 3 or lambdas.shape[1:] != shape or len(lambdas) < 2:
        raise ValueError(f"λ must be of two seeds or more, each {shape}, got {lambdas.shape}")
    columns = min(_COLUMNS, shape[0])
    rows = -(-shape[0] // columns)
    width, height = (9.6, 5.6) if columns == 1 else (4.2 * columns, 2.6 * rows + 2.0)
    figure = Figure(figsize=(width, height), facecolor="white")
    set_margins(figure, 0.75, 0.3, 1.25, 1.05, hspace=0.45)
    top = float(lambdas.max()) or 1.0
    for structure in range(shape[0]):
        axes = figure.add_subplot(rows, columns, structure + 1)
        _paint(axes, space, lambdas[:, structure])
        axes.set_ylim(-0.03 * top, 1.05 * top)
        if shape[0] > 1:
            stage, block = space.block_positions[structure]
            axes.set_title(f"stage {stage}, block {block}", size=9.5, color=TEXT, loc="left")
        if not structure % columns:
            axes.set_ylabel("λ")
        if structure >= shape[0] - columns:
            axes.set_xlabel("connections, by mean λ")
    write_title(figure, f"λ of each connection, {len(lambdas)} seeds", notes)
    handles = kind_handles([INPUT, *(name for name in OPERATIONS if name in space.operations)])
    handles.append(Line2D([], [], color=TEXT, linewidth=1.6, label="mean"))
    handles.append(
        Line2D([], [], color=FAINT, linewidth=1.4, linestyle="--", label="mean in random order")
    )
    figure.legend(handles=handles, **LEGEND)
    return figure


def _paint(axes: Axes, space: SearchSpace, lambdas: np.ndarray) -> None:
    mean = lambdas.mean(0)
    order = np.argsort(-mean, kind="stable")
    places = np.arange(len(order))
    axes.vlines(places, lambdas.min(0)[order], lambdas.max(0)[order], color=GONE, linewidth=0.7)
    colours = [COLOURS[kind(space.connections[index].source)] for index in order]
    for seed in lambdas:
        axes.scatter(places, seed[order], s=11, c=colours, linewidth=0, alpha=0.75, zorder=2)
    axes.plot(places, mean[order], color=TEXT, linewidth=1.6, zorder=3, gid="mean")
    axes.plot(places, _by_chance(lambdas), color=FAINT, linewidth=1.4, linestyle="--", gid="chance")
    style_axes(axes, places)


def _by_chance(lambdas: np.ndarray) -> np.ndarray:
    """The sorted mean of seeds whose λ are each in random order."""
    generator = np.random.RandomState(0)
    drawn = [
        np.sort(np.mean([generator.permutation(seed) for seed in lambdas], axis=0))[::-1]
        for _ in range(_DRAWS)
    ]
    return np.mean(drawn, axis=0)
