"""Error against what networks cost, with and without a budget (Fig. 8)."""

from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from .style import FAINT, LEGEND, set_margins, style_axes, write_title

COSTS = {
    "multiply_adds": "multiply-adds",
    "parameters": "parameters",
    "memory_access": "memory access, numbers",
}
# Okabe and Ito's colours, and shapes for who does not see them.
BUDGETS: Dict[str, Any] = {
    "none": ("no budget", "#404040", "o"),
    "flops": ("adaptive FLOPs", "#0072B2", "s"),
    "mac": ("adaptive MAC", "#D55E00", "^"),
    "latency": ("adaptive latency", "#009E73", "D"),
}
_MOST_NAMED = 12  # points that are all named


class Point(NamedTuple):
    """A trained network: the budget and scope it was searched with, its error, what it costs, and
    its name.

    The error is a fraction; `costs` has the keys of `COSTS`.
    """

    budget: str
    scope: str
    error: float
    costs: Mapping[str, float]
    name: str = ""


def draw_pareto(points: Sequence[Point]) -> Figure:
    """Test error against multiply-adds, parameters and memory access, a panel each.

    A line joins the networks of a budget that no other of it beats in both. Names are at all points
    if they are few, else at those of the lines.

    Raises
    ------
    ValueError
        No point, a budget that is not known, or a number that is not finite.
    """
    if not points:
        raise ValueError("no network to draw")
    for point in points:
        if point.budget not in BUDGETS:
            raise ValueError(f"budget must be {', '.join(BUDGETS)}, got {point.budget!r}")
        if not np.isfinite([point.error, *(point.costs[name] for name in COSTS)]).all():
            raise ValueError("errors and costs must be finite")
    figure = Figure(figsize=(13, 4.9), facecolor="white")
    set_margins(figure, 0.75, 0.4, 1.15, 1.25, wspace=0.2)
    for position, (name, label) in enumerate(COSTS.items()):
        axes = figure.add_subplot(1, 3, position + 1)
        for budget in BUDGETS:
            some = [point for point in points if point.budget == budget]
            _paint(axes, name, budget, some, len(points) <= _MOST_NAMED)
        style_axes(axes, np.zeros(2))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))  # as the marks need
        axes.margins(0.12)
        axes.set_xlabel(label)
        if not position:
            axes.set_ylabel("test error")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, **LEGEND)
    scopes = " and ".join(sorted({point.scope for point in points}))
    networks = f"{len(points)} network{'' if len(points) == 1 else 's'}"
    write_title(figure, "Error against cost", [f"{scopes} scope", networks])
    return figure


def front(costs: Sequence[float], errors: Sequence[float]) -> List[int]:
    """Which points no other beats in cost and error, by rising cost."""
    best: List[int] = []
    for index in np.lexsort((errors, costs)):
        if not best or errors[index] < errors[best[-1]]:
            best.append(int(index))
    return best


def _paint(axes: Axes, name: str, budget: str, points: Sequence[Point], all_named: bool) -> None:
    if not points:
        return
    label, colour, marker = BUDGETS[budget]
    costs = [point.costs[name] for point in points]
    errors = [point.error for point in points]
    best = front(costs, errors)
    axes.plot(
        *([values[i] for i in best] for values in (costs, errors)),
        color=colour,
        linewidth=1.4,
        alpha=0.7,
        zorder=2,
        gid=f"front of {budget}",
    )
    axes.scatter(
        costs,
        errors,
        s=34,
        color=colour,
        marker=marker,
        edgecolor="white",
        linewidth=0.7,
        zorder=3,
        label=label,
        gid=budget,
    )
    for index in range(len(points)) if all_named else best:
        axes.annotate(
            points[index].name,
            (costs[index], errors[index]),
            (4, 4),
            textcoords="offset points",
            size=7.5,
            color=FAINT,
            annotation_clip=True,
        )
