"""What each connection costs in time: the latency deduction of removing it (section 3.4).

The paper measures the whole network without a connection. Blocks run one after the other, so what
a connection takes of the network is what it takes of each block that has it: here a network of one
block, at the shape of each stage, is measured with it and without it, and the differences are added
up over the blocks. One connection of one block of 24 would vanish in the noise of the network's
latency, and a block takes a fraction of the time.

Other programs only ever add to a time. Networks that are compared therefore take turns, and of each
the fastest of its rounds counts. The noise is how far apart copies of one network come out, or how
far the second round was from the fastest, if that is more.
"""

import statistics
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..engine.timing import alternate
from ..io.checks import check_int
from ..space.architecture import Architecture
from ..space.masks import Mask, prune
from ..space.normal import INPUT, OUTPUT, SearchSpace
from .measure import deploy, input_shape

ROUNDS = 30
_WARM_UP = 2
COPIES = 4  # of a network, whose differences are the noise
_AT_ONCE = 8  # networks without a connection that are in memory together

StageShape = Tuple[int, int]  # channels, side in pixels
Deploy = Callable[[], Callable[[], object]]  # binds a network; calling that runs it


class Saving(NamedTuple):
    """How much faster one network is than another, and what the measurement cannot tell apart."""

    ms: float
    noise_ms: float

    @property
    def beyond_noise(self) -> float:
        """What is saved, or 0 if the measurement cannot tell it from nothing."""
        return self.ms if self.ms > self.noise_ms else 0.0


class Fastest(NamedTuple):
    """The fastest round of a network, and by how much the second one missed it."""

    ms: float
    gap_ms: float


class InTurns:
    """Measures networks that take turns; those that do the same work once.

    Parameters
    ----------
    build : callable
        What is measured, as it is deployed: without λ.
    device : Context
        The CPU by default.
    batch_size : int
    rounds : int
        Turns of which the fastest counts.
    """

    def __init__(
        self,
        build: Callable[..., HybridBlock],
        device: Optional[mx.Context] = None,
        batch_size: int = 1,
        rounds: int = ROUNDS,
    ) -> None:
        self._build = build
        self._device = device or mx.cpu()
        self._batch_size = check_int("batch_size", batch_size, 1)
        self._rounds = check_int("rounds", rounds, 2)
        self._known: Dict[Any, Any] = {}


class Deductions(InTurns):
    """Milliseconds that the network saves without each live connection (LAT of Eq. 19).

    Blocks that do the same work, as most blocks without one connection of a full sum do, share one
    measurement, and so do all epochs of a search.

    `build` makes the network of an architecture; see `InTurns`.
    """

    def __call__(self, architecture: Architecture) -> np.ndarray:
        """Structures × connections, in ms; 0 for what is dead or saves no more than the noise."""
        saved, noise = self.measured(architecture)
        return np.where(saved > noise, saved, 0.0)

    def measured(self, architecture: Architecture) -> Tuple[np.ndarray, np.ndarray]:
        """What was measured and its noise, each structures × connections, in ms; 0 for dead ones.

        A connection that several blocks share counts in each, with all that dies with it. It is
        below zero where the network gets slower without it.
        """
        space = architecture.space
        saved = np.zeros((space.num_structures, len(space.connections)))
        variance = np.zeros_like(saved)
        for structure, mask in enumerate(architecture.kept):
            changes = without_each(space, mask)
            for shape, blocks in blocks_by_shape(space, structure).items():
                for position, saving in self._block(space, shape, mask, changes).items():
                    saved[structure, position] += blocks * saving.ms
                    variance[structure, position] += (blocks * saving.noise_ms) ** 2
        return saved, np.sqrt(variance)

    def _block(
        self, space: SearchSpace, shape: StageShape, mask: Mask, changes: Mapping[int, Mask]
    ) -> Dict[int, Saving]:
        """What one block saves without each of its connections."""
        before = work(space, mask)
        keys = {
            position: (shape, before, work(space, fewer)) for position, fewer in changes.items()
        }
        unknown = {key: changes[i] for i, key in keys.items() if key not in self._known}
        if unknown:
            full = self._deployed(space, shape, mask)
            others = {key: self._deployed(space, shape, fewer) for key, fewer in unknown.items()}
            self._known.update(savings(full, others, self._rounds))
        return {position: self._known[key] for position, key in keys.items()}

    def _deployed(self, space: SearchSpace, shape: StageShape, mask: Mask) -> Deploy:
        """Binds the network of one block when it is called: not all are in memory together."""
        one = one_block(space, shape, mask)
        return lambda: deploy(self._build(one), input_shape(one, self._batch_size), self._device)


def savings(full: Deploy, others: Mapping[Any, Deploy], rounds: int) -> Dict[Any, Saving]:
    """How much faster than `full` each of the `others` is.

    They take turns in groups, each with some copies of `full`.
    """
    result = {}
    names = list(others)
    for start in range(0, len(names), _AT_ONCE):
        group = names[start : start + _AT_ONCE]
        pieces = {f"copy {i}": full() for i in range(COPIES)}
        pieces.update({str(i): others[name]() for i, name in enumerate(group)})
        fastest = take_turns(pieces, rounds)
        slow, floor = alike([fastest[f"copy {i}"] for i in range(COPIES)])
        for i, name in enumerate(group):
            fast = fastest[str(i)]
            result[name] = Saving(slow - fast.ms, max(floor, fast.gap_ms))
    return result


def take_turns(pieces: Mapping[str, Callable[[], object]], rounds: int) -> Dict[str, Fastest]:
    """The fastest round of each piece."""
    result = {}
    for name, seconds in alternate(pieces, rounds, _WARM_UP).items():
        first, second = sorted(1e3 * value for value in seconds)[:2]
        result[name] = Fastest(first, second - first)
    return result


def alike(copies: Sequence[Fastest]) -> Tuple[float, float]:
    """The median of copies of a network, and twice their standard deviation: the noise, in ms."""
    times = [copy.ms for copy in copies]
    return statistics.median(times), 2 * statistics.stdev(times)


# Blocks


def blocks_by_shape(space: SearchSpace, structure: int) -> Dict[StageShape, int]:
    """How many blocks of each shape have a structure."""
    return Counter(
        space.stage_shapes[stage - 1]
        for index, (stage, _) in enumerate(space.block_positions)
        if space.structure_of(index) == structure
    )


def without_each(space: SearchSpace, mask: Mask) -> Dict[int, Mask]:
    """For the position of each kept connection, what is left without it."""
    return {
        position: prune(space, (*mask[:position], False, *mask[position + 1 :]))
        for position, kept in enumerate(mask)
        if kept
    }


def one_block(space: SearchSpace, shape: StageShape, mask: Mask) -> Architecture:
    """A network of a single block with this structure at the shape of a stage."""
    channels, side = shape
    alone = replace(
        space, scope="share", stem="cifar", blocks=(1,), width=channels, image_size=side
    )
    return Architecture(alone, (mask,), ())


def work(space: SearchSpace, mask: Mask) -> Any:
    """What a block computes, whatever its maps are called: blocks of equal work are as fast.

    For each sum its number of terms and the operations that take it, and the number of maps that
    reach the output. Operations of a level with the same sources take one sum.
    """
    sources: Dict[str, List[str]] = defaultdict(list)
    for edge, kept in zip(space.connections, mask):
        if kept:
            sources[edge.target].append(edge.source)
    live = {source for terms in sources.values() for source in terms} - {INPUT}
    sums: Dict[Any, List[str]] = defaultdict(list)
    for node in live:
        level, operation = node.split(".")
        sums[level, tuple(sources[node])].append(operation)
    shapes = sorted(
        (max(1, len(terms)), tuple(sorted(operations))) for (_, terms), operations in sums.items()
    )
    return tuple(shapes), len(sources[OUTPUT])
