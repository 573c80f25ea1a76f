"""The graph of a block: operations by level, kept connections as arrows."""

from typing import Any, Dict, List

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch
from matplotlib.path import Path as Curve
from matplotlib.patheffects import withStroke

from ..space.architecture import Architecture
from ..space.normal import INPUT, OUTPUT
from .layout import HEAD, Layout, Wire
from .style import (
    COLOURS,
    FAINT,
    GONE,
    LEAST_WIDTH,
    LEGEND,
    TEXT,
    Grid,
    kind,
    kind_handles,
    tint,
    write_title,
)

_SCALE = 0.5  # of a block among others


def draw_block(architecture: Architecture, structure: int = 0) -> Figure:
    """The graph of one block.

    Operations are rounded boxes, a column a level; those that are gone are dashed. An arrow is a
    kept connection, in the colour of its source. What has no λ is grey: the block's input to
    level 1, and the shortcut.

    Parameters
    ----------
    architecture : Architecture
    structure : int
        Which block, in the full scope.
    """
    layout = Layout(architecture, structure)
    side, top, bottom = 0.35, 0.9, 0.75
    width = max(layout.width + 2 * side, LEAST_WIDTH)
    figure = Figure(figsize=(width, layout.height + top + bottom), facecolor="white")
    _paint_block(figure, layout, (width - layout.width) / 2, bottom)

    of = len(architecture.space.connections)
    title = f"{sum(architecture.kept[structure])} of {of} connections kept"
    if architecture.space.scope == "full":
        title = (
            "Stage {}, block {}: ".format(*architecture.space.block_positions[structure]) + title
        )
    live = f"{len(layout.live)} of {len(architecture.space.nodes)} operations"
    notes = [live if layout.live else "nothing but the shortcut"]
    write_title(figure, title, [*notes, *_reduction_notes(architecture)])
    _block_legend(figure, architecture)
    return figure


def draw_blocks(architecture: Architecture) -> Figure:
    """The graphs of all blocks of the full scope, stage by stage."""
    space = architecture.space
    if space.scope != "full":
        raise ValueError("the share scope has one block: use draw_block")
    layouts = [Layout(architecture, block, compact=True) for block in range(space.num_blocks)]
    label = 0.3
    grid = Grid(
        space.blocks,
        max(layout.width for layout in layouts) * _SCALE,
        [layout.height * _SCALE + label for layout in layouts],
    )
    figure = grid.figure()
    kept = [sum(mask) for mask in architecture.kept]
    of = len(space.connections)
    titles = []
    for stage, count in enumerate(space.blocks, 1):
        alive = sum(k for k, (s, _) in zip(kept, space.block_positions) if s == stage)
        titles.append(f"Stage {stage}: {alive} of {count * of}")
    grid.write_headings(figure, titles)
    for layout, alive, (stage, block), (left, top) in zip(
        layouts, kept, space.block_positions, grid.corners
    ):
        grid.write(figure, left, top - 0.16, f"block {block}: {alive} of {of}", size=9.5)
        bottom = top - label - layout.height * _SCALE
        axes = _paint_block(figure, layout, left, bottom, _SCALE)
        axes.set_gid(f"stage{stage}.block{block}")
    title = f"{sum(kept)} of {space.num_connections} connections kept in {len(layouts)} blocks"
    write_title(figure, title, _reduction_notes(architecture))
    _block_legend(figure, architecture)
    return figure


def _reduction_notes(architecture: Architecture) -> List[str]:
    notes = []
    for position, branches in enumerate(architecture.reductions, 1):
        alive = " + ".join(name for name, lives in zip(("1×1", "3×3"), branches) if lives)
        notes.append(f"reduction {position}: {alive}")
    return notes


def _paint_block(
    figure: Figure, layout: Layout, left: float, bottom: float, scale: float = 1.0
) -> Axes:
    """Axes at `left` and `bottom` (inches) whose unit is an inch times `scale`, and a block."""
    width, height = figure.get_size_inches()
    size = (layout.width * scale / width, layout.height * scale / height)
    axes = figure.add_axes((left / width, bottom / height, *size))
    axes.set_xlim(0, layout.width)
    axes.set_ylim(layout.height, 0)
    axes.set_axis_off()

    font = scale if scale == 1 else 1.3 * scale  # small ones need what room their boxes have
    for level, (start, end) in enumerate(layout.columns[1:-1], 1):
        _write(axes, (start + end) / 2, 0.12, f"level {level}", 10 * font, FAINT)
    start, end = layout.columns[0][1], layout.columns[-1][0]
    line = Curve([(start, layout.shortcut), (end, layout.shortcut)])
    _paint_arrow(axes, line, FAINT, scale, "shortcut", has_lambda=False)
    _write(axes, (start + end) / 2, layout.shortcut, "shortcut", 9 * font, FAINT).set_bbox(
        {"facecolor": "white", "edgecolor": "none", "pad": 3 * scale}
    )
    for wire in layout.wires:
        colour = COLOURS[kind(wire.source)] if wire.has_lambda else FAINT
        _paint_arrow(axes, _curve(layout, wire), colour, scale, wire.name, wire.has_lambda)
    for name, box in layout.boxes.items():
        bar = name in (INPUT, OUTPUT)
        lives = bar or name in layout.live
        colour = COLOURS[kind(name)] if lives else GONE
        axes.add_artist(
            FancyBboxPatch(
                (box.left + 0.06, box.top + 0.06),
                box.width - 0.12,
                box.height - 0.12,
                boxstyle="round,pad=0.06,rounding_size=0.12",
                facecolor=tint(colour) if lives else "white",
                edgecolor=colour,
                linewidth=1.4 * scale,
                linestyle="solid" if lives else (0, (3, 2.5)),
                gid=f"{'node' if lives else 'gone'} {name}",
                zorder=3,
                clip_on=False,
            )
        )
        centre = box.left + box.width / 2, box.top + box.height / 2
        _write(axes, *centre, kind(name), 11 * font, TEXT if lives else GONE, 90 if bar else 0)
    return axes


def _write(
    axes: Axes, x: float, y: float, text: str, size: float, colour: str, rotation: float = 0
) -> Any:
    style: Dict[str, Any] = {"ha": "center", "va": "center", "zorder": 4}
    return axes.text(x, y, text, size=size, color=colour, rotation=rotation, **style)


def _paint_arrow(
    axes: Axes, curve: Curve, colour: str, scale: float, name: str, has_lambda: bool = True
) -> None:
    width = (1.35 if has_lambda else 1.1) * scale
    axes.add_artist(
        FancyArrowPatch(
            path=curve,
            arrowstyle="-|>,head_length=0.62,head_width=0.26",
            mutation_scale=11 * scale,
            linewidth=width,
            color=colour,
            gid=name,
            # The white rim shows which of two arrows passes over the other.
            path_effects=[withStroke(linewidth=width + 1.6 * scale, foreground="white")],
            capstyle="butt",
            joinstyle="miter",
            zorder=2 if has_lambda else 1.5,
            clip_on=False,
        )
    )


def _curve(layout: Layout, wire: Wire) -> Curve:
    """Level past each column, an S between two columns, and a straight end for the head."""
    start, stop = wire.columns
    x, y = layout.columns[start][1], wire.heights[0]
    vertices, codes = [(x, y)], [Curve.MOVETO]
    for column, height in zip(range(start + 1, stop + 1), wire.heights[1:]):
        left, right = layout.columns[column]
        end, after = (left - HEAD, left) if column == stop else (left, right)
        middle = (x + end) / 2
        vertices += [(middle, y), (middle, height), (end, height), (after, height)]
        codes += [Curve.CURVE4] * 3 + [Curve.LINETO]
        x, y = after, height
    return Curve(vertices, codes)


def _block_legend(figure: Figure, architecture: Architecture) -> None:
    handles: List[Any] = kind_handles((INPUT, *architecture.space.operations))
    handles.append(Line2D([], [], color=FAINT, linewidth=1.4, label="always there (no λ)"))
    handles.append(
        Patch(facecolor="white", edgecolor=GONE, linestyle="--", label="operation removed")
    )
    figure.legend(handles=handles, **LEGEND)
