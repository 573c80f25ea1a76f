"""The simplest baselines, a random network and the complete one, at the size of another network.

Both get the smallest width, in steps of one, at which they have at least as many parameters, so
that what they are compared with is never the larger.
"""

from dataclasses import replace
from typing import Any, Dict, Iterable, Iterator, Optional

from ..space.architecture import Architecture
from ..space.normal import MOST_WIDTH, SearchSpace
from .count import count
from .width import Target, fit_width, narrowest, parameters

TOLERANCE = 0.01  # of the parameters of a random network
MOST_DRAWS = 1000


def parameters_at(architecture: Architecture, width: int) -> int:
    """Parameters of the network at that width."""
    return count(architecture.with_space(width=width)).parameters


def at_least(architecture: Architecture, least: int) -> Architecture:
    """The network at the smallest width with at least so many parameters."""
    low, high = narrowest(architecture), MOST_WIDTH
    if parameters_at(architecture, high) < least:
        raise ValueError(f"no width up to {MOST_WIDTH} has {least:,} parameters")
    while low < high:
        middle = (low + high) // 2
        if parameters_at(architecture, middle) < least:
            low = middle + 1
        else:
            high = middle
    return architecture.with_space(width=low)


def draws(
    space: SearchSpace, seed: int, connections: Optional[int] = None
) -> Iterator[Architecture]:
    """Random networks, all of whose connections are on a way from input to output.

    Those of one seed are none of another's.
    """
    origin: Dict[str, Any] = {"baseline": f"random {space.scope}", "seed": seed}
    for draw in range(MOST_DRAWS):
        yield Architecture.random(space, seed * MOST_DRAWS + draw, connections, origin=origin)


def random_network(space: SearchSpace, seed: int) -> Architecture:
    """A random network of the scope and width of the space; same seed, same network."""
    return next(draws(space, seed))


def random_within(space: SearchSpace, seed: int, most: int, divisor: int = 1) -> Architecture:
    """A random network at the largest width with at most so many parameters, and 1 % less at most.

    Networks are drawn until there is one; of too many draws it is the nearest.
    """
    target = Target("parameters", most, parameters)
    return _nearest((fit_width(n, target, divisor) for n in draws(space, seed)), most)


def like(reference: Architecture, scope: Optional[str] = None, seed: int = 0) -> Architecture:
    """A baseline in the space of `reference`, with its number of parameters.

    Parameters
    ----------
    scope : {'share', 'full'}, optional
        Of a random network, with as many connections in a block as the blocks of `reference`
        have on average, drawn until one has at most 1 % more parameters; without it, the full
        network.
    """
    size = count(reference).parameters
    if scope is None:
        full = Architecture.complete(reference.space, {"baseline": "full network"})
        return at_least(full, size)
    connections = max(round(reference.num_connections / reference.space.num_structures), 1)
    networks = draws(replace(reference.space, scope=scope), seed, connections)
    return _nearest((at_least(network, size) for network in networks), size)


def _nearest(networks: Iterable[Architecture], size: int) -> Architecture:
    """The first with that many parameters, by 1 %; of all that are drawn in vain the nearest."""
    best, least = None, 0
    for network in networks:
        off = abs(count(network).parameters - size)
        if best is None or off < least:
            best, least = network, off
        if least <= TOLERANCE * size:
            break
    assert best is not None
    return best
