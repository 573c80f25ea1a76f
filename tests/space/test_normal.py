"""The search space: counts of the paper, the order of connections, and what is refused."""

import json

from dsonas_mx.space.normal import OPERATIONS, SearchSpace, parse_blocks

import numpy as np
import pytest


@pytest.mark.parametrize("levels", range(1, 7))
@pytest.mark.parametrize("count", range(1, 6))
def test_number_of_connections_is_the_papers_formula(levels, count):
    space = SearchSpace(levels=levels, operations=OPERATIONS[:count])
    m, n = levels, count
    assert len(space.connections) == (m**2 - m) * n**2 // 2 + 2 * m * n - n
    assert len(set(space.connections)) == len(space.connections)
    assert len(space.nodes) == m * n


def test_order_of_connections():
    space = SearchSpace(levels=3, operations=("sep3", "max"))
    assert [connection.name for connection in space.connections] == [
        *("input->2.sep3", "1.sep3->2.sep3", "1.max->2.sep3"),
        *("input->2.max", "1.sep3->2.max", "1.max->2.max"),
        *("input->3.sep3", "1.sep3->3.sep3", "1.max->3.sep3", "2.sep3->3.sep3", "2.max->3.sep3"),
        *("input->3.max", "1.sep3->3.max", "1.max->3.max", "2.sep3->3.max", "2.max->3.max"),
        *("1.sep3->output", "1.max->output", "2.sep3->output", "2.max->output"),
        *("3.sep3->output", "3.max->output"),
    ]


def test_inputs_and_sources_agree_with_connections():
    space = SearchSpace(levels=4, operations=OPERATIONS)
    for target in (*space.nodes, "output"):
        part = space.connections[space.inputs(target)]
        assert part == tuple(c for c in space.connections if c.target == target)
        assert space.sources(target) == tuple(c.source for c in part)
    assert space.sources("1.sep3") == ()
    for wrong in ("5.sep3", "input", "sep3", "0.max"):
        with pytest.raises(ValueError, match=wrong):
            space.inputs(wrong)
        with pytest.raises(ValueError, match=wrong):
            space.sources(wrong)


def test_operations_are_sorted_into_the_fixed_order():
    space = SearchSpace(operations=["sep7", "avg", "sep3"])
    assert space.operations == ("sep3", "avg", "sep7")
    assert space == SearchSpace(operations=("avg", "sep3", "sep7"))


def test_the_papers_spaces():
    cifar, imagenet = SearchSpace.cifar10(), SearchSpace.imagenet(width=32)
    assert cifar == SearchSpace()
    assert (cifar.num_blocks, cifar.num_reductions, len(cifar.connections)) == (24, 2, 124)
    assert (imagenet.num_blocks, imagenet.num_reductions) == (23, 3)
    assert imagenet.stage_shapes == ((32, 56), (64, 28), (128, 14), (256, 7))
    assert SearchSpace.imagenet().width == 28


def test_scope_says_which_structure_a_block_has():
    share = SearchSpace(blocks=(2, 1, 3))
    full = SearchSpace(scope="full", blocks=(2, 1, 3))
    assert share.block_positions == ((1, 1), (1, 2), (2, 1), (3, 1), (3, 2), (3, 3))
    assert [share.structure_of(i) for i in range(6)] == [0] * 6
    assert [full.structure_of(i) for i in range(6)] == list(range(6))
    assert (share.num_structures, full.num_structures) == (1, 6)
    assert (share.num_connections, full.num_connections) == (124, 744)
    for wrong in (-1, 6):
        with pytest.raises(ValueError, match="block_index"):
            full.structure_of(wrong)


@pytest.mark.parametrize("size", (1, 2, 7, 28, 33, 225))
@pytest.mark.parametrize("stem", ("cifar", "imagenet"))
def test_sides_are_those_of_a_padded_convolution(size, stem):
    def after(side):  # kernel 3, stride 2, padding 1
        return (side + 2 - 3) // 2 + 1

    space = SearchSpace(stem=stem, image_size=size)
    side = after(after(size)) if stem == "imagenet" else size
    expected = (side, after(side), after(after(side)))
    assert tuple(side for _, side in space.stage_shapes) == expected
    assert tuple(channels for channels, _ in space.stage_shapes) == (48, 96, 192)


def test_json_round_trip():
    space = SearchSpace("full", 3, ("max", "sep7"), "imagenet", (1, 2), 16, 5, 1, 65)
    text = json.dumps(space.to_json())
    again = SearchSpace.from_json(json.loads(text))
    assert again == space
    assert hash(again) == hash(space)
    assert json.dumps(again.to_json()) == text


def test_numpy_integers_become_plain_ones():
    space = SearchSpace(levels=np.int64(3), blocks=np.array([1, 2]))
    assert json.loads(json.dumps(space.to_json())) == space.to_json()
    assert space == SearchSpace(levels=3, blocks=(1, 2))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("scope", "shared", "scope must be share or full, got 'shared'"),
        ("scope", ["share"], "scope"),
        ("stem", None, "stem must be cifar or imagenet"),
        ("levels", 0, "levels must be at least 1, got 0"),
        ("levels", 10**9, "levels must be at most"),
        ("levels", 4.0, "levels must be a whole number, got 4.0"),
        ("levels", True, "levels must be a whole number, got True"),
        ("levels", "4", "levels must be a whole number, got '4'"),
        ("operations", "sep3", "operations must be a list"),
        ("operations", [], "operations must name at least one"),
        ("operations", ["sep3", "sep9"], "operations has an unknown name 'sep9'"),
        ("operations", ["max", "max"], "operations names max more than once"),
        ("operations", [3], "operations has an unknown name 3"),
        ("blocks", 8, "blocks must be a list, got 8"),
        ("blocks", [], "blocks must have from 1"),
        ("blocks", [2, 0], r"blocks\[1\] must be at least 1, got 0"),
        ("blocks", [2, 1.5], r"blocks\[1\] must be a whole number"),
        ("blocks", [999, 2], "blocks in all must be at most"),
        ("width", 0, "width must be at least 1"),
        ("width", 100_000, "width must be at most 4096, got 100000"),
        ("width", float("nan"), "width must be a whole number"),
        ("num_classes", 0, "num_classes must be at least 1"),
        ("in_channels", -3, "in_channels must be at least 1"),
        ("image_size", None, "image_size must be a whole number"),
    ],
)
def test_a_wrong_field_is_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace(**{field: value})
    with pytest.raises(ValueError, match=message):
        SearchSpace.from_json({**SearchSpace().to_json(), field: value})


def test_imagenet_stem_needs_two_channels():
    SearchSpace(width=1)
    with pytest.raises(ValueError, match="width must be at least 2, got 1"):
        SearchSpace(stem="imagenet", width=1)


def test_unknown_and_missing_fields_are_named():
    data = SearchSpace().to_json()
    with pytest.raises(ValueError, match="unknown field 'depth'"):
        SearchSpace.from_json({**data, "depth": 3})
    for name in data:
        short = {key: value for key, value in data.items() if key != name}
        with pytest.raises(ValueError, match=f"no field '{name}'"):
            SearchSpace.from_json(short)
    with pytest.raises(ValueError, match="space must be an object"):
        SearchSpace.from_json([])


def test_parse_blocks():
    assert parse_blocks("8", 3) == (8, 8, 8)
    assert parse_blocks("2,2,13,6", 3) == (2, 2, 13, 6)
    for wrong in ("", "2,", "two", "2.5", "0", "-1,2"):
        with pytest.raises(ValueError, match="blocks"):
            parse_blocks(wrong, 3)
