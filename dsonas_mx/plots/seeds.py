"""A table of an experiment as a picture: every seed of its rows, and their means."""

from typing import Any, Dict, List, Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .style import COLOURS, FAINT, GONE, TEXT, style_axes, write_title

_MARK = COLOURS["sep3"]


def draw_seeds(results: Mapping[str, Any]) -> Figure:
    """Of each row that was run, a dot for every seed and a bar for their mean.

    A line joins the seed of a row with the same one of the row that it is compared with. Below the
    name of a row stands the mean difference, with its interval of 95 % where there is one.

    Parameters
    ----------
    results : mapping
        As ``results.json`` has them.

    Raises
    ------
    ValueError
        No row was run.
    """
    measure = results.get("measure", "test_error")
    rows = {name: row for name, row in results["rows"].items() if row["n"]}
    if not rows:
        raise ValueError("no run is done")
    figure = Figure(figsize=(max(2.1 * len(rows), 5.0) + 0.9, 4.3), facecolor="white")
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0.8 / width, 0.65 / height, 1 - 1.0 / width, 1 - 1.6 / height))
    values: Dict[str, Dict[int, float]] = {
        name: dict(zip(row["seeds"], row[measure]["values"])) for name, row in rows.items()
    }
    places = {name: place for place, name in enumerate(rows)}
    comparisons = results["comparisons"]
    for name, place in places.items():
        reference = comparisons.get(name, {}).get("reference")
        for seed, value in values[name].items():
            if seed in values.get(reference, {}):
                ends = [places[reference], place], [values[reference][seed], value]
                axes.plot(*ends, color=GONE, linewidth=0.8, zorder=1, gid="pair")
        across = [place] * len(values[name])
        axes.scatter(across, list(values[name].values()), s=30, color=_MARK, zorder=3, gid=name)
        mean = rows[name][measure]["mean"]
        axes.hlines(mean, place - 0.18, place + 0.18, color=TEXT, linewidth=2, zorder=4)
    style_axes(axes, np.arange(len(rows)))
    labels = [f"{name}\n{_difference(comparisons.get(name), measure)}" for name in rows]
    axes.set_xticks(range(len(rows)), labels, color=TEXT)
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylabel("mean IoU" if measure == "mean_iou" else "test error", color=FAINT)
    counts = sorted({row["n"] for row in rows.values()})
    seeds = " to ".join(str(count) for count in (counts[0], counts[-1])[: len(counts)])
    notes: List[str] = [f"scale {results['scale']}", f"n = {seeds}", "a line joins a seed"]
    write_title(figure, results["name"], notes)
    return figure


def _difference(compared: Any, measure: str) -> str:
    """In points."""
    found = (compared or {}).get(f"{measure.split('_')[-1]}_difference")
    if found is None:
        return ""
    mean = f"{100 * found['mean']:+.1f}"
    if compared["low"] is None:
        return mean
    return f"{mean} ({100 * compared['low']:+.1f} to {100 * compared['high']:+.1f})"
