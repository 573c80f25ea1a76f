"""Which connections of a block live: pruned to those that matter (Eq. 6), or drawn at random."""

import random
from typing import Any, Sequence, Tuple

from .normal import INPUT, OUTPUT, SearchSpace

Mask = Tuple[bool, ...]
Branches = Tuple[bool, bool]  # of a reduction: its 1×1 and its 3×3 convolution

_MOST_DRAWS = 10_000


def prune(space: SearchSpace, mask: Sequence[Any]) -> Mask:
    """Keep of `mask` the connections that lie on a way from the block's input to its output.

    Parameters
    ----------
    mask : sequence of bool
        One a connection, in the order of `space.connections`.
    """
    connections = space.connections
    if len(mask) != len(connections):
        raise ValueError(f"mask must have {len(connections)} entries, got {len(mask)}")
    # `connections` has targets in the order of the levels: one pass each way is enough.
    reachable = {INPUT, *space.nodes[: len(space.operations)]}
    for (source, target), kept in zip(connections, mask):
        if kept and source in reachable:
            reachable.add(target)
    useful = {OUTPUT}
    for (source, target), kept in zip(reversed(connections), reversed(mask)):
        if kept and target in useful:
            useful.add(source)
    return tuple(
        bool(kept) and source in reachable and target in useful
        for (source, target), kept in zip(connections, mask)
    )


def live_branches(scales: Sequence[float]) -> Branches:
    """Which branches of a reduction live: those above zero, or else the larger of the two.

    Of two equal ones the 3×3 stays: a 1×1 of stride 2 sees a quarter of the pixels.
    """
    small, large = scales
    if small > 0 or large > 0:
        return bool(small > 0), bool(large > 0)
    return bool(small > large), bool(small <= large)


def draw_density(space: SearchSpace, generator: random.Random, density: float) -> Mask:
    """Each connection with this probability, then pruned; drawn anew until something is left."""
    for _ in range(_MOST_DRAWS):
        mask = prune(space, [generator.random() < density for _ in space.connections])
        if any(mask):
            return mask
    raise ValueError(f"density {density} leaves nothing; give a larger one")


def draw_count(space: SearchSpace, generator: random.Random, count: int) -> Mask:
    """Exactly so many connections: taken out of the complete block in random order."""
    size = len(space.connections)
    if count == 0:
        return (False,) * size
    for _ in range(_MOST_DRAWS):
        mask: Mask = (True,) * size
        keys = [generator.random() for _ in range(size)]
        for position in sorted(range(size), key=keys.__getitem__):
            if sum(mask) == count:
                return mask
            if mask[position]:
                fewer = prune(space, (*mask[:position], False, *mask[position + 1 :]))
                if sum(fewer) >= count:
                    mask = fewer
        if sum(mask) == count:
            return mask
    raise ValueError(f"no architecture with exactly {count} connections was found")
