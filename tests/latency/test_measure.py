"""Latency: what is timed computes what Gluon does, and leaves the network alone."""

import json
import math

from dsonas_mx import Architecture
from dsonas_mx.engine import timing
from dsonas_mx.latency import measure as latency
from dsonas_mx.latency.measure import Latency, NetworkLatency, bind, deploy, describe, measure

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model


@pytest.fixture
def clock(monkeypatch):
    """A clock that only `clock.now += seconds` moves."""

    class Clock:
        now = 100.0

    one = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: one.now)
    return one


def found(space):
    return Architecture.random(space, 1, density=0.8)


def test_deployed_network_computes_what_gluon_does(tiny_space, randomised):
    space = tiny_space(width=8)
    net = randomised(found(space))
    executor = bind(net, (2, 1, 8, 8), mx.cpu())
    batch = mx.nd.array(np.random.RandomState(0).randn(2, 1, 8, 8))
    executor.arg_dict["data"][:] = batch
    actual = executor.forward(is_train=False)[0].asnumpy()
    np.testing.assert_allclose(actual, net(batch).asnumpy(), rtol=1e-4, atol=1e-5)


def test_deployed_network_is_fused(tiny_space):
    if not mx.runtime.Features().is_enabled("MKLDNN"):
        pytest.skip("this MXNet has no MKLDNN")
    architecture = Architecture.complete(tiny_space(operations=("sep3",), levels=1))
    text = bind(get_model("dsonas", architecture), (1, 1, 8, 8), mx.cpu()).debug_str()
    operators = [line.split("Op:")[1].split(",")[0] for line in text.splitlines() if "Op:" in line]
    # Stem, two shortcuts, 2 × (depthwise, pointwise, output), two branches of the reduction.
    assert operators.count("_sg_mkldnn_conv") == 11
    assert operators.count("BatchNorm") == 1  # the classifier's, which follows no convolution


def test_parameters_are_left_alone(tiny_space, randomised):
    net = randomised(found(tiny_space(width=8)))
    before = {n: p.data().asnumpy().copy() for n, p in net.collect_params().items()}
    measure(net, (1, 1, 8, 8), runs=2)
    for name, parameter in net.collect_params().items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), before[name])


def test_measuring_moves_no_random_numbers(tiny_space):
    mx.random.seed(3)
    expected = mx.nd.random.uniform(shape=3).asnumpy()
    mx.random.seed(3)
    measure(get_model("dsonas", found(tiny_space())), (1, 1, 8, 8), runs=1)
    np.testing.assert_array_equal(mx.nd.random.uniform(shape=3).asnumpy(), expected)


def test_invented_parameters_give_ordinary_numbers(tiny_space):
    """Neither overflow nor numbers so small that a CPU is slow with them."""
    space = tiny_space(levels=4, operations=("sep3", "sep5", "max", "avg"), blocks=(8, 8), width=8)
    run = deploy(get_model("dsonas", Architecture.complete(space)), (1, 1, 8, 8), mx.cpu())
    largest = np.abs(run()[0].asnumpy()).max()
    assert 1e-3 < largest < 1e3


def test_symbol_and_uninitialised_network_are_measured(tiny_space):
    net = get_model("dsonas", found(tiny_space()))
    for one in (net, net(mx.sym.Variable("data"))):
        latency = measure(one, (2, 1, 8, 8), runs=3, warm_up=0)
        assert len(latency.runs) == 3 and latency.median_ms > 0


def test_latency_of_runs():
    latency = Latency.of([5.0, 1.0, 2.0, 100.0, 3.0])
    assert latency.median_ms == 3.0
    assert latency.spread_ms == 99.0
    assert latency.runs == (5.0, 1.0, 2.0, 100.0, 3.0)
    # Distances to the median: 2, 2, 1, 97, 0; their median, over that of a normal, is σ.
    assert latency.noise_ms == pytest.approx(math.sqrt(math.pi / 2) * 2 / 0.6745 / 5**0.5, rel=1e-3)


def test_warm_up_is_not_counted(clock, monkeypatch):
    durations = iter([9.0, 9.0, 1.0, 2.0, 3.0])

    def run():
        clock.now += next(durations)

    monkeypatch.setattr(latency, "deploy", lambda *_: run)
    assert measure(None, (1, 3, 8, 8), runs=3, warm_up=2).runs == (1000.0, 2000.0, 3000.0)


def test_equal_networks_are_measured_once(monkeypatch, tiny_space):
    shapes = []

    def fake(net, shape, device, runs):
        shapes.append(shape)
        return Latency.of([float(len(shapes))])

    monkeypatch.setattr(latency, "measure", fake)
    one = NetworkLatency(lambda architecture: architecture, batch_size=8)
    complete = Architecture.complete(tiny_space())
    again = Architecture.complete(tiny_space(), origin={"seed": 1})
    wide = complete.with_space(width=8, image_size=16)
    assert [one(a) for a in (complete, wide, again)] == [1.0, 2.0, 1.0]
    assert shapes == [(8, 1, 8, 8), (8, 1, 16, 16)]


def test_deeper_network_is_slower(tiny_space):
    """Eight blocks against one, in turn, by their fastest rounds: the machine is shared."""
    pieces = {}
    for blocks in (1, 8):
        space = tiny_space(operations=("sep3", "sep5"), blocks=(blocks,), width=16, image_size=16)
        net = get_model("dsonas", Architecture.complete(space))
        pieces[blocks] = deploy(net, (1, 1, 16, 16), mx.cpu())
    seconds = timing.alternate(pieces, rounds=20, warm_up=3)
    assert min(seconds[8]) > 2 * min(seconds[1])


@pytest.mark.parametrize("options, wrong", [({"runs": 0}, "runs"), ({"warm_up": -1}, "warm_up")])
def test_wrong_counts_are_refused(tiny_space, options, wrong):
    net = get_model("dsonas", found(tiny_space()))
    with pytest.raises(ValueError, match=f"{wrong} must be at least"):
        measure(net, (1, 1, 8, 8), **options)


def test_network_that_cannot_run_is_refused_in_one_line(tiny_space):
    net = get_model("dsonas", found(tiny_space()))
    with pytest.raises(ValueError, match="does not run on cpu.* with an input of 1x5x8x8") as error:
        measure(net, (1, 5, 8, 8))
    assert "\n" not in str(error.value)


def test_what_the_memory_cannot_hold_is_refused(tiny_space, monkeypatch):
    monkeypatch.setattr(latency, "reported", lambda executor: 1e9)
    with pytest.raises(ValueError, match="1,000,000,000 MB for an input of 1x1x8x8"):
        measure(get_model("dsonas", found(tiny_space())), (1, 1, 8, 8))


def test_threads_are_those_of_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert describe(mx.cpu())["threads"] == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    monkeypatch.setattr(latency, "usable_cpus", lambda: 2.5)
    assert describe(mx.cpu())["threads"] == 3
    assert json.loads(json.dumps(describe(mx.cpu())))["kind"] == "cpu"
