"""How many calls a step gives a GPU, and what the model of them says."""

import argparse
import ctypes
import gc
import sys
from pathlib import Path

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.engine.setup import Setup
from dsonas_mx.search.search import Search, SearchOptions
from dsonas_mx.training.loss import cross_entropy

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model, original

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from bench import gpu

DEVICE = mx.gpu(0)
SHAPE = (32, 3, 32, 32)
MOST = 990  # 0.15 of the original's 6,628, with pointwise fusion, as MXNet has it by default
ORIGINAL_MB = 1055


def null(function, *arguments):
    """A number that the null GPU knows."""
    mx.nd.waitall()
    asked = getattr(ctypes.CDLL(None), f"nullgpu_{function}")
    asked.restype = ctypes.c_uint64
    return asked(*arguments)


def calls():
    return sum(map(null, ("launches", "cudnn_calls", "blas_calls")))


@pytest.fixture(scope="module")
def space():
    return SearchSpace.cifar10(width=48, blocks=(1, 1, 1))


@pytest.fixture(scope="module")
def modelled():
    options = argparse.Namespace(width=48, blocks=1, batch_size=SHAPE[0])
    return gpu.measure(options)


def counted(steps):
    """Calls of steps that have run before."""
    steps()
    before = calls()
    steps()
    return calls() - before


def test_a_supernet_makes_few_calls_and_takes_no_more_memory_than_the_original(space, modelled):
    mx.nd.zeros((1,), DEVICE).wait_to_read()  # it has no cache before
    gc.collect()
    DEVICE.empty_cache()
    null("reset")
    before = null("used", 0)
    net = get_model("dsonas", Architecture.complete(space), weighted=True)
    net.initialize(ctx=DEVICE)
    graph = TrainGraph(net, cross_entropy, SHAPE, SHAPE[:1], [DEVICE], "off")
    data, label = np.zeros(SHAPE, np.float32), np.zeros(SHAPE[0], np.float32)

    def steps():
        graph.step("weights", data, label)
        graph.step("lambdas", data, label)

    count = counted(steps)
    assert count <= MOST
    assert (null("peak", 0) - before) / 2**20 <= ORIGINAL_MB
    assert modelled["off"]["calls"] == pytest.approx(count, rel=0.01)


def test_the_model_knows_the_calls_of_the_original(space, modelled):
    executor = original.network(space, "all").simple_bind(DEVICE, "write", data=SHAPE)

    def steps():
        for _ in range(2):
            executor.forward(is_train=True)
            executor.backward()

    assert modelled["original"]["calls"] == pytest.approx(counted(steps), rel=0.01)


def test_the_papers_step_by_default_is_modelled_at_less_than_half_of_the_original(monkeypatch):
    monkeypatch.setattr(gpu, "PLANS", {"auto": gpu.PLANS["auto"]})
    options = argparse.Namespace(width=48, blocks=8, batch_size=64)
    assert gpu.measure(options)["auto"]["ms_over_original"] <= 0.45


@pytest.mark.parametrize("scope", ["share", "full"])
def test_an_update_is_few_calls(scope, loader, monkeypatch):
    """With the exchange between devices and the metrics, however many parameters there are."""
    contexts = [mx.gpu(0), mx.gpu(1)]
    monkeypatch.undo()  # λ is moved by its optimizer, not by the host
    space = SearchSpace(
        scope=scope, blocks=(2, 2), width=4, num_classes=3, in_channels=1, image_size=8
    )
    search = Search(
        lambda architecture: get_model("dsonas", architecture, weighted=True),
        Architecture.complete(space),
        weight_data=loader(48, 8),
        lambda_data=loader(48, 8, stream=1),
        options=SearchOptions(pretrain_epochs=0, num_epochs=1),
        setup=Setup(contexts=contexts),
    )
    counts, graph_calls = [], []
    step, graph_step = search._step, search.graph.step

    def counting(whole, counts):
        def ran(*arguments):
            before = calls()
            done = whole(*arguments)
            counts.append(calls() - before)
            return done

        return ran

    search.graph.step = counting(graph_step, graph_calls)
    search._step = counting(step, counts)
    search._update_architecture = lambda: None  # λ is what memory held
    search.step_epoch()
    beside = [count - of_graph for count, of_graph in zip(counts, graph_calls)]
    assert max(beside[2:]) <= 40 * len(contexts)  # the first ones make the states
