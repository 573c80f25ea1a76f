"""Networks made anew from their JSON: what changes nothing is the same network."""

import json

from dsonas_mx.deploy.rewrite import Folded, Rewrite, groups, numbers, rebuild

import mxnet as mx
import numpy as np
import pytest


@pytest.fixture
def network():
    """Of two outputs, with an operator that has two, and an array that nobody takes."""
    data = mx.sym.Variable("data")
    x = mx.sym.Convolution(
        data, num_filter=4, kernel=(3, 3), num_group=2, no_bias=True, name="conv"
    )
    x = mx.sym.BatchNorm(x, name="bn")
    first, second = mx.sym.SliceChannel(x, num_outputs=2, name="halves")
    out = mx.sym.Group([first * second, mx.sym.contrib.BilinearResize2D(second, data, mode="like")])
    shapes, _, statistics = out.infer_shape(data=(1, 4, 5, 5))
    generator = np.random.RandomState(0)
    arguments = {
        name: generator.randn(*shape).astype(np.float32)
        for name, shape in zip(out.list_arguments(), shapes)
        if name != "data"
    }
    names = out.list_auxiliary_states()
    auxiliary = {n: np.ones(shape, np.float32) for n, shape in zip(names, statistics)}
    return Folded(out, {**arguments, "nobody's": np.zeros(1)}, auxiliary)


def nodes_of(network):
    """Operators with their attributes and inputs; variables, which lose theirs, by name."""
    nodes = json.loads(network.symbol.tojson())["nodes"]
    return [node if node["op"] != "null" else node["name"] for node in nodes]


def computed(network, data):
    arguments, auxiliary = (
        {name: mx.nd.array(array) for name, array in arrays.items()} for arrays in network[1:]
    )
    arguments["data"] = mx.nd.array(data)
    executor = network.symbol.bind(mx.cpu(), arguments, aux_states=auxiliary)
    return [output.asnumpy() for output in executor.forward(is_train=False)]


def test_what_changes_nothing_is_the_same_network(network):
    made = Rewrite(network).run()
    assert nodes_of(made) == nodes_of(network)
    assert made.symbol.list_outputs() == network.symbol.list_outputs()
    assert list(made.arguments) == [name for name in network.arguments if name != "nobody's"]
    assert list(made.auxiliary) == list(network.auxiliary)


def test_a_derived_class_says_what_becomes_another(network):
    class Doubled(Rewrite):
        def _build(self, index, node):
            built = super()._build(index, node)
            return built * 2 if node["op"] == "elemwise_mul" else built

    data = np.random.RandomState(1).randn(1, 4, 5, 5).astype(np.float32)
    del network.arguments["nobody's"]
    before, after = computed(network, data), computed(Doubled(network).run(), data)
    np.testing.assert_array_equal(after[0], 2 * before[0])
    np.testing.assert_array_equal(after[1], before[1])


def test_an_operator_over_other_inputs_with_other_attributes(network):
    nodes = {node["name"]: node for node in json.loads(network.symbol.tojson())["nodes"]}
    assert (numbers(nodes["conv"], "kernel"), numbers(nodes["conv"], "stride")) == ((3, 3), (1, 1))
    assert (groups(nodes["conv"]), groups(nodes["halves"])) == (2, 1)
    inputs = [mx.sym.Variable(name) for name in ("x", "weight")]
    made = rebuild(nodes["conv"], inputs, num_group="1", name="other")
    assert made.list_outputs() == ["other_output"] and made.list_arguments() == ["x", "weight"]
    assert made.attr("num_group") == "1" and made.attr("kernel") == "(3, 3)"
