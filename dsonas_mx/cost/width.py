"""Meeting a target: the width of a found network, by a global multiplier after search (4.1)."""

import math
from typing import Any, Callable, Dict

from ..io.checks import check_int
from ..space.architecture import Architecture
from ..space.normal import MOST_WIDTH
from .count import count

Measure = Callable[[Architecture], float]


def parameters(architecture: Architecture) -> float:
    """Parameters of the network of an architecture."""
    return count(architecture).parameters


def multiply_adds(architecture: Architecture) -> float:
    """Multiply-adds of the network of an architecture, for one image."""
    return count(architecture).multiply_adds


class Target:
    """What a network may have at most.

    Parameters
    ----------
    unit : str
        What is measured, for messages: ``'parameters'``.
    most : float
        Above 0.
    measure : callable
        `measure(architecture)` → what its network has; more for wider networks.
    """

    def __init__(self, unit: str, most: float, measure: Measure) -> None:
        if not 0 < most < float("inf"):
            raise ValueError(f"a target of {unit} must be above 0 and finite, got {most}")
        self.unit = unit
        self.most = most
        self._measure = measure
        self._measured: Dict[Any, float] = {}

    def reached(self, architecture: Architecture) -> float:
        """What the network of an architecture has; of each measured once."""
        network = (architecture.space, architecture.kept)
        if network not in self._measured:
            self._measured[network] = self._measure(architecture)
        return self._measured[network]

    def describe(self, architecture: Architecture) -> str:
        """For people: what was reached of the target."""
        width, reached = architecture.space.width, self.reached(architecture)
        return f"width {width}: {_shown(reached)} of {_shown(self.most)} {self.unit}"


def fit_width(architecture: Architecture, target: Target, divisor: int = 1) -> Architecture:
    """The architecture with the widest network that is within a target.

    Parameters
    ----------
    architecture : Architecture
        Of any width.
    target : Target
    divisor : int
        The width of the first stage is a multiple of it.

    Raises
    ------
    ValueError
        The narrowest network is above the target already, or the widest possible still far below;
        the message says what it has.
    """
    check_int("divisor", divisor, 1, MOST_WIDTH)

    def of_width(multiple: int) -> Architecture:
        return architecture.with_space(width=multiple * divisor)

    def fits(multiple: int) -> bool:
        return target.reached(of_width(multiple)) <= target.most

    low = math.ceil(narrowest(architecture) / divisor)
    if not fits(low):
        raise _unreachable(of_width(low), target, "narrowest")
    most = MOST_WIDTH // divisor
    high = min(2 * low, most)
    while fits(high):
        if high == most:
            raise _unreachable(of_width(most), target, "widest")
        low, high = high, min(2 * high, most)
    while high - low > 1:  # low fits, high does not
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return of_width(low)


def narrowest(architecture: Architecture) -> int:
    """The fewest channels of the first stage: ImageNet's stem begins with half as many."""
    return 2 if architecture.space.stem == "imagenet" else 1


def _unreachable(closest: Architecture, target: Target, which: str) -> ValueError:
    return ValueError(
        f"a target of {_shown(target.most)} {target.unit} cannot be met: the {which} network, of "
        f"width {closest.space.width}, has {_shown(target.reached(closest))}"
    )


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
