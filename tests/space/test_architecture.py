"""Architectures: pruning by reachability, random ones, and a file that trusts nobody."""

import copy
import json
import math
import os
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


# The file


def examples():
    origin = {"data": "fashion-mnist", "seed": 3, "options": {"gamma": 0.001, "demo": True}}
    yield Architecture.random(SMALL, 3, connections=6, origin=origin)
    yield Architecture.random(FULL, 4, connections=[4, 0, 10])
    yield Architecture.complete(SearchSpace(levels=1, blocks=(2,)))
    yield Architecture.from_lambdas(SMALL, np.zeros(10), [[0.3, 0.0]])


@pytest.mark.parametrize(
    "architecture", list(examples()), ids=["share", "full", "level 1", "empty"]
)
def test_file_round_trip(architecture, tmp_path):
    path = tmp_path / "architecture.json"
    architecture.save(path)
    again = Architecture.load(str(path))
    assert again == architecture
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["again.json", "architecture.json"]


def test_file_has_names_not_bits(tmp_path):
    mask = mask_of(SMALL, "input->2.max", "2.max->output")
    Architecture(SMALL, (mask,), ((True, False),)).save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "format": "dsonas-architecture",
        "version": 1,
        "space": SMALL.to_json(),
        "structures": [["input->2.max", "2.max->output"]],
        "reductions": [[True, False]],
        "origin": {},
    }


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    first, second = Architecture.complete(SMALL), Architecture.random(SMALL, 0)
    first.save(path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        second.save(path)
    assert Architecture.load(path) == first
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["format"], "onnx", "format must be 'dsonas-architecture', got 'onnx'"),
        (["version"], 2, "version must be 1, got 2"),
        (["version"], True, "version must be 1, got True"),
        (["colour"], 1, "unknown field 'colour'"),
        (["space"], [], "space must be an object"),
        (["space", "colour"], 1, "space has an unknown field 'colour'"),
        (["space", "levels"], 0, "levels must be at least 1"),
        (["space", "scope"], "full", "structures must have 3 entries, got 1"),
        (["structures"], {}, "structures must be a list"),
        (["structures"], [], "structures must have 1 entries"),
        (["structures", 0], "input->2.max", r"structures\[0\] must be a list"),
        (["structures", 0], ["1.max->3.max"], "unknown connection '1.max->3.max'"),
        (["structures", 0], [["1.max->2.max"]], r"structures\[0\] has an unknown connection"),
        (["structures", 0], ["1.max->output"] * 2, "has 1.max->output more than once"),
        (["structures", 0], ["input->2.max"], "keeps input->2.max, which is on no way"),
        (["reductions"], [], "reductions must have 1 entries"),
        (["reductions", 0], [True], r"reductions\[0\] must have 2 entries"),
        (["reductions", 0], [1, 0], r"reductions\[0\] must be two of true and false, got 1"),
        (["reductions", 0], ["1", "0"], r"reductions\[0\] must be two of true and false"),
        (["reductions", 0], [False, False], r"reductions\[0\] must keep at least one branch"),
        (["origin"], None, "origin must be an object"),
    ],
)
def test_a_wrong_field_of_a_file_is_named(place, value, message, tmp_path):
    data = Architecture.complete(SMALL).to_json()
    *way, last = place
    part = data
    for step in way:
        part = part[step]
    part[last] = value
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message) as caught:
        Architecture.load(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "name", ("format", "version", "space", "structures", "reductions", "origin")
)
def test_a_missing_field_of_a_file_is_named(name):
    data = Architecture.complete(SMALL).to_json()
    del data[name]
    with pytest.raises(ValueError, match=name):
        Architecture.from_json(data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a JSON file"),
        (b"hello", "not a JSON file"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[]", "an architecture must be an object"),
        (b"3", "an architecture must be an object"),
        (b"{}", "format must be 'dsonas-architecture', got None"),
        (b'{"format": NaN}', "NaN is not a number that JSON knows"),
        (b'{"origin": {"x": -Infinity}}', "-Infinity is not a number"),
        (b'{"format": 1, "format": 1}', "field 'format' is there more than once"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_architecture_is_refused(content, message, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        Architecture.load(path)
    assert "\n" not in str(caught.value)


def test_huge_and_deep_values_are_refused(tmp_path):
    path = tmp_path / "a.json"
    text = json.dumps(Architecture.complete(SMALL).to_json())
    deep = '{"a": ' * 40 + "1" + "}" * 40
    for origin, message in (('{"x": 1e999}', "must be finite"), (deep, "nested too deeply")):
        path.write_text(text.replace('"origin": {}', f'"origin": {origin}'))
        with pytest.raises(ValueError, match=message):
            Architecture.load(path)


def places(value, way=()):
    """Every place in a JSON value, with the container's way to it."""
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    else:
        return
    for key, child in children:
        yield (*way, key)
        yield from places(child, (*way, key))


def canonical(data):
    """The text of a file, the order of what has no order aside."""
    data = copy.deepcopy(data)
    data["space"]["operations"].sort()
    for names in data["structures"]:
        names.sort()
    return json.dumps(data, sort_keys=True)


def test_damaged_files_are_refused_or_mean_what_they_say():
    """A random change of a file is either refused by ValueError or read as it is written."""
    generator = random.Random(0)
    junk = [None, True, False, 0, 1, -1, 2, 5, 1.0, 0.5, 10**30, "", "share", "full", "sep3"]
    junk += ["max", "1.sep3->output", "input->2.max", [], [[]], {}, {"": 0}, [True, False], [1, 2]]
    originals = [architecture.to_json() for architecture in examples()]
    outcomes = {"refused": 0, "read": 0}
    for _ in range(3000):
        data = copy.deepcopy(generator.choice(originals))
        for _ in range(generator.choice((1, 1, 2))):
            *way, last = generator.choice(list(places(data)))
            part = data
            for step in way:
                part = part[step]
            change = generator.random()
            if change < 0.2:
                del part[last]
            elif change < 0.3 and isinstance(part, list):
                part.insert(last, part[last])
            elif change < 0.4 and isinstance(part, dict):
                part[generator.choice(["", "levels", "space", "extra"])] = part.pop(last)
            else:
                part[last] = copy.deepcopy(generator.choice(junk))
        try:
            read = Architecture.from_json(copy.deepcopy(data))
        except ValueError as error:
            assert str(error) and "\n" not in str(error)
            outcomes["refused"] += 1
        else:
            assert canonical(read.to_json()) == canonical(data)
            outcomes["read"] += 1
    assert min(outcomes.values()) > 100  # both happen, so both are tested


def test_damaged_text_is_refused_by_value_error(tmp_path):
    generator = random.Random(1)
    path = tmp_path / "a.json"
    next(examples()).save(path)
    text = path.read_bytes()
    refused = 0
    for _ in range(500):
        damaged = bytearray(text)
        if generator.random() < 0.3:
            del damaged[generator.randrange(len(text)) :]
        for _ in range(generator.randrange(1, 4)):
            if damaged:
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            Architecture.load(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
    assert refused > 300
