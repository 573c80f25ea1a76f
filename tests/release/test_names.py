"""The authors' names and arrays to ours and back, and what they say about the space."""

import json
from functools import lru_cache

from dsonas_mx.release.names import read_lambdas, to_authors, to_ours
from dsonas_mx.release.space import read_space
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import OPERATIONS, SearchSpace

import edge_by_edge
import numpy as np
import pytest

from symbols import DSONAS

SPACES = {
    "share": SearchSpace(blocks=(2, 1, 1), width=4),
    "full": SearchSpace(scope="full", levels=3, blocks=(1, 2, 1), width=4),
    "imagenet": SearchSpace.imagenet(
        levels=2, operations=("sep3", "max", "sep7"), blocks=(1, 1, 2, 1), width=6
    ),
    "full imagenet": SearchSpace.imagenet(
        scope="full", levels=2, operations=OPERATIONS, blocks=(1, 2, 1, 2), width=2
    ),
    "one level": SearchSpace(levels=1, operations=("sep5", "avg"), blocks=(1, 1), width=2),
    "one stage": SearchSpace(scope="full", levels=2, blocks=(3,), width=2),
}
LAYOUTS = ("vector", "layers")


@lru_cache(maxsize=None)
def their_shapes(space, layout):
    """Names and shapes of the authors' arrays, from the edge-by-edge network."""
    symbol = edge_by_edge.network(space, layout=layout)
    arguments, _, states = symbol.infer_shape(data=(1, space.in_channels, 64, 64))
    shapes = dict(zip(symbol.list_arguments(), arguments))
    del shapes["data"], shapes["softmax_label"]
    return {**shapes, **dict(zip(symbol.list_auxiliary_states(), states))}


def their_arrays(space, layout="vector", seed=0):
    generator = np.random.RandomState(seed)
    shapes = their_shapes(space, layout)
    return {name: generator.rand(*shape).astype("f4") for name, shape in shapes.items()}


def our_arrays(architecture, seed=0, **options):
    generator = np.random.RandomState(seed)
    parameters = DSONAS(architecture, **options).collect_params().items()
    return {name: generator.rand(*p.shape).astype("f4") + 0.1 for name, p in parameters}


def assert_same(first, second):
    assert set(first) == set(second)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


# There and back


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SPACES)
def test_complete_networks_there_and_back(name, layout):
    space = SPACES[name]
    architecture = Architecture.complete(space)
    theirs = their_arrays(space, layout)
    ours = to_ours(theirs, architecture)
    parameters = DSONAS(architecture, weighted=True).collect_params()
    assert {k: v.shape for k, v in ours.items()} == {k: p.shape for k, p in parameters.items()}
    assert sum(map(np.size, ours.values())) == sum(map(np.size, theirs.values()))
    assert_same(to_authors(ours, architecture, layout), theirs)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("weighted", (True, False))
def test_pruned_networks_there_and_back(name, layout, weighted):
    space = SPACES[name]
    complete = their_shapes(space, layout)
    for seed in range(3):
        pruned = Architecture.random(space, seed, density=(0.1, 0.4, 0.8)[seed])
        branches = [((True, False), (False, True), (True, True))[(seed + i) % 3]
                    for i in range(space.num_reductions)]  # fmt: skip
        architecture = Architecture(space, pruned.kept, branches)
        ours = our_arrays(architecture, weighted=weighted)
        theirs = to_authors(ours, architecture, layout)
        assert_same(to_ours(theirs, architecture), ours)
        assert all(array.shape == complete[name] for name, array in theirs.items())
        if weighted:
            lambdas, reductions = read_lambdas(theirs, space)
            assert Architecture.from_lambdas(space, lambdas, reductions) == architecture
        else:
            assert not any("lambda" in name for name in theirs)


def test_an_empty_architecture_there_and_back():
    space = SPACES["share"]
    architecture = Architecture.from_lambdas(space, np.zeros(124))
    ours = our_arrays(architecture, weighted=True)
    theirs = to_authors(ours, architecture)
    assert not theirs["lambda_after"].any() and not theirs["lambda_layer_4_4"].any()
    assert "stage1_unit1_bn_gamma" not in theirs
    assert_same(to_ours(theirs, architecture), ours)


def test_the_auxiliary_tower_there_and_back():
    architecture = Architecture.complete(SearchSpace(blocks=(1, 1, 1), width=4))
    ours = our_arrays(architecture, auxiliary=True)
    theirs = to_authors(ours, architecture)
    assert theirs["aux_conv2_weight"].shape == (768, 128, 2, 2)
    assert_same(to_ours(theirs, architecture), ours)


def test_derived_networks_have_the_authors_names_and_shapes(golden):
    """Of the eight sparse settings of the reference, whose networks have no scales."""
    for case in json.loads((golden / "derive_share.json").read_text()):
        space = SearchSpace(blocks=(case["blocks_per_stage"],) * 3, width=case["width"])
        scales = {name: np.array(values) for name, values in case["lambdas"].items()}
        scales.update((f"lambda_stage{s}_unit2", np.ones((1, 2))) for s in (1, 2))
        architecture = Architecture.from_lambdas(space, *read_lambdas(scales, space))
        theirs = to_authors(our_arrays(architecture), architecture)
        shapes = {name: list(array.shape) for name, array in theirs.items()}
        moving = [name for name in shapes if "_moving_" in name]
        assert {n: s for n, s in shapes.items() if n not in moving} == case["arguments"]


# Values


def test_scales_and_output_convolutions_are_in_order():
    space = SPACES["full"]
    architecture = Architecture.complete(space)
    theirs = their_arrays(space, "layers")
    ours = to_ours(theirs, architecture)
    row = ours["stage2_block2_lambdas"]
    for position, (source, target) in enumerate(space.connections):
        if target == "output":
            name, index = "lambda_after_stage2_unit2", space.nodes.index(source)
        else:
            level, operation = target.split(".")
            k = space.operations.index(operation) + 1
            name = f"lambda_stage2_unit2_layer_{level}_{k}"
            index = ("input", *space.nodes).index(source)
        assert row[position] == theirs[name][0, index]
    channels = 8
    for k in range(1, 13):
        part = ours["stage2_block2_output_weight"][:, channels * (k - 1) : channels * k]
        np.testing.assert_array_equal(part, theirs[f"stage2_unit2_output_conv_{k}_weight"])
    np.testing.assert_array_equal(ours["reduction2_lambdas"], theirs["lambda_stage2_unit3"][0])
    assert_same(
        {"a": ours["stage3_block1_level2_max_bn_running_var"]},
        {"a": theirs["stage3_unit1_2_max_pool_bn_moving_var"]},
    )


def test_arrays_of_removed_operations_are_dropped():
    space = SPACES["share"]
    architecture = Architecture.random(space, 0, density=0.2)
    ours = to_ours(their_arrays(space), architecture)
    parameters = DSONAS(architecture, weighted=True).collect_params()
    assert {k: v.shape for k, v in ours.items()} == {k: p.shape for k, p in parameters.items()}


def test_gradients_without_statistics_can_be_translated():
    architecture = Architecture.complete(SPACES["share"])
    theirs = their_arrays(SPACES["share"])
    some = {name: array for name, array in theirs.items() if "_moving_" not in name}
    assert_same(to_authors(to_ours(some, architecture), architecture), some)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unheard_of": np.ones(1)}, "'unheard_of' belongs to no network"),
        ({"conv1_weight": np.ones(1)}, "'conv1_weight' belongs to no network"),
        ({"lambda_layer_5_1": np.ones(17)}, "'lambda_layer_5_1' belongs to no supernet"),
        ({"lambda_stage1_unit1": np.ones(2)}, "'lambda_stage1_unit1' belongs to no supernet"),
        ({"lambda_after": np.ones(15)}, "lambda_after has 15 scales, but .* has 16 there"),
        ({"stage1_unit1_output_conv_3_weight": None}, "output_conv_3_weight is missing"),
        ({"stage1_unit1_output_conv_3_weight": np.ones((4, 5, 1, 1))}, r"shape \(4, 5, 1, 1\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    space = SPACES["share"]
    theirs = {k: v for k, v in {**their_arrays(space), **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        to_ours(theirs, Architecture.complete(space))


def test_ours_that_do_not_fit_are_refused():
    architecture = Architecture.complete(SPACES["full"])
    ours = our_arrays(architecture, weighted=True)
    with pytest.raises(ValueError, match="'unheard_of' is no parameter"):
        to_authors({**ours, "unheard_of": np.ones(1)}, architecture)
    del ours["stage2_block1_lambdas"]
    with pytest.raises(ValueError, match="stage2_block1_lambdas is missing"):
        to_authors(ours, architecture)
    with pytest.raises(ValueError, match="full_layout must be vector or layers"):
        to_authors({}, architecture, "rows")


# Scales that are not there


def share_scales(space, value=1.0):
    return {n: np.full_like(a, value) for n, a in their_arrays(space).items() if "lambda" in n}


def test_scales_of_an_operation_can_be_missing_if_nothing_takes_from_it():
    space = SPACES["share"]
    scales = share_scales(space)
    del scales["lambda_layer_3_2"]  # the 10th operation
    with pytest.raises(ValueError, match="lambda_layer_3_2 is missing"):
        read_lambdas(scales, space)
    scales["lambda_after"][0, 9] = 0
    for k in (1, 2, 3, 4):
        scales[f"lambda_layer_4_{k}"][0, 10] = 0
    lambdas, _ = read_lambdas(scales, space)
    assert not lambdas[0][space.inputs("3.sep5")].any()
    assert lambdas.sum() == 124 - 9 - 1 - 4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scales_of_a_block_can_be_missing_if_it_has_no_operations(layout):
    space = SPACES["full"]
    arrays = their_arrays(space, layout)
    for name in [name for name in arrays if "lambda" in name and "stage2_unit1" in name]:
        del arrays[name]
    with pytest.raises(ValueError, match=r"lambda_\w*stage2_unit1\w* is missing"):
        read_lambdas(arrays, space)
    for name in [name for name in arrays if name.startswith("stage2_unit1_")]:
        if "id_conv" not in name:
            del arrays[name]
    lambdas, _ = read_lambdas(arrays, space)
    assert not lambdas[1].any() and lambdas[[0, 2, 3]].all()
    assert read_space(arrays, image_size=32) == space


# The space


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SPACES)
def test_space_of_a_complete_network(name, layout):
    space = SPACES[name]
    found = read_space(their_arrays(space, layout), image_size=space.image_size)
    assert found == space


@pytest.mark.parametrize("levels", range(1, 6))
@pytest.mark.parametrize("count", range(1, 6))
def test_levels_and_operations_from_scales_alone(levels, count):
    """The vector of a block does not tell them: they are the release's, or have to be given."""
    operations, blocks = OPERATIONS[:count], (1, 1, 1)
    for scope, layout in (("share", "vector"), ("full", "vector"), ("full", "layers")):
        space = SearchSpace(scope, levels, operations, blocks=blocks)
        shapes = their_shapes(space, layout)
        scales = {n: np.ones(s) for n, s in shapes.items() if n.startswith("lambda")}
        assert read_space(scales, levels=levels, operations=operations, blocks=blocks) == space
        if (scope, layout) != ("full", "vector") or (levels, count) == (4, 4):
            assert read_space(scales, blocks=blocks) == space
        else:
            with pytest.raises(ValueError, match="not those of 4 levels of 4 operations.* give"):
                read_space(scales, blocks=blocks)


def test_what_the_scales_cannot_tell():
    scales = {name: array for name, array in their_arrays(SPACES["full"]).items()
              if name.startswith("lambda")}  # fmt: skip
    assert read_space(scales, levels=3).levels == 3
    with pytest.raises(ValueError, match="not those of 4 levels of 4 operations"):
        read_space(scales)
    one = {"lambda_stage1_unit1": np.ones(4), "lambda_stage1_unit2": np.ones(2)}
    two = {**one, "lambda_stage2_unit1": np.ones(4), "lambda_stage2_unit2": np.ones(2)}
    two["lambda_stage3_unit1"] = np.ones(4)
    # 4 is the size of two pairs of M and N.
    space = read_space(two, levels=1)
    assert (space.levels, space.operations, space.blocks) == (1, OPERATIONS[:4], (1, 1, 1))
    assert read_space(two, levels=2, operations=["sep5"]).operations == ("sep5",)
    one["lambda_stage2_unit1"] = np.ones(4)
    with pytest.raises(ValueError, match="there are 1 reductions"):
        read_space(one)
    space = read_space(one, data_set="cifar", levels=1)
    assert space.blocks == (1, 1)


def test_blocks_that_shrinking_has_removed_are_counted():
    space = SearchSpace(scope="full", levels=2, blocks=(3, 1, 2), width=4)
    arrays = their_arrays(space)
    for name in [name for name in arrays if "stage1_unit3" in name]:
        del arrays[name]
    assert read_space(arrays).blocks == (3, 1, 2)  # the reduction is unit 4


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({}, "there are no scales"),
        ({"fc1_weight": (10, 4)}, "there are no scales"),
        ({"lambda_stage1_unit9": (1, 2), "lambda_stage2_unit9": (1, 2)}, "no scales of a block"),
        ({"lambda_layer_2_1": (1, 5)}, "lambda_after is missing"),
        ({"lambda_after": (1, 16)}, "there are 0 reductions"),
        ({"lambda_after": (1, 16), "lambda_stage2_unit9": (1, 2)}, "no reduction behind stage 1"),
        (
            {"lambda_after": (1, 16), "lambda_stage1_unit9": (1, 2), "stage1_unit10_x": (1,)},
            "stage 1 has a unit 10 behind its reduction, unit 9",
        ),
        ({"lambda_after": (1, 16), "lambda_stage999_unit1": (1, 2)}, "no network that can be"),
        ({"lambda_after": (1, 16), "lambda_stage1_unit0": (1, 2)}, "no network that can be"),
    ],
)
def test_what_is_no_supernet_is_refused(names, message):
    with pytest.raises(ValueError, match=message):
        read_space({name: np.ones(shape) for name, shape in names.items()})
