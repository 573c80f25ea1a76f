"""λ over the epochs of a search."""

import re
import sys
from typing import Dict, List, Mapping, NamedTuple, Sequence, Set

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..io.checks import shown
from ..space.mobile import OPERATIONS as MOBILE_OPERATIONS
from ..space.normal import INPUT, OPERATIONS, OUTPUT
from ..space.scales import ScaleName
from .style import (
    COLOURS,
    FAINT,
    GONE,
    LEAST_WIDTH,
    LEGEND,
    TEXT,
    Grid,
    dark,
    kind,
    kind_handles,
    style_axes,
    write_title,
)
from .table import Table, column_of

BRANCHES = {"1x1": "#CC79A7", "3x3": "#404040"}  # of a reduction
_CELL = 0.42  # inches of a heat map

_NODE = re.compile(rf"\d+\.(?:{'|'.join(OPERATIONS)})|{'|'.join(MOBILE_OPERATIONS)}")


class _Scale(NamedTuple):
    """A column of lambdas.csv."""

    name: str
    group: str  # '', 'stage1.block1' or 'reduction1'
    source: str
    target: str  # '' for a reduction, whose source is '1x1' or '3x3'


def draw_lambdas(table: Table) -> Figure:
    """λ over the epochs of a search.

    A line a connection, in the colour of its source, pale if λ is zero in the end. In the share
    scope also λ of the last epoch, source by target; in the full scope a panel a block. A
    connection whose λ is above zero, but which leads from or to an operation that is gone, does
    not count as kept; between two removals there may be such.

    Parameters
    ----------
    table : mapping of column to values
        As `read_table` gives it: ``epoch``, then a column a scale, such as ``input->2.sep3``,
        ``stage1.block1:input->2.sep3`` or ``reduction1.3x3``.

    Raises
    ------
    ValueError
        No row, or a column that is no scale.
    """
    epochs = column_of(table, "epoch")
    if not len(epochs):
        raise ValueError("no epoch yet")
    groups: Dict[str, Dict[_Scale, np.ndarray]] = {}
    for name in table:
        if name != "epoch":
            scale = _parse_scale(name)
            groups.setdefault(scale.group, {})[scale] = column_of(table, name)
    blocks = {name: lines for name, lines in groups.items() if not name.startswith("reduction")}
    reductions = {name: lines for name, lines in groups.items() if name.startswith("reduction")}
    if not blocks or ("" in blocks and len(blocks) > 1):
        raise ValueError("the columns must be those of one block, or of blocks with their stages")
    draw = _draw_shared if "" in blocks else _draw_panels
    figure = draw(epochs, blocks, reductions)
    kept = sum(len(_kept(lines)) for lines in blocks.values())
    above = sum(values[-1] > 0 for lines in blocks.values() for values in lines.values())
    total = sum(map(len, blocks.values()))
    is_mobile = any(scale.source in MOBILE_OPERATIONS for scale in next(iter(blocks.values())))
    title = f"{kept} of {total} connections kept"
    if is_mobile:
        title = f"{above} of {total} operations with λ above zero, in {len(blocks)} blocks"
    notes = [f"after {len(epochs)} epoch{'s' if len(epochs) > 1 else ''}"]
    if above > kept:
        notes.append(f"{above - kept} more have λ above zero, but lead from or to what is gone")
    write_title(figure, title, notes)
    kinds = {kind(scale.source) for lines in blocks.values() for scale in lines}
    names = [name for name in (INPUT, *OPERATIONS, *MOBILE_OPERATIONS) if name in kinds]
    handles = kind_handles(names, "" if is_mobile else "from ")
    handles.append(Line2D([], [], color=GONE, linewidth=1, label="pale: zero in the end"))
    figure.legend(handles=handles, **LEGEND)
    return figure


def _parse_scale(name: str) -> _Scale:
    try:
        group, source, target = ScaleName.parse(name)
        nodes = () if group.startswith("reduction") else {source, target} - {INPUT, OUTPUT}
        if all(map(_NODE.fullmatch, nodes)) and source != OUTPUT and target != INPUT:
            return _Scale(name, group, source, target)
    except ValueError:
        pass
    raise ValueError(f"column {shown(name)} is no connection and no scale of a reduction")


_Lines = Dict[_Scale, np.ndarray]


def _draw_shared(
    epochs: np.ndarray, blocks: Dict[str, _Lines], reductions: Dict[str, _Lines]
) -> Figure:
    (lines,) = blocks.values()
    sources = sorted(dict.fromkeys(scale.source for scale in lines), key=_level)
    targets = sorted(dict.fromkeys(scale.target for scale in lines), key=_level)
    map_width, map_height = _CELL * len(targets), _CELL * len(sources)
    lines_width = 5.8
    width, height = max(lines_width + map_width + 2.4, LEAST_WIDTH), max(map_height + 2.9, 7.2)
    figure = Figure(figsize=(width, height), facecolor="white")

    def place(left: float, bottom: float, across: float, up: float) -> Axes:
        return figure.add_axes((left / width, bottom / height, across / width, up / height))

    bottom = 3.1 if reductions else 1.3
    main = place(0.8, bottom, lines_width, height - 1.0 - bottom)
    _paint_lines(main, epochs, lines)
    share = (lines_width + 0.3) / max(len(reductions), 1) - 0.3
    for position, (name, pair) in enumerate(reductions.items()):
        axes = place(0.8 + position * (share + 0.3), 1.3, share, 1.1)
        _paint_reduction(axes, epochs, name, pair, _top(reductions))
        axes.set_xlabel("epoch")
        if position:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel("λ")
    main.set_ylabel("λ")
    if not reductions:
        main.set_xlabel("epoch")

    axes = place(width - 0.35 - map_width, height - 1.85 - map_height, map_width, map_height)
    _paint_map(axes, lines, sources, targets)
    return figure


def _kept(lines: _Lines) -> Set[_Scale]:
    """Of the connections whose λ is above zero in the end, those on a way from input to output."""
    alive = {scale for scale, values in lines.items() if values[-1] > 0}
    targets = {scale.target for scale in lines}  # others, of level 1, always have the input
    while True:
        fed = {scale.target for scale in alive}
        used = {OUTPUT, *(scale.source for scale in alive)}
        kept = {
            scale
            for scale in alive
            if (scale.source not in targets or scale.source in fed) and scale.target in used
        }
        if kept == alive:
            return kept
        alive = kept


def _level(name: str) -> int:
    return int(name.split(".")[0]) if "." in name else 0 if name == INPUT else sys.maxsize


def _top(groups: Mapping[str, _Lines]) -> float:
    """The largest λ, for axes that share their height."""
    return max([1e-9, *(float(v.max()) for lines in groups.values() for v in lines.values())])


def _draw_panels(
    epochs: np.ndarray, blocks: Dict[str, _Lines], reductions: Dict[str, _Lines]
) -> Figure:
    stages: Dict[str, List[str]] = {}
    for group in blocks:
        stages.setdefault(group.split(".")[0], []).append(group)
    if max(map(len, stages.values())) == 1:  # in a row, not each in a band that is empty behind it
        stages = {"": list(blocks)}
    counts = [len(groups) for groups in stages.values()]
    if reductions:
        counts.append(len(reductions))
    grid = Grid(counts, 2.7, [2.15] * sum(counts))
    figure = grid.figure()
    titles = [name.replace("stage", "Stage ") or "Blocks" for name in stages]
    grid.write_headings(figure, [*titles, "Reductions"][: len(counts)])
    panels = [group for groups in stages.values() for group in groups]
    most, most_reduced = _top(blocks), _top(reductions)
    for name, (left, top) in zip([*panels, *reductions], grid.corners):
        box = ((left + 0.2) / grid.width, (top - 1.95) / grid.height)
        axes = figure.add_axes((*box, 2.5 / grid.width, 1.65 / grid.height), gid=name)
        if name in reductions:
            _paint_reduction(axes, epochs, name, reductions[name], most_reduced)
        else:
            lines = blocks[name]
            _paint_lines(axes, epochs, lines, 0.8)
            axes.set_ylim(-0.03 * most, 1.04 * most)
            where = name.split(".")[-1] if "" not in stages else name.replace(".", ", ")
            where = re.sub(r"(stage|block)", r"\1 ", where)
            title = f"{where}: {len(_kept(lines))} of {len(lines)}"
            axes.set_title(title, size=9.5, color=TEXT, loc="left")
        axes.tick_params(labelsize=8)
    return figure


def _paint_reduction(axes: Axes, epochs: np.ndarray, name: str, lines: _Lines, top: float) -> None:
    _paint_lines(axes, epochs, lines)
    axes.set_ylim(-0.04 * top, 1.08 * top)
    axes.set_title(name.replace("reduction", "reduction "), size=10, color=TEXT, loc="left")
    for position, scale in enumerate(lines):
        axes.text(
            1.0 - 0.16 * (len(lines) - 1 - position),
            1.06,
            scale.source.replace("x", "×"),
            transform=axes.transAxes,
            size=9,
            color=BRANCHES[scale.source],
            ha="right",
            weight="bold",
        )


def _paint_map(axes: Axes, lines: _Lines, sources: Sequence[str], targets: Sequence[str]) -> None:
    values = np.full((len(sources), len(targets)), np.nan)
    kept, on_a_way = np.zeros(values.shape, bool), _kept(lines)
    for scale in lines:
        place = sources.index(scale.source), targets.index(scale.target)
        values[place], kept[place] = lines[scale][-1], scale in on_a_way
    most = max(float(np.nanmax(values)), 1e-9)
    zero = np.where(kept | np.isnan(values), np.nan, 0.1)
    axes.imshow(zero, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    alive = np.where(kept, values, np.nan)
    axes.imshow(alive, cmap="YlGnBu", vmin=0, vmax=most, aspect="auto", gid="map")
    for (row, column), value in np.ndenumerate(values):
        if value > 0:
            text = f"{value:.2f}" if value < 9.995 else f"{value:.0f}"
            text = text if value >= 0.005 else "<.01"
            text = text if kept[row, column] else f"({text})"
            colour = "white" if kept[row, column] and value > 0.65 * most else TEXT
            axes.text(column, row, text, size=7.5, color=colour, ha="center", va="center")
    axes.set_xticks(range(len(targets)), targets, rotation=90)
    axes.set_yticks(range(len(sources)), sources)
    axes.xaxis.tick_top()
    axes.set_xlabel("to", color=FAINT)
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("from", color=FAINT)
    for ticks, names in ((axes.get_xticklabels(), targets), (axes.get_yticklabels(), sources)):
        for tick, name in zip(ticks, names):
            tick.set(color=dark(COLOURS[kind(name)]), size=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(targets) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(sources) + 1) - 0.5, minor=True)
    # A little further, or half of the outer lines is cut off.
    axes.set_xlim(-0.55, len(targets) - 0.45)
    axes.set_ylim(len(sources) - 0.45, -0.55)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)


def _paint_lines(axes: Axes, epochs: np.ndarray, lines: _Lines, width: float = 1.0) -> None:
    """A line a scale; one that dies ends where it reaches zero, and is pale."""
    for scale, values in lines.items():
        alive = np.flatnonzero(values)
        stop = min(alive[-1] + 2, len(values)) if len(alive) else 1
        lives = values[-1] > 0
        reduction = not scale.target
        axes.plot(
            epochs[:stop],
            values[:stop],
            color=BRANCHES[scale.source] if reduction else COLOURS[kind(scale.source)],
            linewidth=width * (1.6 if reduction else 1.1 if lives else 0.7),
            alpha=0.9 if lives else 0.28,
            marker="o" if len(epochs) == 1 else None,
            markersize=3,
            zorder=2.5 if lives else 2,
            gid=scale.name,
        )
    style_axes(axes, epochs)
    axes.set_ylim(bottom=-0.02 * max(1e-9, *(values.max() for values in lines.values())))
