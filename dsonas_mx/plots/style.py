"""What all pictures share: colours, titles, legends, the look of axes, pages of many cells."""

import math
from typing import Any, Dict, Iterable, List, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ..space.mobile import OPERATIONS as MOBILE_OPERATIONS
from ..space.mobile import kernel_and_expansion
from ..space.normal import INPUT, OUTPUT
from ..space.operations import TABLE

COLOURS = {
    INPUT: "#404040",
    **{name: row.colour for name, row in TABLE.items()},
    OUTPUT: "#404040",
    # Of the mobile setting: a colour a kernel, the light one for expansion 3.
    "k3e3": "#56B4E9",
    "k5e3": "#E69F00",
    "k7e3": "#5BC0A0",
    "k3e6": "#0072B2",
    "k5e6": "#D55E00",
    "k7e6": "#007A58",
}
FULL_NAMES = {
    INPUT: "the input",
    **{name: row.title for name, row in TABLE.items()},
    **{name: "MB{1} {0}×{0}".format(*kernel_and_expansion(name)) for name in MOBILE_OPERATIONS},
}
TEXT, FAINT, GONE, RULE = "#222222", "#858585", "#B5B5B5", "#DDDDDD"
LEGEND: Dict[str, Any] = {
    "loc": "lower center",
    "ncol": 4,
    "frameon": False,
    "fontsize": 10,
    "labelcolor": TEXT,
    "handlelength": 1.6,
    "columnspacing": 1.8,
}
LEAST_WIDTH = 9.2  # inches that a legend needs
_PAGE = 0.9  # width over height that many blocks should fill


def kind(name: str) -> str:
    """What a node is: ``'sep3'`` of ``'2.sep3'``, or ``'input'`` or ``'output'``."""
    return name.rsplit(".", 1)[-1]


def tint(colour: str, share: float = 0.16) -> Tuple[float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return 1 - share * (1 - red), 1 - share * (1 - green), 1 - share * (1 - blue)


def dark(colour: str) -> Tuple[float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return 0.7 * red, 0.7 * green, 0.7 * blue


def write_title(figure: Figure, title: str, notes: Sequence[str]) -> None:
    width, height = figure.get_size_inches()
    left = 0.35 / width
    figure.text(left, 1 - 0.32 / height, title, size=15, weight="bold", color=TEXT, va="center")
    text = "  ·  ".join(notes)
    figure.text(left, 1 - 0.63 / height, text, size=10.5, color=FAINT, va="center")


def kind_handles(kinds: Iterable[str], what: str = "from ") -> List[Line2D]:
    return [
        Line2D([], [], color=COLOURS[name], linewidth=2.2, label=f"{what}{FULL_NAMES[name]}")
        for name in kinds
    ]


def style_axes(axes: Axes, epochs: np.ndarray) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GONE)
    axes.tick_params(colors=FAINT, labelsize=9)
    axes.xaxis.label.set_color(FAINT)
    axes.yaxis.label.set_color(FAINT)
    axes.grid(color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)


def set_margins(
    figure: Figure, left: float, right: float, bottom: float, top: float, **spaces: float
) -> None:
    """Margins in inches, and spaces between the panels as matplotlib has them."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left / width, bottom / height, 1 - right / width, 1 - top / height, **spaces
    )


class Grid:
    """Cells of many blocks, a band of rows a stage, on a page of a good shape. In inches."""

    def __init__(self, blocks: Sequence[int], cell_width: float, heights: Sequence[float]) -> None:
        self._blocks, self._cell_width, self._heights = blocks, cell_width, heights
        # Rows as even as they can be: 8 blocks are one row of 8, or two of 4, or three of 3.
        choices = {math.ceil(max(blocks) / rows) for rows in range(1, max(blocks) + 1)}
        self._fill(max(sorted(choices), key=self._fit))

    def _fit(self, columns: int) -> float:
        self._fill(columns)
        return min(_PAGE / self.width, 1 / self.height)

    def _fill(self, columns: int) -> None:
        side, gap = 0.4, 0.4
        self.width = max(columns * (self._cell_width + gap) - gap + 2 * side, LEAST_WIDTH)
        self.corners: List[Tuple[float, float]] = []  # from the bottom; shifted in the end
        self.headings: List[float] = []
        y = -0.9
        for count in self._blocks:
            self.headings.append(y)
            y -= 0.5
            for start in range(0, count, columns):
                row = range(start, min(start + columns, count))
                first = len(self.corners)
                for position in range(len(row)):
                    self.corners.append((side + position * (self._cell_width + gap), y))
                y -= max(self._heights[first : first + len(row)]) + 0.3
        self.height = 0.65 - y
        self.corners = [(x, self.height + top) for x, top in self.corners]
        self.headings = [self.height + top for top in self.headings]

    def figure(self) -> Figure:
        return Figure(figsize=(self.width, self.height), facecolor="white")

    def write(self, figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x / self.width, y / self.height, text, color=TEXT, va="center", **style)

    def write_headings(self, figure: Figure, titles: Sequence[str]) -> None:
        for y, title in zip(self.headings, titles):
            ends = [0.4 / self.width, 1 - 0.4 / self.width]
            line = Line2D(ends, [(y - 0.04) / self.height] * 2, color=RULE, linewidth=1)
            figure.add_artist(line)
            self.write(figure, 0.4, y - 0.26, title, size=12, weight="bold")
