"""The simplest baselines, a random network and the complete one, at the size of another network.

Both get the smallest width, in steps of one, at which they have at least as many parameters, so
that what they are compared with is never the larger.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Optional

from .architecture import Architecture
from .cost import count
from .space import SearchSpace

EXCESS = 0.01  # of parameters, that a random network may have
WIDEST = 4096  # channels of the first stage
_MOST_DRAWS = 1000


def parameters_at(architecture: Architecture, width: int) -> int:
    """Parameters of the network at that width."""
    return count(architecture.with_space(width=width)).parameters


def at_least(architecture: Architecture, parameters: int) -> Architecture:
    """The network at the smallest width with at least so many parameters."""
    low, high = _narrowest(architecture), WIDEST
    if parameters_at(architecture, high) < parameters:
        raise ValueError(f"no width up to {WIDEST} has {parameters:,} parameters")
    while low < high:
        middle = (low + high) // 2
        if parameters_at(architecture, middle) < parameters:
            low = middle + 1
        else:
            high = middle
    return architecture.with_space(width=low)


def at_most(architecture: Architecture, parameters: int) -> Architecture:
    """The network at the largest width with at most so many parameters."""
    width = at_least(architecture, parameters + 1).space.width - 1
    least = _narrowest(architecture)
    if width < least:
        raise ValueError(
            f"no width has as few as {parameters:,} parameters: width {least} has "
            f"{parameters_at(architecture, least):,}"
        )
    return architecture.with_space(width=width)


def full_network(space: SearchSpace, parameters: Optional[int] = None) -> Architecture:
    """Every operation and connection; at the width of the space if no size is given."""
    network = Architecture.complete(space, {"baseline": "full network"})
    return network if parameters is None else at_least(network, parameters)


def random_network(
    space: SearchSpace,
    seed: int,
    parameters: Optional[int] = None,
    connections: Optional[int] = None,
) -> Architecture:
    """A random network of that scope, all of whose connections are on a way from input to output.

    Parameters
    ----------
    seed : int
        Same seed, same network.
    parameters : int, optional
        It is drawn until there is a width at which it has so many parameters, and at most 1 %
        more; of too many draws the nearest. Without it, the first draw at the width of the space.
    connections : int, optional
        In each structure; without it, each is drawn with probability one half.
    """
    origin: Dict[str, Any] = {"baseline": f"random {space.scope}", "seed": seed}
    nearest, least = None, 0
    for draw in range(1 if parameters is None else _MOST_DRAWS):
        # Draws of one seed are none of another's first thousand seeds.
        drawn = Architecture.random(space, seed * _MOST_DRAWS + draw, connections, origin=origin)
        if parameters is None:
            return drawn
        drawn = at_least(drawn, parameters)
        size = count(drawn).parameters
        if nearest is None or size < least:
            nearest, least = drawn, size
        if least <= (1 + EXCESS) * parameters:
            break
    assert nearest is not None
    return nearest


def like(reference: Architecture, scope: Optional[str] = None, seed: int = 0) -> Architecture:
    """A baseline in the space of `reference`, with its number of parameters.

    Parameters
    ----------
    scope : {'share', 'full'}, optional
        Of a random network, with as many connections in a block as the blocks of `reference`
        have on average; without it, the full network.
    """
    size = count(reference).parameters
    if scope is None:
        return full_network(reference.space, size)
    connections = round(reference.num_connections / reference.space.num_structures)
    return random_network(replace(reference.space, scope=scope), seed, size, max(connections, 1))


def _narrowest(architecture: Architecture) -> int:
    return 2 if architecture.space.stem == "imagenet" else 1
