"""Which maps to compute again in backward instead of keeping them (Chen et al. 2016): the fastest
plan that fits.

From fast and large to slow and small there are

- one executor that keeps everything;
- one that computes its first blocks once again, the fewer, the faster;
- a chain (see `dsonas_mx.engine.chain`) in which the later, smaller segments keep their maps, and
  the others compute them again when backward gets there: the fewer, the faster;
- such a chain whose segments compute sums, convolutions and BNs once more, beside the maps behind
  ReLUs that they keep.

A plan costs nothing to try: binding alone says how many MB an executor will take.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import (
    Dict,
    FrozenSet,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Tuple,
)

from .forward import Forward
from .memory import MB

# Of the bytes of a whole forward pass, how many a segment may have at least before it ends.
FRACTIONS = (0, 1 / 192, 1 / 128, 1 / 96, 1 / 80, 1 / 64, 1 / 48, 1 / 32, 1 / 24, 1 / 16, 1 / 8)

# Backward takes twice as long as forward, so that computing all of forward again takes a third.
BACKWARD = 2

TRIES = 5  # plans that are bound to come near a limit

Names = FrozenSet[str]
Division = Sequence[Sequence[str]]
NONE: Names = frozenset()

# How much of what executors take is allocated beyond it, since pieces are rounded up.
ROUNDED = 0.01

# What executors that use one memory in turn need beyond the largest: on a GPU about one of the
# largest maps; on a CPU, where what is never written takes no memory, 3 to 13 % of the smallest
# plans that were measured, and at most two of these maps.
IN_TURN = 0.06

# The last segment of a chain has maps of sizes of its own. If it takes more than this share of what
# the others do, it finds no room in their memory, and gets its own.
SMALL = 0.1

# Larger segments of one executor are tried where it has so many times as many as a chain would.
FINER = 1.5


class Taken(NamedTuple):
    """MB of an executor: of its maps, and of its graph, for all kinds of steps."""

    maps: float
    graph: float = 0.0


class Measure(Protocol):
    """What a planner wants to know: MB, of what nobody has allocated yet."""

    def whole(self, recomputed: Names, limit: float) -> Taken:
        """Of one executor; of what takes more than a limit any number above it will do."""

    def segments(self, recomputed: Names) -> List[Taken]:
        """Of each segment of the longest chain."""

    def kept(self) -> List[Taken]:
        """Of each but the last, if it keeps its maps from forward to backward."""

    def forward(self) -> List[float]:
        """Of the graph of each but the last, if it has an executor that goes forward only."""

    def between(self) -> float:
        """Of the maps between them."""

    @property
    def kinds(self) -> int:
        """How many executors, or chains, use one memory in turn: one for each kind of step."""

    @property
    def on_gpu(self) -> bool:
        """Whether they are to run on one."""


class TooLarge(ValueError):
    """No plan fits.

    Attributes
    ----------
    megabytes : float
        What the smallest takes.
    """

    def __init__(self, megabytes: float) -> None:
        super().__init__(f"the smallest plan takes {megabytes:.0f} MB")
        self.megabytes = megabytes


@dataclass(frozen=True)
class Plan:
    """What is computed again, and what that takes.

    Attributes
    ----------
    maps : float
        MB of the executors, and of the maps between them.
    recomputed : frozenset of str
        Names of the nodes that are computed again within an executor.
    cuts : tuple of str
        Where the graph is divided into a chain of executors, which compute everything before the
        last cut twice anyway; empty if it is one executor.
    largest : int
        Which segment of the chain takes the most of the memory that they use in turn.
    keeps : int
        From which segment on they keep their maps.
    apart : bool
        Whether the last segment has memory of its own.
    again : float
        Forward passes that are computed again, by the bytes of their maps.
    shared : float
        MB that executors which use one memory in turn need beyond the largest of them, since they
        divide it in other ways.
    graphs : float
        MB that MXNet keeps of the nodes of all executors.
    faster : tuple of (float, float)
        MB of plans that compute less again, and how much.
    """

    maps: float
    recomputed: Names = NONE
    cuts: Tuple[str, ...] = ()
    largest: int = 0
    keeps: int = 0
    apart: bool = False
    again: float = 0.0
    shared: float = 0.0
    graphs: float = 0.0
    faster: Tuple[Tuple[float, float], ...] = ()

    @property
    def rest(self) -> float:
        """MB that are allocated beyond that: `shared`, and what is rounded up."""
        return self.shared + ROUNDED * self.maps

    @property
    def megabytes(self) -> float:
        """All of it."""
        return self.maps + self.rest + self.graphs

    def describe(self, others: float = 0.0) -> str:
        """What it does, what that costs and what more memory would buy; `others` are the MB beside
        the executors.
        """
        if not self.again:
            return "nothing is computed again"
        parts = f"{len(self.cuts) + 1} executors in turn" if self.cuts else "one executor"
        text = f"{parts}, {self.again:.2f} forward passes computed again: by that a step takes "
        text += f"{_longer(self.again)} times as long"
        faster = [f"{size + others:,.0f} MB {_longer(again)}" for size, again in self.faster]
        return text + (f", with {', with '.join(faster)}" if faster else "")


def _longer(again: float) -> str:
    return f"{1 + again / (1 + BACKWARD):.2f}"


class Planner:
    """Finds plans for a training graph.

    Parameters
    ----------
    forward : Forward
    measure : Measure
    chains : bool
        Whether the graph may become a chain.
    """

    def __init__(self, forward: Forward, measure: Measure, chains: bool = True) -> None:
        self._forward = forward
        self._measure = measure
        self._cuts = forward.cuts if chains else ()
        self._bytes: Dict[str, float] = {node.name: node.size for node in forward.nodes}
        self._largest = max(self._bytes.values(), default=0.0) / MB

    def plan(self, limit: Optional[float] = None) -> Plan:
        """The fastest plan within so many MB; without a limit the fastest of the smallest.

        Raises
        ------
        TooLarge
            None is within them.
        """
        plain = self._whole(NONE, math.inf if limit is None else limit)
        if limit is not None and plain.megabytes <= limit:
            return plain
        plans = [plain, *(self._chains() if self._cuts else ())]
        single, blocks = self._smallest(limit)
        plans.append(single)
        least = min(plan.megabytes for plan in plans)
        if single.megabytes <= max(least, limit or 0.0):
            # Even where that does not fit: what computes less again has fewer nodes.
            plans.append(self._fewest(plain, single, blocks, max(single.megabytes, limit or 0.0)))
            least = min(least, plans[-1].megabytes)
        if limit is None:
            limit = least
        if least > limit:
            raise TooLarge(least)
        fits = [plan for plan in plans if plan.megabytes <= limit]
        best = min(fits, key=lambda plan: (plan.again, plan.megabytes))
        return replace(best, faster=_steps(best, plans))

    # One executor

    def _single(self, division: Division, limit: float) -> Plan:
        return self._whole(_names(division), limit)

    def _whole(self, names: Names, limit: float) -> Plan:
        again = self._size(names) / (self._forward.size or 1.0)
        taken = self._measure.whole(names, limit)
        shared = self._shared(taken.maps) if self._measure.kinds > 1 else 0.0
        return Plan(taken.maps, names, again=again, shared=shared, graphs=taken.graph)

    def _smallest(self, limit: Optional[float]) -> Tuple[Plan, Division]:
        """One executor in which each block is computed again or, if that is not within the limit
        and no chain has as small segments, what takes the fewest MB.
        """
        division: Division = self._forward.segments(0)
        best = self._single(division, math.inf)
        fits = limit is not None and best.megabytes <= limit
        if fits or len(division) <= FINER * len(self._cuts):
            return best, division
        least = [part * self._forward.size for part in FRACTIONS]
        for other in {self._forward.segments(part): None for part in least}:
            if other != division:
                plan = self._single(other, best.megabytes)
                if (plan.megabytes, plan.again) < (best.megabytes, best.again):
                    best, division = plan, other
        return best, division

    def _fewest(self, plain: Plan, smallest: Plan, division: Division, limit: float) -> Plan:
        """One executor in which the fewest segments, from the input on, are computed again."""
        counts = range(len(division) + 1)
        sizes = [self._size(_names(division[:count])) for count in counts]
        saved = (plain.megabytes - smallest.megabytes) / (sizes[-1] or 1.0)
        low, high, best, scale = 0, counts[-1], smallest, 1.0
        for _ in range(TRIES):
            if high - low < 2:
                break
            guesses = {
                c: (plain.megabytes - saved * sizes[c]) * scale for c in range(low + 1, high)
            }
            count = next((c for c, guess in guesses.items() if guess <= limit), high - 1)
            plan = self._single(division[:count], limit)
            scale *= plan.megabytes / (guesses[count] or 1.0)  # a small one takes 0 MB
            if plan.megabytes <= limit:
                high, best = count, plan
            else:
                low = count
        return best

    # A chain

    def _chains(self) -> Iterator[Plan]:
        """All chains.

        The segments that use one memory in turn do the same: of one make, the smaller ones find
        room in what the largest has. The last one runs forward and backward at once.
        """
        cuts, forward, measure = self._cuts, self._forward, self._measure
        parts = forward.parts()
        sizes = [self._size(part) for part in parts]
        between, kept, ahead = measure.between(), measure.kept(), measure.forward()
        ways = [
            (names, measure.segments(names)) for names in (NONE, forward.inside, forward.blocks)
        ]
        for names, segments in ways:
            for names_of_last, (*_, last) in ways:
                for keeps in range(1, len(parts)):
                    recomputed = names & NONE.union(*parts[:keeps]) | names_of_last & parts[-1]
                    room = [segment.maps for segment in segments[:keeps]]
                    largest = max(room)
                    apart = last.maps > SMALL * largest
                    kept_maps = sum(segment.maps for segment in kept[keeps:])
                    backward = (*segments[:keeps], *kept[keeps:], last)
                    maps = between + largest + apart * last.maps + kept_maps
                    yield Plan(
                        maps,
                        recomputed,
                        cuts,
                        room.index(largest),
                        keeps,
                        apart,
                        (sum(sizes[:keeps]) + self._size(recomputed)) / forward.size,
                        self._shared(maps),
                        sum(segment.graph for segment in backward) + sum(ahead[:keeps]),
                    )

    def _shared(self, maps: float) -> float:
        return self._largest if self._measure.on_gpu else min(2 * self._largest, IN_TURN * maps)

    def _size(self, names: Names) -> float:
        """Bytes of the maps that these nodes give."""
        return sum(self._bytes.get(name, 0.0) for name in names)


def _names(division: Division) -> Names:
    return frozenset(name for segment in division for name in segment)


def _steps(best: Plan, plans: Sequence[Plan]) -> Tuple[Tuple[float, float], ...]:
    """A few of the plans that are faster than one, with their MB: some that save much."""
    steps: List[Plan] = []
    for plan in sorted(plans, key=lambda plan: plan.megabytes):
        if plan.again <= 0.6 * (steps or [best])[-1].again:
            steps.append(plan)
    return tuple((plan.megabytes, plan.again) for plan in steps)
