"""The form of a supernet for GPUs is the same function as the plain one, with its gradients."""

import json

from dsonas_mx import Architecture
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.training.loss import cross_entropy

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model

SHAPE = (8, 1, 8, 8)
ONE = [mx.cpu()]


def values_of(net, for_gpus, monkeypatch, contexts=ONE):
    """Loss, gradients and statistics of a weight step and a λ step."""
    monkeypatch.setattr(TrainGraph, "is_for_gpus", for_gpus)
    graph = TrainGraph(net, cross_entropy, SHAPE, SHAPE[:1], contexts)
    generator = np.random.RandomState(1)
    data, label = generator.randn(*SHAPE).astype("float32"), np.arange(8, dtype="float32") % 3
    parameters = net.collect_params()
    for name, parameter in parameters.items():
        if parameter.grad_req != "null":
            parameter.zero_grad()
        elif "running" in name:
            parameter.set_data(mx.nd.full(parameter.shape, float(name.endswith("var"))))
    graph.step("weights", data, label)
    lambdas = {n for n, p in parameters.items() if n.endswith("lambdas")}
    assert not any(g.asnumpy().any() for n in lambdas for g in parameters[n].list_grad())
    outputs = graph.step("lambdas", data, label)
    graph.wait()
    values = {"loss": np.concatenate([output.loss.asnumpy() for output in outputs])}
    for name, parameter in parameters.items():
        learned = parameter.grad_req != "null"
        arrays = parameter.list_grad() if learned else parameter.list_data()
        values.update((f"{name}{i}", array.asnumpy()) for i, array in enumerate(arrays))
    return values


def built(architecture, contexts=ONE, **options):
    """Values away from the kinks of ReLU: where rounding does not decide about a gradient."""
    net = get_model("dsonas", architecture, weighted=True, **options)
    net.initialize(ctx=contexts)
    generator = np.random.RandomState(0)
    for name, parameter in net.collect_params().items():
        shape = parameter.shape
        if name.endswith("lambdas"):
            parameter.set_data(mx.nd.array(generator.uniform(0.5, 1.5, shape)))
        elif name.endswith("_beta"):
            parameter.set_data(mx.nd.array(generator.uniform(2.5, 3.5, shape)))
        elif name.endswith("weight"):
            parameter.set_data(mx.nd.array(0.3 * generator.randn(*shape)))
        elif name.endswith("_gamma") and parameter.grad_req != "null":
            parameter.set_data(mx.nd.array(generator.uniform(0.5, 1.5, shape)))
    return net


def assert_alike(first, second):
    assert list(first) == list(second)
    largest = {}
    for name, array in first.items():
        kind = name.rstrip("01").rsplit("_", 1)[-1]
        largest[kind] = max(largest.get(kind, 0), np.abs(array).max())
    for name, array in first.items():
        kind = name.rstrip("01").rsplit("_", 1)[-1]
        np.testing.assert_allclose(second[name], array, atol=2e-4 * largest[kind], err_msg=name)


@pytest.fixture(params=["share", "full"])
def scope(request):
    return request.param


@pytest.mark.parametrize("fix_gamma", ["all", "operations", "none"])
def test_the_complete_supernet(tiny_space, plain, scope, fix_gamma, monkeypatch):
    architecture = Architecture.complete(tiny_space(scope=scope, blocks=(1, 2)))
    net = built(architecture, fix_gamma=fix_gamma)
    assert_alike(values_of(net, False, monkeypatch), values_of(net, True, monkeypatch))


@pytest.mark.parametrize("seed", range(4))
def test_what_is_left_of_it(tiny_space, plain, scope, seed, monkeypatch):
    """Levels without an operation, or with some that do not reach the output; one branch."""
    space = tiny_space(scope=scope, operations=("sep3", "sep5", "max", "avg", "sep7"), levels=3)
    architecture = Architecture.random(space, seed, connections=14)
    net = built(architecture)
    assert_alike(values_of(net, False, monkeypatch), values_of(net, True, monkeypatch))


def test_two_devices(tiny_space, plain, monkeypatch):
    contexts = [mx.cpu(0), mx.cpu(1)]
    net = built(Architecture.complete(tiny_space()), contexts)
    plain_form = values_of(net, False, monkeypatch, contexts)
    assert_alike(plain_form, values_of(net, True, monkeypatch, contexts))


def test_a_scale_that_is_fixed_is_one(tiny_space, plain, monkeypatch):
    """Whatever a file says: MXNet's BN, told to fix it, writes a one there."""
    net = built(Architecture.complete(tiny_space()))
    for name, parameter in net.collect_params().items():
        if name.endswith("_gamma"):
            parameter.set_data(mx.nd.full(parameter.shape, 3.0))
    loss = values_of(net, True, monkeypatch)["loss"]
    np.testing.assert_allclose(loss, values_of(net, False, monkeypatch)["loss"], rtol=1e-4)


def test_it_has_one_batch_norm_a_level(tiny_space, plain, monkeypatch):
    monkeypatch.setattr(TrainGraph, "is_for_gpus", True)
    space = tiny_space(width=16)  # of 4 channels, joined maps on a CPU are sliced for MKLDNN
    net = built(Architecture.complete(space))
    graph = TrainGraph(net, cross_entropy, SHAPE, SHAPE[:1], [mx.cpu()])
    operators = [node["op"] for node in json.loads(graph.symbol().tojson())["nodes"]]
    # A level each, output and shortcut of a block, a reduction each, stem and end.
    blocks = space.num_blocks * (space.levels + 1) + len(space.blocks)
    assert operators.count("BatchNorm") == blocks + space.num_reductions + 2
    assert "slice_axis" not in operators
