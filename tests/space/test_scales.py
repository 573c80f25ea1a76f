"""λ and γ as one value: names, positions in parameters, and back."""

from dataclasses import replace

from dsonas_mx import Architecture
from dsonas_mx.space.mobile import MobileSpace
from dsonas_mx.space.mobile_architecture import MobileArchitecture
from dsonas_mx.space.scales import ScaleName, Scales, lambda_parameters, scale_names

import numpy as np
import pytest

from symbols import network_of


@pytest.fixture(params=["share", "full", "mobile"])
def architecture(request, tiny_space, some_architecture):
    if request.param == "mobile":
        space = MobileSpace(8, 8, (8,) * 6, 8, (1, 2, 1, 1, 1, 1), image_size=32)
        kept = np.random.RandomState(0).uniform(size=(7, 6)) > 0.5
        kept[:, 3] = True
        return MobileArchitecture(space, tuple(map(tuple, kept)))
    return some_architecture(tiny_space(scope=request.param, blocks=(1, 2)))


def test_parameters_are_those_of_the_network(architecture):
    net = network_of(architecture, weighted=True)
    shapes = {name: net.collect_params()[name].shape for name in net.lambda_names}
    held = lambda_parameters(architecture)
    assert {name: positions.shape for name, positions in held.items()} == shapes
    together = np.concatenate(list(held.values()))
    assert len(set(together)) == len(together) < len(scale_names(architecture.space))


def test_to_parameters_and_back(architecture):
    space = architecture.space
    every = Scales(space, np.arange(1.0, len(scale_names(space)) + 1))
    assert tuple(every) == scale_names(space)
    live = Scales.of_parameters(architecture, every.to_parameters(architecture))
    assert type(architecture).from_scales(live) == architecture
    assert all(live[name] in (0, every[name]) for name in every)
    np.testing.assert_array_equal(live.connections > 0, architecture.kept)
    assert live.branches.shape == (space.num_reductions, 2)


def test_the_order_by_hand(tiny_space):
    space = tiny_space(scope="full", levels=1, blocks=(1, 1))
    assert scale_names(space) == (
        "stage1.block1:1.sep3->output",
        "stage1.block1:1.max->output",
        "stage2.block1:1.sep3->output",
        "stage2.block1:1.max->output",
        "reduction1.1x1",
        "reduction1.3x3",
    )
    kept = ((True, False), (False, False))
    found = Architecture(space, kept, ((False, True),))
    held = lambda_parameters(found)
    assert {name: list(positions) for name, positions in held.items()} == {
        "stage1_block1_lambdas": [0],
        "reduction1_lambdas": [5],
    }
    assert scale_names(replace(space, scope="share"))[0] == "1.sep3->output"


def test_above_a_threshold(tiny_space):
    space = tiny_space(levels=1, blocks=(1,))
    assert list(Scales(space, [0.2, 0.3]).above(0.2).values()) == [0, 0.3]
    with pytest.raises(ValueError, match="2 scales are needed"):
        Scales(space, [1.0])


def test_names_are_parsed():
    assert ScaleName.parse("input->2.sep3") == ("", "input", "2.sep3")
    assert ScaleName.parse("stage1.block2:k3e6->output") == ("stage1.block2", "k3e6", "output")
    assert ScaleName.parse("reduction2.3x3") == ("reduction2", "3x3", "")
    with pytest.raises(ValueError, match="'loss' is no connection"):
        ScaleName.parse("loss")
