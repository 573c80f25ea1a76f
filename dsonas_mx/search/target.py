"""Where a search ends: at a number of multiply-adds (beyond the paper), or at an operation a block.

For a number of multiply-adds γ is multiplied with a factor that is adapted once an epoch, so that
what has to go has gone when the epochs are over; and removal stops at the target.
"""

import math
from dataclasses import replace
from typing import Any, Dict, List, Mapping, MutableMapping, Optional, Tuple

import numpy as np

from ..cost.count import count
from ..space.architecture import Architecture
from ..space.masks import prune
from ..space.mobile_architecture import MobileArchitecture
from ..space.scales import Scales

TOLERANCE = 0.05  # of the target
_ARRIVAL = 0.75  # the share of the epochs in which τ is to reach zero
_DOUBLES = 0.25  # how far τ is above its plan when the factor doubles
_LEAST, _MOST = 0.1, 1000.0  # of the factor, or it would take too long to come back


class FLOPsTarget:
    """Steers a search to an architecture within 5 % of a number of multiply-adds.

    The threshold τ is the λ up to which all connections would have to be removed to reach the
    target now. It shall fall from one to zero in the first three quarters of the epochs. At the
    start of an epoch, when the share p of them is over, the factor of γ becomes

        f ← f · 2^((τ − τ_p) / 0.25),  τ_p = max(0, 1 − p / 0.75),

    at most twice or half of what it was. Where the zeros among λ are more than have to go, those
    that were largest an epoch ago stay; in the last epoch the smallest λ go even if they are not
    zero yet. The search ends as soon as the target is met.

    Parameters
    ----------
    multiply_adds : float
        Of the network for one image, in the space of the search.

    Attributes
    ----------
    factor : float
        What the γ of a budget is multiplied with.
    threshold : float or None
        τ at the start of the last epoch that has begun.
    """

    def __init__(self, multiply_adds: float) -> None:
        if not 0 < multiply_adds < math.inf:
            raise ValueError(f"a target must be above 0 and finite, got {multiply_adds}")
        self.multiply_adds = multiply_adds
        self.factor = 1.0
        self.threshold: Optional[float] = None
        self._scales: Optional[np.ndarray] = None  # at the start of the epoch

    def state(self) -> Tuple[Dict[str, Optional[float]], Dict[str, np.ndarray]]:
        """What it has to know to go on: numbers, and arrays by name."""
        arrays = {} if self._scales is None else {"target/scales": self._scales}
        return {"factor": self.factor, "threshold": self.threshold}, arrays

    def restore(
        self, values: Mapping[str, Optional[float]], arrays: MutableMapping[str, np.ndarray]
    ) -> None:
        """Go on from a state, whose arrays are taken out of `arrays`."""
        factor, threshold = values["factor"], values["threshold"]
        if not isinstance(factor, float) or not isinstance(threshold, (float, type(None))):
            raise ValueError("factor or threshold of the target is no number")
        self.factor, self.threshold = factor, threshold
        self._scales = arrays.pop("target/scales", None)

    def check(self, complete: Architecture) -> None:
        """Raise a ValueError if no part of a supernet can be that large or small."""
        least, most = count(_smallest(complete)).multiply_adds, count(complete).multiply_adds
        if not least / (1 + TOLERANCE) <= self.multiply_adds <= most / (1 - TOLERANCE):
            raise ValueError(
                f"a search for {self.multiply_adds:,.0f} multiply-adds cannot end there: this "
                f"supernet has {most:,}, and at least {least:,} have to stay"
            )

    def is_met(self, architecture: Architecture) -> bool:
        """Whether an architecture is within 5 %."""
        flops = count(architecture).multiply_adds
        return abs(flops - self.multiply_adds) <= TOLERANCE * self.multiply_adds

    def describe(self, architecture: Architecture) -> str:
        """For people: what was reached."""
        flops = count(architecture).multiply_adds
        return (
            f"{flops:,} of {self.multiply_adds:,.0f} multiply-adds "
            f"({flops / self.multiply_adds - 1:+.1%})"
        )

    def adapt(self, scales: Scales, progress: float) -> float:
        """The factor for the epoch that begins.

        Parameters
        ----------
        scales : Scales
            λ.
        progress : float
            The share of the epochs of search that is over, from 0.
        """
        self._scales = scales.vector
        self.threshold = self._threshold(scales)
        planned = max(0.0, 1 - progress / _ARRIVAL)
        change = 2 ** ((self.threshold - planned) / _DOUBLES)
        factor = self.factor * min(max(change, 0.5), 2.0)
        self.factor = min(max(factor, _LEAST), _MOST)
        return self.factor

    def _threshold(self, scales: Scales) -> float:
        """The smallest λ (or 0) up to which removal reaches the target."""
        levels = np.unique(np.append(scales.vector, 0.0))
        low, high = -1, len(levels) - 1  # removal up to levels[low] is not enough
        while high - low > 1:
            middle = (low + high) // 2
            left = Architecture.from_scales(scales.above(levels[middle]))
            if count(left).multiply_adds <= self.multiply_adds:
                high = middle
            else:
                low = middle
        return float(levels[high])

    def settle(
        self, present: Architecture, found: Architecture, scales: Scales, is_last: bool
    ) -> Architecture:
        """What to keep after an epoch: what was found, unless that is below the target.

        Parameters
        ----------
        present : Architecture
            What the network has.
        found : Architecture
            What is left of it by `scales`.
        is_last : bool
            Whether there is no epoch left for λ to reach zero.
        """
        is_above = count(found).multiply_adds >= self.multiply_adds
        if is_above and not is_last:
            return found
        # Those that are zero go one by one; in the last epoch then the others, smallest first.
        settled = replace(found, kept=found.kept if is_above else present.kept)
        may_go = np.array(settled.kept) & (is_last | ~np.array(found.kept))
        before = scales if self._scales is None else Scales(found.space, self._scales)
        order = np.lexsort((before.connections.ravel(), scales.connections.ravel()))
        for structure, column in zip(*np.unravel_index(order, may_go.shape)):
            if count(settled).multiply_adds <= self.multiply_adds:
                break
            if may_go[structure, column] and settled.kept[structure][column]:
                fewer = _without(settled, structure, column)
                if count(fewer).multiply_adds >= (1 - TOLERANCE) * self.multiply_adds:
                    settled = fewer
        return self._nearest(settled) if is_last else settled

    def _nearest(self, settled: Architecture) -> Architecture:
        """The architecture, or if it misses the target one without a connection that is nearer."""
        if self.is_met(settled):
            return settled
        fewer = (_without(settled, *position) for position in np.argwhere(settled.kept))
        candidates = [settled, *(one for one in fewer if one.num_connections)]
        return min(candidates, key=lambda one: abs(count(one).multiply_adds - self.multiply_adds))


def _without(architecture: Architecture, structure: int, column: int) -> Architecture:
    """An architecture without a connection, and what dangles after it."""
    rows = list(architecture.kept)
    mask = rows[structure]
    rows[structure] = prune(architecture.space, (*mask[:column], False, *mask[column + 1 :]))
    return replace(architecture, kept=tuple(rows))


def _smallest(complete: Architecture) -> Architecture:
    """One operation of level 1 in one block, and one 1×1 branch a reduction."""
    space = complete.space
    names = [edge.name for edge in space.connections]
    nothing = (False,) * len(names)
    candidates = [
        Architecture(
            space,
            (nothing,) * (space.num_structures - 1)
            + (tuple(name == f"1.{operation}->output" for name in names),),
            ((True, False),) * space.num_reductions,
        )
        for operation in space.operations
    ]
    return min(candidates, key=lambda architecture: count(architecture).multiply_adds)


class OneOperation:
    """Where a search of the mobile setting ends: with one operation in every block.

    γ is zero for an operation that is alone, which has nothing to compete with. What has not been
    decided when the epochs are over is forced: of each block the operation of the largest λ
    stays, and of equal ones the smaller. `forced` says in how many blocks.
    """

    def __init__(self) -> None:
        self.forced: List[int] = []

    def state(self) -> Tuple[Dict[str, Any], Dict[str, np.ndarray]]:
        """Nothing: it follows from the architecture."""
        return {}, {}

    def restore(self, values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Nothing."""

    def check(self, complete: MobileArchitecture) -> None:
        """Every space of this setting can end there."""

    def is_met(self, architecture: MobileArchitecture) -> bool:
        """Whether every block has one operation."""
        return architecture.num_connections == architecture.space.num_structures

    def describe(self, architecture: MobileArchitecture) -> str:
        """For people: whether λ decided."""
        if not self.is_met(architecture):
            return "not every block has one operation"
        if not self.forced:
            return "one operation in every block, decided by λ alone"
        return (
            f"one operation in every block, in {len(self.forced)} of {len(architecture.kept)} by "
            f"the largest λ when the epochs were over"
        )

    def adapt(self, scales: Scales, progress: float) -> np.ndarray:
        """The factor of γ of each operation: 0 where it is alone, else 1."""
        kept = np.array(MobileArchitecture.from_scales(scales).kept)
        return np.where(kept.sum(1, keepdims=True) > 1, 1.0, 0.0).repeat(kept.shape[1], 1)

    def settle(
        self, present: MobileArchitecture, found: MobileArchitecture, scales: Scales, is_last: bool
    ) -> MobileArchitecture:
        """What was found; after the last epoch, of each block the operation of the largest λ."""
        if not is_last:
            return found
        kept = np.array(found.kept)
        self.forced = np.flatnonzero(kept.sum(1) > 1).tolist()
        largest = np.where(kept, scales.connections, -1).argmax(1)
        return replace(found, kept=tuple(map(tuple, np.eye(kept.shape[1], dtype=bool)[largest])))
