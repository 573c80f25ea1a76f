"""Where the pieces of a block's picture go: nodes on a grid, arrows around them.

Levels are columns and operations are rows. An arrow over several levels passes each column in
between in one of the gaps above, between and below its nodes, in a lane of its own. The input
and the output are as tall as the block, so that arrows leave and reach them level.

Lengths are inches; y points down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

from ..space.architecture import Architecture
from ..space.normal import INPUT, OUTPUT

NODE_WIDTH = 0.9
BAR_WIDTH = 0.42  # of the input and the output
HEAD = 0.13  # the straight end of an arrow, under its head

_NODE_HEIGHT = 0.44  # at least
_PORT = 0.095  # between two arrows on the side of a node, at least
_PORTS = 0.16  # and at most
_CORNER = 0.1  # of a node, where no arrow starts or ends
_LANE = 0.1  # between two arrows in a gap, at least
_LANES = 0.13  # and at least where there is room
_MARGIN = 0.11  # between a node and the lanes beside it
_ROW_GAP = 0.26  # between two rows without a lane
_EDGE = 0.12  # above and below all of them
_HEADER = 0.34  # for the names of the levels
_SWEEPS = 12

# What an arrow's way costs: each row up or down, steep steps more, and company in a gap.
_STEEP = 0.35
_CROWD = 0.07
_OUTSIDE = 0.12


class Box(NamedTuple):
    """A rectangle: its left, its top, its size."""

    left: float
    top: float
    width: float
    height: float


@dataclass
class Wire:
    """An arrow. `gaps` and `heights` say where it passes the columns."""

    source: str
    target: str
    columns: Tuple[int, int]
    rows: Tuple[Optional[int], Optional[int]]  # None for the input and the output
    has_lambda: bool = True  # False for the input of level 1, which has no λ
    gaps: List[int] = field(default_factory=list)  # in each column between
    heights: List[float] = field(default_factory=list)  # at the source, between, at the target

    @property
    def name(self) -> str:
        """As in files, ``'input->2.sep3'``; ``'input=>1.sep3'`` if it has no λ."""
        return f"{self.source}{'->' if self.has_lambda else '=>'}{self.target}"


class Layout:
    """The geometry of one structure.

    Parameters
    ----------
    architecture : Architecture
    structure : int
    compact : bool
        With less room between the levels.

    Attributes
    ----------
    width, height : float
    live : tuple of str
        The operations that are left.
    boxes : dict of name to Box
        Every operation of the space, dead or alive, and the input and the output.
    columns : list of (left, right)
        Of the input, each level and the output.
    wires : list of Wire
        The kept connections, and the input of each living operation of level 1.
    shortcut : float
        The height of the line from input to output.
    """

    def __init__(self, architecture: Architecture, structure: int, compact: bool = False) -> None:
        space = architecture.space
        self._rows = len(space.operations)
        self._last = space.levels + 1
        self._nodes = {
            node: (1 + position // self._rows, position % self._rows)
            for position, node in enumerate(space.nodes)
        }
        self.live = architecture.live_nodes(structure)
        self.wires = [
            self._wire(INPUT, node, has_lambda=False)
            for node in self.live
            if self._nodes[node][0] == 1
        ]
        self.wires += [
            self._wire(source, target)
            for (source, target), kept in zip(space.connections, architecture.kept[structure])
            if kept
        ]
        self._choose_gaps()
        self._place_columns(0.7 if compact else 1.0)
        self._place_rows()
        self._order()

    def _wire(self, source: str, target: str, has_lambda: bool = True) -> Wire:
        ends = {INPUT: (0, None), OUTPUT: (self._last, None), **self._nodes}
        (start, row), (stop, target_row) = ends[source], ends[target]
        return Wire(source, target, (start, stop), (row, target_row), has_lambda)

    # Which gaps

    def _choose_gaps(self) -> None:
        """The cheapest way of each arrow, twice: the second time around all the others."""
        load: Dict[Tuple[int, int], int] = {}
        # Long ones have least choice left, so they go first.
        order = sorted(self.wires, key=lambda wire: wire.columns[0] - wire.columns[1])
        for _ in range(2):
            for wire in order:
                for place in _places(wire):
                    load[place] -= 1
                wire.gaps = self._cheapest(wire, load)
                for place in _places(wire):
                    load[place] = load.get(place, 0) + 1
        self._load = load

    def _cheapest(self, wire: Wire, load: Dict[Tuple[int, int], int]) -> List[int]:
        start, stop = wire.columns
        row, target_row = wire.rows
        # Gap g is at the height g, row r at r + 1/2.
        ways: List[Tuple[float, List[int]]] = [(0.0, [])]
        for column in range(start + 1, stop):
            longer = []
            for gap in range(self._rows + 1):
                here = _CROWD * load.get((column, gap), 0)
                here += _OUTSIDE * (gap in (0, self._rows))
                longer.append(
                    min(
                        (cost + here + _climb(way[-1] if way else _middle(row), gap), [*way, gap])
                        for cost, way in ways
                    )
                )
            ways = longer
        end = _middle(target_row)
        return min((cost + _climb(way[-1] if way else None, end), way) for cost, way in ways)[1]

    # Where

    def _place_columns(self, room: float) -> None:
        widths = [BAR_WIDTH, *[NODE_WIDTH] * (self._last - 1), BAR_WIDTH]
        self.columns: List[Tuple[float, float]] = []
        left = 0.0
        for column, width in enumerate(widths):
            self.columns.append((left, left + width))
            left += width
            if column in (0, self._last - 1):
                left += 0.7 * room  # arrows to and from a bar are level
            else:
                crossing = sum(w.columns[0] <= column < w.columns[1] for w in self.wires)
                left += room * (0.95 + 0.018 * crossing)
        self.width = self.columns[-1][1]

    def _place_rows(self) -> None:
        lanes = [0] * (self._rows + 1)
        for (_, gap), count in self._load.items():
            lanes[gap] = max(lanes[gap], count)
        ends = [end for wire in self.wires for end in ((wire.source, 0), (wire.target, 1))]
        ports = max((ends.count(end) for end in set(ends) if end[0] in self._nodes), default=0)
        height = max(_NODE_HEIGHT, _PORT * (ports - 1) + 2 * _CORNER)

        self.boxes: Dict[str, Box] = {}
        self._gaps: List[Tuple[float, float]] = []
        top = _HEADER
        for gap, count in enumerate(lanes):
            outside = gap in (0, self._rows)
            room = max(_LANE * count + 2 * _MARGIN if count else 0, _EDGE if outside else _ROW_GAP)
            self._gaps.append((top, top + room))
            top += room
            if gap < self._rows:
                for node, (column, row) in self._nodes.items():
                    if row == gap:
                        self.boxes[node] = Box(self.columns[column][0], top, NODE_WIDTH, height)
                top += height
        self.shortcut = top + 0.22
        self.height = self.shortcut + 0.16
        for name, column in ((INPUT, 0), (OUTPUT, self._last)):
            box = Box(self.columns[column][0], _HEADER, BAR_WIDTH, self.height - _HEADER)
            self.boxes[name] = box

    # In which lanes

    def _order(self) -> None:
        """Sort lanes and ports by where their arrows come from and go to, until it settles."""
        for wire in self.wires:
            ends = [_centre(self.boxes[name]) for name in (wire.source, wire.target)]
            wire.heights = [ends[0], *(sum(self._gaps[gap]) / 2 for gap in wire.gaps), ends[1]]
            _level(wire)
        berths = self._berths()
        for _ in range(_SWEEPS):
            for berth in berths:
                wishes = sorted(
                    ((_wish(wire, stop), number) for number, (wire, stop) in enumerate(berth.stops))
                )
                heights = berth.place([height for height, _ in wishes])
                for height, (_, number) in zip(heights, wishes):
                    wire, stop = berth.stops[number]
                    wire.heights[stop] = height
                    _level(wire)

    def _berths(self) -> List[_Berth]:
        """Every side of a node and every gap of a column that has arrows, left to right."""
        berths: Dict[Tuple[int, int, str, int], _Berth] = {}

        def moor(column: int, side: int, place: Union[str, int], wire: Wire, stop: int) -> None:
            if isinstance(place, int):
                top, bottom = self._gaps[place]
                berth = _Berth(top + _MARGIN, bottom - _MARGIN, lanes=True)
                key = (column, side, "", place)
            else:
                box = self.boxes[place]
                berth = _Berth(box.top + _CORNER, box.top + box.height - _CORNER, lanes=False)
                key = (column, side, place, 0)
            berths.setdefault(key, berth).stops.append((wire, stop))

        for wire in self.wires:
            first, last = wire.columns
            if wire.rows[0] is not None:
                moor(first, 2, wire.source, wire, 0)
            for stop, gap in enumerate(wire.gaps, 1):
                moor(first + stop, 1, gap, wire, stop)
            if wire.rows[1] is not None:
                moor(last, 0, wire.target, wire, last - first)
        return [berths[key] for key in sorted(berths)]


@dataclass
class _Berth:
    """Where arrows stop beside each other: a side of a node, or the lanes of a gap."""

    low: float
    high: float
    lanes: bool
    stops: List[Tuple[Wire, int]] = field(default_factory=list)

    def place(self, wishes: List[float]) -> List[float]:
        """Heights for ascending `wishes`: even on a node; in a gap as wished, but apart."""
        steps = max(len(wishes) - 1, 1)
        step = min(_LANES if self.lanes else _PORTS, (self.high - self.low) / steps)
        if not self.lanes:
            start = (self.low + self.high - step * (len(wishes) - 1)) / 2
            return [start + step * at for at in range(len(wishes))]
        highest = self.high - step * (len(wishes) - 1)
        starts = _ascending([wish - step * at for at, wish in enumerate(wishes)])
        return [min(max(start, self.low), highest) + step * at for at, start in enumerate(starts)]


def _ascending(values: List[float]) -> List[float]:
    """The ascending values nearest to `values` (pool adjacent violators)."""
    pools: List[Tuple[float, int]] = []
    for value in values:
        mean, count = value, 1
        while pools and pools[-1][0] > mean:
            before, more = pools.pop()
            mean, count = (mean * count + before * more) / (count + more), count + more
        pools.append((mean, count))
    return [mean for mean, count in pools for _ in range(count)]


def _places(wire: Wire) -> List[Tuple[int, int]]:
    return [(wire.columns[0] + at, gap) for at, gap in enumerate(wire.gaps, 1)]


def _middle(row: Optional[int]) -> Optional[float]:
    return None if row is None else row + 0.5


def _climb(start: Optional[float], stop: Optional[float]) -> float:
    """What it costs to go up or down between two columns; nothing from or to a bar."""
    if start is None or stop is None:
        return 0.0
    rows = abs(stop - start)
    return rows + _STEEP * rows**2


def _centre(box: Box) -> float:
    return box.top + box.height / 2


def _level(wire: Wire) -> None:
    """Move the ends that are in a bar to the height of the rest."""
    if wire.rows[0] is None:
        wire.heights[0] = wire.heights[1]
    if wire.rows[1] is None:
        wire.heights[-1] = wire.heights[-2]


def _wish(wire: Wire, stop: int) -> float:
    """Halfway between the heights before and after; ends in a bar have no say."""
    first = 0 if wire.rows[0] is not None else 1
    last = len(wire.heights) - (1 if wire.rows[1] is not None else 2)
    around = [wire.heights[at] for at in (stop - 1, stop + 1) if first <= at <= last]
    return sum(around) / len(around) if around else wire.heights[stop]
