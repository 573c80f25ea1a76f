"""Architectures: pruning by reachability, other spaces, and random ones."""

import json
import math
import random
from pathlib import Path

from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.masks import live_branches, prune
from dsonas_mx.space.normal import OPERATIONS, Connection, SearchSpace

import numpy as np
import pytest

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "derive_share.json").read_text())
SMALL = SearchSpace(levels=2, operations=("sep3", "max"), blocks=(1, 2), width=4)
FULL = SearchSpace("full", 2, ("sep3", "max"), blocks=(1, 2), width=4)


def in_our_order(arrays):
    """One vector of the authors' arrays: the inputs of each operation, then the output's."""
    names = [f"lambda_layer_{level}_{k}" for level in (2, 3, 4) for k in (1, 2, 3, 4)]
    return [value for name in (*names, "lambda_after") for value in arrays[name][0]]


def paths_through(space, mask):
    """Oracle for `prune`: the connections on any way from input to output, way by way."""
    kept = [c for c, keep in zip(space.connections, mask) if keep]
    found = set()

    def walk(node, way):
        if node == "output":
            found.update(way)
        for connection in kept:
            if connection.source == node:
                walk(connection.target, [*way, connection])

    for start in ("input", *(node for node in space.nodes if node.startswith("1."))):
        walk(start, [])
    return tuple(c in found for c in space.connections)


def mask_of(space, *names):
    wanted = [c for c in space.connections if c.name in names]
    assert len(wanted) == len(names)
    return [c in wanted for c in space.connections]


# Pruning


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"density {case['density']}")
def test_derives_what_the_authors_derive(case):
    space = SearchSpace(blocks=(case["blocks_per_stage"],) * 3, width=case["width"])
    architecture = Architecture.from_lambdas(space, in_our_order(case["lambdas"]))
    assert architecture.kept == (tuple(map(bool, in_our_order(case["kept"]))),)
    # The argument names of the network say which operations are left, and which reach the output.
    kinds = {"sep3": "conv3x3_sep_weight", "sep5": "conv5x5_sep_weight"}
    kinds.update({"max": "max_pool_bn_gamma", "avg": "avg_pool_bn_gamma"})
    for number, node in enumerate(space.nodes, 1):
        level, operation = node.split(".")
        lives = f"stage2_unit1_{level}_{kinds[operation]}" in case["arguments"]
        assert (node in architecture.live_nodes(0)) == lives
        feeds = f"stage2_unit1_output_conv_{number}_weight" in case["arguments"]
        assert (node in architecture.live_sources(0, "output")) == feeds


@pytest.mark.parametrize("levels", (1, 2, 3))
@pytest.mark.parametrize("count", (1, 2))
def test_prune_keeps_exactly_what_lies_on_a_way(levels, count):
    space = SearchSpace(levels=levels, operations=OPERATIONS[:count])
    generator = random.Random(levels * 10 + count)
    for _ in range(60):
        density = generator.random()
        mask = [generator.random() < density for _ in space.connections]
        pruned = prune(space, mask)
        assert pruned == paths_through(space, mask)
        assert prune(space, pruned) == pruned


def test_prune_wants_one_entry_a_connection():
    with pytest.raises(ValueError, match="mask must have 10 entries, got 9"):
        prune(SMALL, [True] * 9)


def test_only_positive_finite_scales_live():
    lambdas = np.zeros(len(SMALL.connections), dtype=np.float32)
    lambdas[SMALL.connections.index(Connection("1.max", "output"))] = 1e-30
    lambdas[SMALL.connections.index(Connection("1.sep3", "output"))] = -1
    architecture = Architecture.from_lambdas(SMALL, lambdas)
    assert architecture.live_nodes(0) == ("1.max",)
    assert architecture.num_connections == 1
    for bad in (math.nan, math.inf):
        lambdas[0] = bad
        with pytest.raises(ValueError, match="lambdas has a value that is not finite"):
            Architecture.from_lambdas(SMALL, lambdas)


def test_a_reduction_keeps_its_larger_branch():
    assert live_branches([0.5, 0.1]) == (True, True)
    assert live_branches([0.0, 0.1]) == (False, True)
    assert live_branches([0.1, -0.1]) == (True, False)
    assert live_branches([-0.1, -0.2]) == (True, False)
    assert live_branches([0.0, 0.0]) == (False, True)
    ones = np.ones((1, len(SMALL.connections)))
    architecture = Architecture.from_lambdas(SMALL, ones, [[0.0, 2.0]])
    assert architecture.reductions == ((False, True),)
    assert Architecture.from_lambdas(SMALL, ones).reductions == ((True, True),)


@pytest.mark.parametrize("shape", ((9,), (2, 10), (3, 9), ()))
def test_shapes_of_scales_are_checked(shape):
    with pytest.raises(ValueError, match="lambdas must have the shape"):
        Architecture.from_lambdas(SMALL, np.ones(shape))
    with pytest.raises(ValueError, match="lambdas must have the shape"):
        Architecture.from_lambdas(FULL, np.ones(shape))
    with pytest.raises(ValueError, match="reduction_lambdas must have the shape"):
        Architecture.from_lambdas(SMALL, np.ones(10), np.ones(shape))


def test_full_scope_prunes_each_block_by_itself():
    lambdas = np.zeros((3, 10))
    lambdas[1] = 1
    architecture = Architecture.from_lambdas(FULL, lambdas)
    assert [len(architecture.live_nodes(s)) for s in range(3)] == [0, 4, 0]
    assert architecture.num_connections == 10


# The class


def test_live_nodes_and_sources():
    mask = mask_of(SMALL, "input->2.sep3", "1.max->2.sep3", "2.sep3->output", "1.max->output")
    architecture = Architecture(SMALL, (mask,), ((True, False),))
    assert architecture.live_nodes(0) == ("1.max", "2.sep3")
    assert architecture.live_sources(0, "2.sep3") == ("input", "1.max")
    assert architecture.live_sources(0, "2.max") == ()
    assert architecture.live_sources(0, "1.max") == ()
    assert architecture.live_sources(0, "output") == ("1.max", "2.sep3")
    assert str(architecture).splitlines()[1:] == [
        "block: 4 of 10 connections",
        "  1.max <- input",
        "  2.sep3 <- input + 1.max",
        "  output <- 1.max + 2.sep3 + shortcut",
        "reduction 1: 1x1",
    ]


def test_complete_and_empty():
    complete = Architecture.complete(FULL)
    assert complete.num_connections == FULL.num_connections == 30
    assert complete.live_nodes(2) == FULL.nodes
    empty = Architecture.from_lambdas(FULL, np.zeros((3, 10)))
    assert empty.num_connections == 0
    assert empty.live_nodes(0) == ()
    assert "  output <- shortcut" in str(empty)
    assert "stage 2, block 2: 0 of 10 connections" in str(empty)


@pytest.mark.parametrize(
    ("names", "dangling"),
    [
        (["1.max->2.sep3", "1.max->output"], "1.max->2.sep3"),  # 2.sep3 goes nowhere
        (["2.sep3->output", "1.max->output"], "2.sep3->output"),  # 2.sep3 has no input
        (["input->2.max"], "input->2.max"),
    ],
)
def test_dangling_connections_are_refused(names, dangling):
    with pytest.raises(ValueError, match=rf"structures\[0\] keeps {dangling}"):
        Architecture(SMALL, (mask_of(SMALL, *names),), ((True, True),))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {}}, "space must be a SearchSpace"),
        ({"kept": ()}, "kept must have the shape"),
        ({"kept": ((True,) * 9,)}, "kept must have the shape"),
        ({"kept": ((2,) * 10,)}, "kept must be of True and False"),
        ({"kept": ((math.nan,) * 10,)}, "kept has a value that is not finite"),
        ({"kept": ((True,), (True, False))}, "kept must be"),
        ({"reductions": ()}, "reductions must have the shape"),
        ({"reductions": ((False, False),)}, r"reductions\[0\] must keep at least one branch"),
        ({"origin": []}, "origin must be an object"),
        ({"origin": {"a": {"b": math.inf}}}, r"origin\['a'\]\['b'\] must be finite"),
        ({"origin": {"a": object()}}, r"origin\['a'\] cannot be written as JSON"),
        ({"origin": {3: 4}}, "origin must have text for names, got 3"),
    ],
)
def test_what_is_wrong_is_named(changes, message):
    good = {"space": SMALL, "kept": ((True,) * 10,), "reductions": ((True, True),)}
    Architecture(**good)
    with pytest.raises(ValueError, match=message):
        Architecture(**{**good, **changes})


def test_origin_is_not_shared_with_the_caller():
    origin = {"options": {"levels": (1, 2)}}
    architecture = Architecture.complete(SMALL, origin)
    origin["options"]["levels"] = 3
    assert architecture.origin == {"options": {"levels": [1, 2]}}
    architecture.to_json()["origin"]["options"]["levels"].append(3)
    assert architecture.origin == {"options": {"levels": [1, 2]}}


# Other spaces


def test_a_shared_block_transfers_to_another_network():
    architecture = Architecture.random(SMALL, 1, connections=5)
    architecture = Architecture(SMALL, architecture.kept, ((True, False),), {"seed": 1})
    wider = architecture.with_space(width=64, blocks=(9, 9), num_classes=100, image_size=64)
    assert wider.space == SearchSpace(
        "share", 2, ("sep3", "max"), blocks=(9, 9), width=64, num_classes=100, image_size=64
    )
    assert (wider.kept, wider.reductions) == (architecture.kept, ((True, False),))
    assert wider.origin == {"seed": 1}
    # The stages differ, so which reduction is which is lost.
    imagenet = architecture.with_space(stem="imagenet", blocks=(2, 2, 13, 6))
    assert (imagenet.kept, imagenet.reductions) == (architecture.kept, ((True, True),) * 3)


def test_full_scope_needs_its_own_blocks():
    architecture = Architecture.complete(FULL)
    assert architecture.with_space(blocks=(1, 2), width=8).space.width == 8
    with pytest.raises(ValueError, match="blocks must stay 1,2 in the full scope"):
        architecture.with_space(blocks=(2, 1))


@pytest.mark.parametrize("name", ("scope", "levels", "operations", "height"))
def test_what_connections_mean_cannot_change(name):
    with pytest.raises(ValueError, match=f"{name} of an architecture cannot be changed"):
        Architecture.complete(SMALL).with_space(**{name: 3})


# Random ones


def test_random_is_the_same_everywhere():
    # Pinned: another Python, NumPy or machine must not give other baselines.
    by_density = Architecture.random(SMALL, 7)
    assert [i for i, keep in enumerate(by_density.kept[0]) if keep] == [0, 1, 3, 5, 6, 8, 9]
    by_count = Architecture.random(SearchSpace(), 7, connections=12)
    expected = [13, 20, 22, 27, 42, 47, 48, 50, 110, 116, 118, 119]
    assert [i for i, keep in enumerate(by_count.kept[0]) if keep] == expected


def test_random_seeds_differ_and_repeat():
    space = SearchSpace()
    drawn = [Architecture.random(space, seed, connections=30) for seed in range(10)]
    assert len({architecture.kept for architecture in drawn}) == 10
    assert drawn[3] == Architecture.random(space, 3, connections=30)
    full = Architecture.random(SearchSpace(scope="full", blocks=(2, 2, 2)), 0)
    assert len(set(full.kept)) == 6


@pytest.mark.parametrize("levels", (1, 2, 3))
@pytest.mark.parametrize("count", (1, 2, 3))
def test_random_meets_every_number_of_connections(levels, count):
    space = SearchSpace(levels=levels, operations=OPERATIONS[:count])
    for connections in range(len(space.connections) + 1):
        architecture = Architecture.random(space, connections, connections=connections)
        assert architecture.num_connections == connections


def test_random_reaches_every_architecture():
    """No connected structure of a small block is out of reach, whatever the option."""
    space = SearchSpace(levels=2, operations=("sep3",))
    all_masks = {prune(space, [bool(bits >> i & 1) for i in range(4)]) for bits in range(2**4)}
    by_density = {Architecture.random(space, seed).kept[0] for seed in range(400)}
    by_count = {
        Architecture.random(space, seed, connections=n).kept[0]
        for seed in range(40)
        for n in range(5)
    }
    assert by_density == {mask for mask in all_masks if any(mask)}
    assert by_count == all_masks


def test_random_counts_of_each_structure():
    architecture = Architecture.random(FULL, 5, connections=[3, 0, 10])
    assert [sum(mask) for mask in architecture.kept] == [3, 0, 10]
    assert Architecture.random(FULL, 5, connections=4).num_connections == 12


def test_random_density():
    space = SearchSpace()
    assert Architecture.random(space, 0, density=1).num_connections == 124
    sparse = [Architecture.random(space, s, density=0.05).num_connections for s in range(20)]
    assert min(sparse) > 0 and max(sparse) < 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"connections": 3, "density": 0.5}, "connections or density, not both"),
        ({"connections": 11}, "connections must be at most 10, got 11"),
        ({"connections": -1}, "connections must be at least 0"),
        ({"connections": [3, 3]}, "connections must have 1 entries"),
        ({"connections": 2.5}, "connections must be a whole number"),
        ({"density": 0}, "density must be above 0"),
        ({"density": math.nan}, "density must be above 0"),
        ({"density": 1e-12}, "density 1e-12 leaves nothing"),
        ({"seed": "1"}, "seed must be a whole number"),
    ],
)
def test_random_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Architecture.random(SMALL, **{"seed": 0, **options})
