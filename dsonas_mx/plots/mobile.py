"""A network of the mobile setting as Fig. 7 has it: blocks in a row, with kernel and expansion."""

from typing import Any, Dict, List, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from ..cost.network import count_network
from ..space.mobile import kernel_and_expansion
from ..space.mobile_architecture import MobileArchitecture
from ..space.normal import halved
from .style import COLOURS, FAINT, TEXT, tint, write_title

_WIDTH, _GAP, _ROW = 0.62, 0.16, 0.34  # inches: of a box, between boxes, of an operation
_FIXED = "#858585"  # what is not searched


class _Box(NamedTuple):
    lines: List[str]
    colours: List[str]
    below: str  # channels and side of the maps that come out
    stage: str


def draw_mobile(architecture: MobileArchitecture) -> Figure:
    """The blocks of a network from left to right; a block of several operations has them above
    each other, as in a search that has not ended.
    """
    boxes = _boxes(architecture)
    most = max(len(box.lines) for box in boxes)
    side, bottom, top = 0.4, 1.05, 1.0
    # Names are upright in the boxes, so that all fit into one row.
    height_of_box = 1.25 if most == 1 else _ROW * most
    width = 2 * side + len(boxes) * (_WIDTH + _GAP) - _GAP
    width, height = max(width, 7.0), bottom + height_of_box + top
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")
    middle = bottom + height_of_box / 2
    before = ""
    for position, box in enumerate(boxes):
        left = side + position * (_WIDTH + _GAP)
        if position:
            axes.annotate(
                "",
                (left, middle),
                (left - _GAP, middle),
                arrowprops={"arrowstyle": "-|>", "color": FAINT, "shrinkA": 0, "shrinkB": 0},
            )
        _paint_box(axes, box, left, middle, height_of_box if most == 1 else 0)
        axes.text(
            left + _WIDTH / 2, bottom - 0.1, box.below, size=7, ha="center", va="top", color=FAINT
        )
        if box.stage != before:
            axes.text(left, bottom - 0.55, box.stage, size=9, va="top", color=TEXT, weight="bold")
            before = box.stage
    cost = count_network(architecture)
    write_title(
        figure,
        f"{len(architecture.kept)} blocks, {architecture.num_connections} operations",
        [
            f"{cost.parameters / 1e6:.1f}M parameters",
            f"{cost.multiply_adds / 1e6:.0f}M multiply-adds",
            "MB and expansion, kernel; below channels, side of the maps",
        ],
    )
    return figure


def _paint_box(axes: Axes, box: _Box, left: float, middle: float, upright: float) -> None:
    """A row an operation, around `middle`; or all alone, upright, of that height."""
    each = upright or _ROW
    start = middle - each * len(box.lines) / 2
    style: Dict[str, Any] = {"rotation": 90, "size": 9.5} if upright else {"size": 6}
    for row, (text, colour) in enumerate(zip(reversed(box.lines), reversed(box.colours))):
        y = start + row * each
        axes.add_patch(
            FancyBboxPatch(
                (left, y + 0.02),
                _WIDTH,
                each - 0.04,
                boxstyle="round,pad=0,rounding_size=0.06",
                facecolor=tint(colour, 0.3),
                edgecolor=colour,
            )
        )
        centre = left + _WIDTH / 2, y + each / 2
        axes.text(*centre, text, ha="center", va="center", color=TEXT, **style)


def _boxes(architecture: MobileArchitecture) -> List[_Box]:
    space = architecture.space
    side = halved(space.image_size)
    boxes = [
        _Box(["conv 3×3"], [_FIXED], f"{space.stem}\n{side}", "stem"),
        _Box(["MB1 3×3"], [_FIXED], f"{space.first}\n{side}", "stem"),
    ]
    for block, ((stage, _), shape) in enumerate(zip(space.block_positions, space.block_shapes)):
        side = halved(shape.side) if shape.stride == 2 else shape.side
        live = architecture.live(block)
        names = ["MB{1} {0}×{0}".format(*kernel_and_expansion(name)) for name in live]
        colours = [COLOURS[name] for name in live]
        boxes.append(_Box(names, colours, f"{shape.outputs}\n{side}", f"stage {stage}"))
    boxes.append(_Box(["conv 1×1"], [_FIXED], f"{space.last}\n{side}", "end"))
    boxes.append(_Box(["pool, fc"], [_FIXED], f"{space.num_classes}\n", "end"))
    return boxes
