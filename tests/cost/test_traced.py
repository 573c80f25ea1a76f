"""Counting on traced networks: by hand, against published figures, and against `cost.count`."""

from dataclasses import replace

from dsonas_mx.cost.count import Cost, count, count_lambdas
from dsonas_mx.cost.traced import count_symbol
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import SearchSpace

import mxnet as mx
import numpy as np
import pytest

from symbols import get_symbol


def test_operators_by_hand():
    x = mx.sym.Variable("data")  # 3×8×8
    y = mx.sym.Convolution(x, num_filter=4, kernel=(3, 3), pad=(1, 1), stride=(2, 2), name="a")
    y = mx.sym.Activation(mx.sym.BatchNorm(y, name="bn"), act_type="relu")
    halves = mx.sym.split(y, num_outputs=2, axis=1)
    y = mx.sym.concat(halves[1], halves[0], dim=1)
    y = mx.sym.FullyConnected(mx.sym.flatten(y), num_hidden=5, name="fc")
    convolution = 4 * 3 * 9 + 4
    dense = 64 * 5 + 5
    assert count_symbol(y, (32, 3, 8, 8)) == Cost(
        parameters=convolution + 8 + dense,
        multiply_adds=4 * 3 * 9 * 16 + 64 * 5,
        memory_access=(3 * 64 + convolution + 64) + 128 + 128 + (64 + dense + 5),
    )


def test_grouped_and_transposed_convolutions():
    x = mx.sym.Variable("data")  # 4×6×6
    grouped = mx.sym.Convolution(x, num_filter=8, kernel=(1, 1), num_group=2, no_bias=True)
    assert count_symbol(grouped, (1, 4, 6, 6)).multiply_adds == 8 * 2 * 36
    up = mx.sym.Deconvolution(x, num_filter=2, kernel=(2, 2), stride=(2, 2), no_bias=True)
    assert count_symbol(up, (1, 4, 6, 6)).multiply_adds == 4 * 2 * 4 * 36


def test_shapes_must_follow():
    y = mx.sym.Variable("data") + mx.sym.Variable("other")
    y = mx.sym.FullyConnected(mx.sym.concat(y, mx.sym.Variable("unknown"), dim=1), num_hidden=2)
    with pytest.raises(ValueError, match="no shape that follows"):
        count_symbol(y, (1, 3))


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    # The papers: 4.2M and 569M; 3.4M and 300M.
    [("mobilenet1.0", 4_231_976, 568_740_352), ("mobilenetv2_1.0", 3_503_872, 300_774_272)],
)
def test_published_figures_of_gluoncv_networks(name, parameters, multiply_adds):
    model_zoo = pytest.importorskip("gluoncv.model_zoo")
    net = model_zoo.get_model(name, pretrained=False)
    cost = count_symbol(net(mx.sym.Variable("data")), (1, 3, 224, 224))
    assert (cost.parameters, cost.multiply_adds) == (parameters, multiply_adds)


EVERY_OPERATION = ("sep3", "sep5", "max", "avg", "sep7")
NETWORKS = {
    "CIFAR supernet": Architecture.complete(SearchSpace.cifar10()),
    "CIFAR full supernet": Architecture.complete(SearchSpace.cifar10(scope="full")),
    "ImageNet supernet": Architecture.complete(SearchSpace.imagenet()),
    "ImageNet full supernet": Architecture.complete(SearchSpace.imagenet(scope="full")),
    "CIFAR": Architecture.random(SearchSpace(blocks=(1, 2), width=6), 0, connections=20),
    "CIFAR full": Architecture.from_lambdas(
        SearchSpace("full", blocks=(1, 2, 1), width=4),
        np.random.RandomState(0).randn(4, 124) * [[1], [0], [1], [1]],
        [[1, 0], [0, 0]],
    ),
    "ImageNet, odd": Architecture.random(
        SearchSpace.imagenet(width=9, blocks=(1, 2, 1, 1), in_channels=1, image_size=75),
        1,
        density=0.3,
    ),
    "ImageNet full": Architecture.random(
        SearchSpace.imagenet(scope="full", width=8, image_size=64), 2, density=0.2
    ),
    "seventh": Architecture.complete(
        SearchSpace(levels=2, operations=EVERY_OPERATION, blocks=(1, 1), width=4, num_classes=7)
    ),
    "nothing": Architecture.from_lambdas(SearchSpace(blocks=(2, 2), width=4), np.zeros(124)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_count_is_that_of_the_traced_network(name):
    architecture = NETWORKS[name]
    space = architecture.space
    shape = (1, space.in_channels, space.image_size, space.image_size)
    expected = replace(count(architecture), connections=0)
    assert count_symbol(get_symbol("dsonas", architecture), shape) == expected
    if architecture == Architecture.complete(space):
        weighted = count_symbol(get_symbol("dsonas", architecture, weighted=True), shape)
        assert weighted.parameters == expected.parameters + count_lambdas(space)
