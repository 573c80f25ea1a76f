"""Random and full networks at the size of another."""

from dataclasses import replace

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.cost import baseline
from dsonas_mx.cost.count import count
from dsonas_mx.space.masks import prune

import pytest

SPACE = SearchSpace(blocks=(1, 1, 1), width=8)


@pytest.fixture(scope="module")
def found():
    return Architecture.random(replace(SPACE, width=12), 5, connections=22)


def test_the_width_is_the_least_possible(found):
    sizes = [baseline.parameters_at(found, width) for width in range(1, 20)]
    for parameters in (1, sizes[9], sizes[9] + 1, sizes[10] - 1):
        above = baseline.at_least(found, parameters)
        assert above.space.width == next(w for w, s in enumerate(sizes, 1) if s >= parameters)
        assert above.kept == found.kept


def test_a_size_that_cannot_be_had(found):
    with pytest.raises(ValueError, match="no width up to"):
        baseline.at_least(found, 10**15)


def test_an_imagenet_stem_starts_at_width_two():
    network = Architecture.complete(SearchSpace.imagenet(blocks=(1, 1, 1, 1)))
    assert baseline.at_least(network, 1).space.width == 2


def test_full_network_like_found(found):
    full = baseline.like(found)
    size = count(found).parameters
    assert full.num_connections == full.space.num_connections == 124
    assert count(full).parameters >= size > baseline.parameters_at(full, full.space.width - 1)


@pytest.mark.parametrize("scope", ["share", "full"])
def test_random_like_found(found, scope):
    """As many connections a block, all connected, and up to 1 % more parameters."""
    size = count(found).parameters
    drawn = {}
    for seed in (0, 1):
        network = baseline.like(found, scope, seed)
        assert network.space == replace(found.space, scope=scope, width=network.space.width)
        assert [sum(mask) for mask in network.kept] == [22] * network.space.num_structures
        assert all(prune(network.space, mask) == mask for mask in network.kept)
        assert size <= count(network).parameters <= 1.01 * size
        assert network == baseline.like(found, scope, seed)
        drawn[network.kept] = seed
    assert len(drawn) == 2


def test_random_share_like_a_full_scope_one():
    """It has the average of the blocks' connections."""
    space = replace(SPACE, scope="full")
    found = Architecture.random(space, 0, connections=[20, 24, 31])
    assert baseline.like(found, "share").num_connections == 25
    assert baseline.like(found, "full").num_connections == 75


def test_a_random_network_of_the_space():
    drawn = baseline.random_network(SPACE, 3)
    assert drawn.space == SPACE
    assert drawn.kept == Architecture.random(SPACE, 3000).kept
    assert drawn.origin == {"baseline": "random share", "seed": 3}


def test_random_within():
    """Connections are drawn until the widest network is within 1 % of the target."""
    drawn = {baseline.random_within(SPACE, seed, 100_000) for seed in (0, 1)}
    assert len({network.kept for network in drawn}) == 2
    assert all(99_000 <= count(network).parameters <= 100_000 for network in drawn)
    width = baseline.random_within(SPACE, 0, 1_000_000, 8).space.width
    assert width % 8 == 0


def test_too_few_draws_give_the_nearest(monkeypatch, found):
    monkeypatch.setattr(baseline, "MOST_DRAWS", 3)
    monkeypatch.setattr(baseline, "TOLERANCE", -1)  # never met
    size = count(found).parameters
    nearest = baseline.like(found, "share")
    draws = [Architecture.random(found.space, seed, 22) for seed in range(3)]
    sizes = [count(baseline.at_least(draw, size)).parameters for draw in draws]
    assert count(nearest).parameters == min(sizes)
