"""A convolution over joined maps is a sum of convolutions: the function stays the same."""

import json

from dsonas_mx.deploy.forms import fuse
from dsonas_mx.deploy.rewrite import Folded
from dsonas_mx.deploy.split_concat import split_concat

import mxnet as mx
import numpy as np
import pytest


def convolution(data, name, filters, kernel=1, **options):
    pad = (kernel // 2,) * 2
    return mx.sym.Convolution(
        data, num_filter=filters, kernel=(kernel,) * 2, pad=pad, name=name, **options
    )


def network_of(symbol):
    generator = np.random.RandomState(0)
    shapes, _, _ = symbol.infer_shape(data=(2, 3, 6, 6))
    arrays = {
        name: generator.randn(*shape).astype(np.float32)
        for name, shape in zip(symbol.list_arguments(), shapes)
        if name != "data"
    }
    return Folded(symbol, arrays, {})


def outputs(network):
    data = np.random.RandomState(1).randn(2, 3, 6, 6).astype(np.float32)
    arrays = {name: mx.nd.array(value) for name, value in network.arguments.items()}
    executor = network.symbol.bind(mx.cpu(), {"data": mx.nd.array(data), **arrays})
    return [output.asnumpy() for output in executor.forward(is_train=False)]


def operators(network):
    nodes = json.loads(network.symbol.tojson())["nodes"]
    return [node["op"] for node in nodes if node["op"] != "null"]


@pytest.fixture
def parts():
    data = mx.sym.Variable("data")
    first, second = convolution(data, "first", 5, 3), convolution(data, "second", 2)
    pooled = mx.sym.Pooling(first, kernel=(3, 3), pad=(1, 1), pool_type="max", name="pooled")
    return [mx.sym.Activation(first, act_type="relu", name="act"), second, pooled]


@pytest.mark.parametrize("no_bias", [False, True])
@pytest.mark.parametrize("kernel", [1, 3])
def test_it_is_the_same_function(parts, kernel, no_bias):
    joined = mx.sym.concat(*parts, dim=1, name="joined")
    last = convolution(joined, "last", 4, kernel, no_bias=no_bias)
    network = network_of(mx.sym.Activation(last, act_type="relu", name="out"))
    split = split_concat(network)
    assert "Concat" in operators(network) and "Concat" not in operators(split)
    assert split.arguments["last_part1_weight"].shape == (4, 2, kernel, kernel)
    (expected,), (actual,) = outputs(network), outputs(split)
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())
    fused = fuse(network)
    sums = [n.get("attrs", {}) for n in json.loads(fused.symbol.tojson())["nodes"]]
    assert sum(attributes.get("with_sum") == "true" for attributes in sums) == 2
    assert sum(attributes.get("with_postsum_act") == "true" for attributes in sums) == 1
    np.testing.assert_allclose(outputs(fused)[0], expected, atol=1e-5 * np.abs(expected).max())


def test_what_somebody_else_sees_stays(parts):
    joined = mx.sym.concat(*parts, dim=1, name="joined")
    grey = mx.sym.mean(parts[0], axis=1, keepdims=True)  # of channels that are not known
    for symbol in (
        mx.sym.Group([convolution(joined, "last", 4), joined]),
        convolution(joined, "last", 12, num_group=2),
        convolution(mx.sym.concat(parts[1], grey, dim=1), "last", 4),
        convolution(mx.sym.concat(parts[0], parts[2], dim=2), "last", 4),
    ):
        network = network_of(symbol)
        split = split_concat(network)
        assert operators(split).count("Concat") == 1
        for actual, expected in zip(outputs(split), outputs(network)):
            np.testing.assert_array_equal(actual, expected)
