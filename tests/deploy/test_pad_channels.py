"""Networks of whole blocks of channels are the same functions."""

import json

from dsonas_mx import Architecture
from dsonas_mx.deploy.card import Card
from dsonas_mx.deploy.fold import fold
from dsonas_mx.deploy.forms import traced
from dsonas_mx.deploy.pad_channels import pad_channels
from dsonas_mx.deploy.rewrite import Folded

import mxnet as mx
import numpy as np
import pytest

from symbols.segmentation import deeplab


def run(network, data):
    executor = network.symbol.bind(
        mx.cpu(),
        {"data": mx.nd.array(data), **{k: mx.nd.array(v) for k, v in network.arguments.items()}},
        aux_states={k: mx.nd.array(v) for k, v in network.auxiliary.items()},
        grad_req="null",
    )
    return executor.forward(is_train=False)[0].asnumpy()


def filters(network):
    nodes = json.loads(network.symbol.tojson())["nodes"]
    return [int(n["attrs"]["num_filter"]) for n in nodes if n["op"] == "Convolution"]


def folded_of(net, side, classes=3):
    card = Card("", "classification", ("x",) * classes, (3, side, side), (0.5,) * 3, (0.5,) * 3)
    return fold(*traced(net, card))


def check(folded, side, last=()):
    padded = pad_channels(folded)
    counts = filters(padded)
    assert any(count % 8 for count in filters(folded))
    assert all(count % 8 == 0 for count in counts[: len(counts) - len(last)])
    assert tuple(counts[len(counts) - len(last) :]) == tuple(last)
    data = np.random.RandomState(0).randn(2, 3, side, side).astype(np.float32)
    expected = run(folded, data)
    actual = run(padded, data)
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())


def test_a_found_network(tiny_space, some_architecture, randomised):
    space = tiny_space(operations=("sep3", "max", "avg"), in_channels=3, width=6)
    check(folded_of(randomised(some_architecture(space)), 8), 8)


def test_a_segmentation_network_answers_in_its_classes(tiny_space):
    space = tiny_space(stem="imagenet", blocks=(1, 1, 1), in_channels=3, width=6, image_size=32)
    net = deeplab(Architecture.complete(space), 5)
    net.initialize()
    check(folded_of(net, 32, 5), 32, last=(5,))


def by_hand(build):
    """A 1×1 convolution to two channels of weights 1 and 2, and what `build` makes of it."""
    first = mx.sym.Convolution(
        mx.sym.Variable("data"), num_filter=2, kernel=(1, 1), no_bias=True, name="first"
    )
    weight = np.array([1, 2], np.float32).reshape(2, 1, 1, 1)
    last = np.array([[3, 5]], np.float32)
    return Folded(build(first), {"first_weight": weight, "last_weight": last}, {})


def test_by_hand():
    def build(x):
        x = mx.sym.Flatten(mx.sym.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg"))
        return mx.sym.FullyConnected(x, num_hidden=1, no_bias=True, flatten=False, name="last")

    padded = pad_channels(by_hand(build))
    assert filters(padded) == [8]
    assert padded.arguments["last_padded_weight"].tolist() == [[3, 5, 0, 0, 0, 0, 0, 0]]
    assert run(padded, np.full((1, 1, 4, 4), 7, np.float32)).item() == 7 * (1 * 3 + 2 * 5)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: mx.sym.mean(x, axis=1),
        lambda x: mx.sym.softmax(x, axis=1),
        lambda x: mx.sym.FullyConnected(x, num_hidden=1, no_bias=True, name="last"),
    ],
    ids=["mean", "output", "spatial"],
)
def test_an_operator_that_would_see_the_padding(build):
    network = by_hand(build)
    if "last_weight" in network.symbol.list_arguments():
        network.arguments["last_weight"] = np.ones((1, 2 * 16), np.float32)
    else:
        del network.arguments["last_weight"]
    assert filters(pad_channels(network)) == [2]
