"""What networks ask of the graph that they are traced for, and tell it.

A `TrainGraph` traces a network with a `Tracing` in force; everywhere else there is none.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Iterator, List, Optional

import mxnet as mx

if TYPE_CHECKING:
    from .derived import Derived

PROGRESS = "progress"  # the parameter of a network that wants to know how far its training is


@dataclass(eq=False)
class Tracing:
    """The graph of a training, while a network is traced for it.

    Parameters
    ----------
    gradients : {'all', 'weights', 'lambdas'}
        Which gradients of parameters it shall compute.
    is_native : bool
        Whether the project's own operators are to be used.
    derived : Derived, optional
        Arrays to take in place of parameters, in a graph for GPUs.
    images : int
        How many a device has of each batch, or, where some have one more, the others.

    Attributes
    ----------
    side_effects : list of Symbol
        What no output depends on.
    """

    gradients: str
    is_native: bool
    derived: Optional[Derived] = None
    images: int = 1
    side_effects: List[mx.sym.Symbol] = field(default_factory=list)

    _present: ClassVar[Optional[Tracing]] = None

    def also(self, symbol: mx.sym.Symbol) -> None:
        """Have a symbol computed in forward that no output depends on, for what it changes."""
        self.side_effects.append(symbol)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Networks that are traced here ask this one."""
        before, Tracing._present = Tracing._present, self
        try:
            yield
        finally:
            Tracing._present = before


def training(F: Any) -> Optional[Tracing]:
    """For networks: the graph of a training that they are traced for, or None."""
    return Tracing._present if F is mx.sym else None


def native_tracing(F: Any) -> Optional[Tracing]:
    """For networks: the same, if it uses the project's own operators.

    It cannot on a GPU, nor without the library.
    """
    present = training(F)
    return present if present is not None and present.is_native else None


def derived_inputs(F: Any) -> Optional[Derived]:
    """For networks: arrays to take in place of parameters, in a graph for GPUs; None elsewhere."""
    present = training(F)
    return None if present is None else present.derived
