"""Drop path (Larsson et al. 2017): in training, connections of a block are dropped at random.

Each sample drops connections of its own. What can be dropped is every kept connection into an
operation that has more than one, and every one to the output. The probability grows with the depth
of the block and with the share of the training that is done; what is kept is divided by 1 − p, so
that the expectation of every sum stays.
"""

from itertools import groupby
from typing import Any, List, Tuple

from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import OUTPUT, SearchSpace

from .operations import Map


def final_probability(space: SearchSpace, block_index: int, rate: float) -> float:
    """p of a block at the end of the training: rate · (c + 1/4) / (C + 2).

    c is the number of blocks and reductions before it, C that of the network. With three stages of
    eight blocks this is rate · (36 (s − 1) + 4 (u − 1) + 1) / 112 for block u of stage s.
    """
    stage, _ = space.block_positions[block_index]
    before = block_index + stage - 1
    return rate * (before + 0.25) / (space.num_blocks + space.num_reductions + 2)


def can_drop(architecture: Architecture, structure: int) -> Tuple[bool, ...]:
    """Of each live connection of a block, in the order of λ, whether it may be dropped."""
    targets = (*architecture.live_nodes(structure), OUTPUT)
    live = [(target, architecture.live_sources(structure, target)) for target in targets]
    return tuple(target == OUTPUT or len(sources) > 1 for target, sources in live for _ in sources)


class DropPath:
    """Scales of all connections of a network, drawn for each sample.

    Parameters
    ----------
    architecture : Architecture
    rate : float
        What the probability would be a little behind the last block, at the end of the training.
    """

    def __init__(self, architecture: Architecture, rate: float) -> None:
        space = architecture.space
        blocks = range(space.num_blocks)
        self._probabilities = [final_probability(space, block, rate) for block in blocks]
        self._droppable = [can_drop(architecture, space.structure_of(block)) for block in blocks]

    def scales(self, F: Any, data: Map, progress: Map) -> List[Map]:
        """Of each block B×connections: 0 with probability p, else 1 / (1 − p); or 1.

        Parameters
        ----------
        data : B×C×H×W
            Tells the number of samples.
        progress : array of shape 1
            Share of the training that is done.
        """
        counts = [len(droppable) for droppable in self._droppable]
        # One operator draws all of a step. It depends on the images alone, which have no gradient.
        like = F.reshape(F.slice(data, begin=(0, 0, 0, 0), end=(None, 1, 1, 1)), (0, 1))
        draws = F.random.uniform_like(F.broadcast_axis(like, axis=1, size=max(1, sum(counts))))
        scales: List[Map] = []
        start = 0
        for p, droppable in zip(self._probabilities, self._droppable):
            parts = []
            for can, run in groupby(droppable):
                stop = start + len(list(run))
                part = F.slice_axis(draws, axis=1, begin=start, end=stop)
                parts.append(_scales(F, part, progress * p) if can else F.ones_like(part))
                start = stop
            scales.append(F.concat(*parts, dim=1) if len(parts) > 1 else (parts or [None])[0])
        return scales


def _scales(F: Any, draws: Map, probability: Map) -> Map:
    probability = F.reshape(probability, (1, 1))
    return F.broadcast_div(F.broadcast_greater_equal(draws, probability), 1 - probability)
