"""Marking: what runs twice, how its averages move, and who takes what it computes."""

import json
import math

from dsonas_mx.engine import trial
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.engine.marking import ATTRIBUTE, VIEW, mark
from dsonas_mx.training.loss import cross_entropy

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model


def nodes_of(symbol):
    return {node["name"]: node for node in json.loads(symbol.tojson())["nodes"]}


def momentum_of(symbol, name):
    return float(nodes_of(symbol)[name].get("attrs", {}).get("momentum", 0.9))


def conv_bn_relu(x, name, weight=None):
    options = {} if weight is None else {"weight": weight}
    x = mx.sym.Convolution(
        x, num_filter=2, kernel=(3, 3), pad=(1, 1), no_bias=True, name=f"{name}_conv", **options
    )
    return mx.sym.Activation(mx.sym.BatchNorm(x, name=f"{name}_bn"), "relu", name=f"{name}_relu")


def two_layers():
    x = conv_bn_relu(mx.sym.Variable("data"), "first")
    return mx.sym.MakeLoss(mx.sym.sum(conv_bn_relu(x, "second")))


CONVOLUTIONS = frozenset({"first_conv", "first_bn", "second_conv", "second_bn"})


def test_batch_norms_that_run_twice_on_a_gpu_move_their_averages_once():
    marked = mark(two_layers(), frozenset({"first_conv", "first_bn"}), on_gpu=True)
    assert momentum_of(marked, "first_bn") == math.sqrt(0.9)
    assert momentum_of(marked, "second_bn") == 0.9
    assert ATTRIBUTE in nodes_of(marked)["first_bn"]["attrs"]
    assert ATTRIBUTE not in nodes_of(marked)["second_bn"].get("attrs", {})
    on_cpu = mark(two_layers(), frozenset({"first_conv", "first_bn"}))
    assert momentum_of(on_cpu, "first_bn") == 0.9


def test_what_has_no_backward_runs_once():
    """As a BN before the first λ, in a step of λ."""
    wanted = {"second_conv_weight"}
    marked = mark(two_layers(), CONVOLUTIONS, on_gpu=True, wanted=wanted)
    assert momentum_of(marked, "first_bn") == 0.9  # its ReLU is kept, so nobody needs it again
    assert momentum_of(marked, "second_bn") == math.sqrt(0.9)


def test_what_another_second_node_takes_runs_twice():
    wanted = {"second_conv_weight"}
    marked = mark(two_layers(), CONVOLUTIONS | {"first_relu"}, on_gpu=True, wanted=wanted)
    assert momentum_of(marked, "first_bn") == math.sqrt(0.9)


def test_on_a_gpu_somebody_takes_what_is_computed_again():
    """cuDNN's BN refuses an output that nobody takes, as where the ReLU behind it is kept."""
    marked = nodes_of(mark(two_layers(), CONVOLUTIONS, on_gpu=True))
    assert [name for name, node in marked.items() if node["op"] == VIEW[0]] == [
        "first_bn_again",
        "second_bn_again",
    ]
    names = list(marked)
    for layer in ("first", "second"):
        (source,) = marked[f"{layer}_relu"]["inputs"]
        assert names[source[0]] == f"{layer}_bn_again"
        assert ATTRIBUTE in marked[f"{layer}_bn_again"]["attrs"]
    with_relu = nodes_of(mark(two_layers(), CONVOLUTIONS | {"first_relu"}, on_gpu=True))
    assert "first_bn_again" not in with_relu and "second_bn_again" in with_relu
    assert not any(n["op"] == VIEW[0] for n in nodes_of(mark(two_layers(), CONVOLUTIONS)).values())


def test_views_change_nothing():
    """The gradients of a graph as a GPU gets it, on the CPU, and the memory."""
    found = []
    for on_gpu in (False, True):
        symbol = mark(two_layers(), CONVOLUTIONS, on_gpu)
        executor = symbol.simple_bind(mx.cpu(), data=(4, 3, 8, 8), grad_req="write")
        generator = np.random.RandomState(0)
        for name, array in executor.arg_dict.items():
            array[:] = generator.randn(*array.shape) if "beta" not in name else 0.1
        executor.forward(is_train=True)
        executor.backward()
        found.append({name: a.asnumpy() for name, a in executor.grad_dict.items()})
    for name, gradient in found[0].items():
        np.testing.assert_array_equal(found[1][name], gradient, name)
    assert abs(found[0]["first_conv_weight"]).max() > 0


def test_two_moves_are_one_with_the_squared_momentum():
    """MXNet's own BatchNorm, on the same batch: as a graph on a GPU runs it, and as it should."""
    moved = []
    for on_gpu, times in ((True, 2), (False, 1)):
        symbol = mx.sym.BatchNorm(mx.sym.Variable("data"), name="bn", momentum=0.8)
        symbol = mark(symbol, frozenset({"bn"}), on_gpu)
        executor = symbol.simple_bind(mx.cpu(), data=(6, 3, 2, 2))
        executor.arg_dict["data"][:] = np.random.RandomState(0).randn(6, 3, 2, 2) + 2
        for number, array in enumerate(executor.aux_dict.values(), 1):
            array[:] = number
        for _ in range(times):
            executor.forward(is_train=True)
            executor.backward(mx.nd.ones((6, 3, 2, 2)))
        mx.nd.waitall()
        moved.append(np.concatenate([a.asnumpy() for a in executor.aux_dict.values()]))
    np.testing.assert_allclose(moved[0], moved[1], rtol=1e-5)
    assert (abs(moved[1] - [1, 1, 1, 2, 2, 2]) > 0.05).all()


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_only_graphs_on_a_gpu_are_marked_for_one(device, tiny_space, monkeypatch):
    seen = []

    def marked(symbol, recomputed, on_gpu, wanted):
        seen.append((on_gpu, wanted))
        raise InterruptedError

    monkeypatch.setattr(trial, "mark", marked)
    monkeypatch.setattr(trial, "reserved", lambda shape, context: mx.nd.zeros(shape))
    net = get_model("dsonas", space=tiny_space(), weighted=True)
    context = mx.Context(device, 0)
    graph = TrainGraph(net, cross_entropy, (4, 1, 8, 8), (4,), [context], "least")
    with pytest.raises(InterruptedError):
        graph.plan  # noqa: B018
    (on_gpu, wanted) = seen[0]
    assert on_gpu == (device == "gpu")
    assert "fc_weight" in wanted and not any("lambdas" in name for name in wanted)
