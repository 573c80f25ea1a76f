"""TrainGraph against Gluon's autograd, the oracle, on one device and on two."""

import os
import re
import subprocess
import sys
from pathlib import Path

from dsonas_mx import Architecture
from dsonas_mx.engine import marking
from dsonas_mx.engine.flat import is_lambda
from dsonas_mx.engine.graph import GRADIENTS, TrainGraph, shares
from dsonas_mx.training.loss import cross_entropy
from dsonas_mx.training.metric import Tally

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from symbols import get_model

UNTOUCHED = 7.0


def a_batch(size, seed=0, shape=(1, 8, 8), classes=3):
    generator = np.random.RandomState(seed)
    data = generator.randn(size, *shape).astype("float32")
    return data, generator.randint(0, classes, size).astype("float32")


def autograd_step(net, data, label, context):
    """What Gluon does; gradients are left in the parameters. Returns losses and logits."""
    data, label = mx.nd.array(data, context), mx.nd.array(label, context)
    with autograd.record():
        logits = net(data)
        loss = cross_entropy(mx.nd, logits, label)
    loss.backward()
    mx.nd.waitall()
    return loss.asnumpy(), logits.asnumpy()


def parameters_of(net):
    return net.collect_params().items()


def gradients_of(net, context):
    return {n: p.grad(context).asnumpy() for n, p in parameters_of(net) if p.grad_req != "null"}


def statistics_of(net, context):
    return {n: p.data(context).asnumpy() for n, p in parameters_of(net) if "running" in n}


def mark(net):
    """Fill all gradients with a value that no step writes."""
    for _, parameter in parameters_of(net):
        if parameter.grad_req != "null":
            for gradient in parameter.list_grad():
                gradient[:] = UNTOUCHED


def assert_close(actual, expected, tolerance=1e-5):
    """Equal up to `tolerance` of each array's largest value; what is zero, of all arrays'."""
    assert set(actual) == set(expected)
    most = max(np.abs(array).max() for array in expected.values())
    for name, array in expected.items():
        scale = max(np.abs(array).max(), 1e-3 * most)
        difference = np.abs(actual[name] - array).max() / scale
        assert difference <= tolerance, f"{name}: {difference}"


def is_learned(parameter, gradients):
    """Whether a step of `gradients` writes the gradient of this parameter."""
    kind = "lambdas" if is_lambda(parameter) else "weights"
    return parameter.grad_req != "null" and gradients in ("all", kind)


NETWORKS = {
    "supernet": {"weighted": True},
    "full": {"weighted": True},
    "all gammas learned": {"weighted": True, "fix_gamma": "none"},
    "found": {},
}


@pytest.fixture(params=NETWORKS)
def twins(request, tiny_space, randomised, some_architecture):
    """Two networks with the same parameters."""
    space = tiny_space(scope="full" if request.param == "full" else "share")
    architecture = Architecture.complete(space)
    if request.param == "found":
        architecture = some_architecture(space)
    return [randomised(architecture, **NETWORKS[request.param]) for _ in range(2)]


@pytest.mark.parametrize("gradients", GRADIENTS)
def test_a_step_is_that_of_autograd(twins, gradients, operators):
    net, oracle = twins
    if gradients == "lambdas" and not net.weighted:
        pytest.skip("there is no λ")
    data, label = a_batch(6)
    graph = TrainGraph(net, cross_entropy, data.shape, label.shape, [mx.cpu()])
    mark(net)
    (outputs,) = graph.step(gradients, data, label)
    graph.wait()  # the engine does not know of BN's statistics
    loss, logits = autograd_step(oracle, data, label, mx.cpu())
    np.testing.assert_allclose(outputs.loss.asnumpy(), loss, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs.answers.asnumpy(), logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(outputs.label.asnumpy(), label)
    expected = gradients_of(oracle, mx.cpu())
    for name, parameter in parameters_of(net):
        if name in expected and not is_learned(parameter, gradients):
            expected[name] = np.full(parameter.shape, UNTOUCHED)
    assert_close(gradients_of(net, mx.cpu()), expected, operators)

    moved, expected = (statistics_of(network, mx.cpu()) for network in (net, oracle))
    if gradients == "lambdas":  # no backward goes through what lies before the first λ
        for name in list(moved):
            if name.startswith(("stem", "stage1_block1_shortcut", "stage1_block1_level1")):
                moved.pop(name), expected.pop(name)
    assert_close(moved, expected)


def test_kinds_share_their_parameters_and_alternate(tiny_space, randomised):
    """One graph, both kinds in turn with updates between: as autograd with the same updates."""
    architecture = Architecture.complete(tiny_space())
    net, oracle = (randomised(architecture, weighted=True) for _ in range(2))
    graph = TrainGraph(net, cross_entropy, (6, 1, 8, 8), (6,), [mx.cpu()])
    for step, kind in enumerate(["weights", "lambdas", "weights", "all", "lambdas"]):
        data, label = a_batch(6, step)
        graph.step(kind, data, label)
        autograd_step(oracle, data, label, mx.cpu())
        for network in (net, oracle):
            for _, parameter in parameters_of(network):
                if is_learned(parameter, kind):
                    parameter.set_data(parameter.data() - 0.01 * parameter.grad())
    learned = [n for n, p in parameters_of(net) if p.grad_req != "null"]
    values = [
        {n: network.collect_params()[n].data().asnumpy() for n in learned}
        for network in (net, oracle)
    ]
    assert_close(*values, 1e-4)


class Fan(gluon.HybridBlock):
    """One map with `count` consumers, each scaled by its own λ."""

    def __init__(self, count):
        super().__init__(prefix="")
        self.count = count
        with self.name_scope():
            self.stem = self.params.get("stem", shape=(4, 1, 3, 3))
            self.lambdas = self.params.get("lambdas", shape=(count,))
            for k in range(count):
                setattr(self, f"w{k}", self.params.get(f"w{k}", shape=(4, 4, 1, 1)))

    def hybrid_forward(self, F, x, stem, lambdas, **weights):
        x = F.Convolution(x, stem, kernel=(3, 3), pad=(1, 1), num_filter=4, no_bias=True)
        total = 0
        for k in range(self.count):
            y = F.Convolution(x, weights[f"w{k}"], kernel=(1, 1), num_filter=4, no_bias=True)
            scale = F.reshape(F.slice_axis(lambdas, axis=0, begin=k, end=k + 1), (1, 1, 1, 1))
            total = total + F.broadcast_mul(F.relu(y), scale) + F.broadcast_mul(x, scale)
        return F.mean(total, axis=(2, 3))


def check_consumers(count):
    """The gradients of a map with `count` consumers, bound and by autograd."""
    nets = []
    for _ in range(2):
        net = Fan(count)
        net.initialize()
        generator = np.random.RandomState(count)
        for _, parameter in parameters_of(net):
            parameter.set_data(mx.nd.array(generator.randn(*parameter.shape)))
        nets.append(net)
    data, label = a_batch(5, count, classes=4)
    TrainGraph(nets[0], cross_entropy, data.shape, label.shape, [mx.cpu()]).step("all", data, label)
    autograd_step(nets[1], data, label, mx.cpu())
    assert_close(*(gradients_of(net, mx.cpu()) for net in nets), 2e-6)


@pytest.mark.parametrize("mkldnn", [0, 1])
def test_maps_with_many_consumers(mkldnn, in_child):
    program = "from test_graph import check_consumers as c; [c(n) for n in (7, 8, 9, 17)]"
    assert in_child(f"{program}; print('ok')", MXNET_MKLDNN_ENABLED=str(mkldnn)) == "ok\n"


@pytest.mark.parametrize("size", [8, 7])
def test_two_devices_divide_the_batch(size, tiny_space, randomised, operators):
    """Gradients add up to those of the two parts, run one after the other by autograd."""
    if os.environ.get("MXNET_MKLDNN_ENABLED") != "0":
        # MKLDNN adds in another order, and a reduction's λ has the small rest of large summands:
        # 1.5e-5. Without it, in the test below, the bound is that of all others.
        operators = max(operators, 3e-5)
    architecture = Architecture.complete(tiny_space())
    contexts = [mx.cpu(0), mx.cpu(1)]
    net, oracle = (randomised(architecture, contexts, weighted=True) for _ in range(2))
    data, label = a_batch(size)
    graph = TrainGraph(net, cross_entropy, data.shape, label.shape, contexts)
    outputs = graph.step("all", data, label)
    graph.wait()
    parts = slice(0, 4), slice(4, size)
    for context, part, output in zip(contexts, parts, outputs):
        loss, _ = autograd_step(oracle, data[part], label[part], context)
        np.testing.assert_allclose(output.loss.asnumpy(), loss, rtol=1e-5, atol=1e-6)
        assert output.loss.context == context
        assert_close(statistics_of(net, context), statistics_of(oracle, context))
        assert_close(gradients_of(net, context), gradients_of(oracle, context), operators)

    before = {n: p.data(contexts[0]).asnumpy() for n, p in parameters_of(net)}
    learned = {n: p for n, p in parameters_of(net) if p.grad_req != "null"}
    sums = {n: sum(g.asnumpy() for g in p.list_grad()) for n, p in learned.items()}
    trainer = gluon.Trainer(learned, "sgd", {"learning_rate": 0.5}, update_on_kvstore=False)
    trainer.step(size)  # refuses gradients that it takes for stale
    for name, parameter in learned.items():
        first, second = (array.asnumpy() for array in parameter.list_data())
        np.testing.assert_array_equal(first, second)
        expected = before[name] - 0.5 / size * sums[name]
        np.testing.assert_allclose(first, expected, rtol=1e-5, atol=1e-6)


def test_two_devices_divide_the_batch_exactly_without_mkldnn():
    environment = {"MXNET_MKLDNN_ENABLED": "0", "MXNET_STORAGE_FALLBACK_LOG_VERBOSE": "0"}
    words = ["-q", "-p", "no:xdist", "-k", "test_two_devices_divide_the_batch and plain", __file__]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_a_trainer_takes_only_what_a_step_wrote(tiny_space, randomised):
    net = randomised(Architecture.complete(tiny_space()), weighted=True)
    learned = {n: p for n, p in parameters_of(net) if p.grad_req != "null"}
    trainer = gluon.Trainer(learned, "sgd", {"learning_rate": 0.5}, kvstore=None)
    data, label = a_batch(4)
    graph = TrainGraph(net, cross_entropy, data.shape, label.shape, [mx.cpu()])
    graph.step("weights", data, label)
    with pytest.raises(UserWarning, match="lambdas"):  # its gradient is stale
        trainer.step(4)
    graph.step("lambdas", data, label)
    graph.step("weights", data, label)
    trainer.step(4)


def test_nothing_waits_for_the_device(tiny_space, randomised, monkeypatch):
    """Neither a step nor an update nor the sums of the metric."""
    net = randomised(Architecture.complete(tiny_space()), weighted=True)
    learned = {n: p for n, p in parameters_of(net) if p.grad_req != "null"}
    data, label = a_batch(4)
    graph = TrainGraph(net, cross_entropy, data.shape, label.shape, [mx.cpu()])
    optimizers = {
        "weights": mx.optimizer.create("nag", momentum=0.9, wd=1e-4),
        "lambdas": mx.optimizer.create("apgnag", gamma=0.1),
    }
    trainers = {
        kind: gluon.Trainer(
            {n: p for n, p in learned.items() if is_lambda(p) == (kind == "lambdas")}, optimizer
        )
        for kind, optimizer in optimizers.items()
    }
    tally = Tally()

    def refuse(*arguments, **options):
        raise AssertionError("waits for the device")

    with monkeypatch.context() as patch:
        for name in ("asnumpy", "asscalar", "wait_to_read", "__bool__"):
            patch.setattr(mx.nd.NDArray, name, refuse)
        patch.setattr(mx.nd, "waitall", refuse)
        for kind in ("weights", "lambdas", "weights"):
            tally.add(graph.step(kind, data, label))
            trainers[kind].step(4)
    assert np.isfinite(tally.score().loss)


def test_it_knows_whether_it_draws_numbers(tiny_space, randomised):
    for dropout in (0.0, 0.5):
        net = randomised(Architecture.complete(tiny_space()), dropout=dropout)
        graph = TrainGraph(net, cross_entropy, (4, 1, 8, 8), (4,), [mx.cpu()])
        assert graph.is_random == bool(dropout)


def test_shares():
    assert shares(8, 2) == (4, 4)
    assert shares(7, 2) == (4, 3)
    assert shares(11, 4) == (3, 3, 3, 2)
    assert shares(2, 2) == (1, 1)


def test_refuses(tiny_space, randomised):
    net = randomised(Architecture.complete(tiny_space()), weighted=True)
    with pytest.raises(ValueError, match="a batch of 1 is too small for 2 devices"):
        TrainGraph(net, cross_entropy, (1, 1, 8, 8), (1,), [mx.cpu(0), mx.cpu(1)])
    graph = TrainGraph(net, cross_entropy, (4, 1, 8, 8), (4,), [mx.cpu()])
    found = randomised(Architecture.complete(tiny_space()))
    graph = TrainGraph(found, cross_entropy, (4, 1, 8, 8), (4,), [mx.cpu()])
    with pytest.raises(ValueError, match="the network learns none of lambdas"):
        graph.step("lambdas", *a_batch(4))
    with pytest.raises(ValueError, match="gradients must be all or weights or lambdas, got 'both'"):
        graph.step("both", *a_batch(4))


def test_float16_is_that_of_the_maps(tiny_space):
    """Convolutions and BN work in float16; parameters, their gradients and the loss stay float32.

    There are no kernels for it on the CPU: the graph is bound, and not run.
    """
    net = get_model("dsonas", Architecture.complete(tiny_space()), weighted=True)
    net.initialize()
    shape = (2, 1, 8, 8)
    graph = TrainGraph(net, cross_entropy, shape, (2,), [mx.cpu()], "off", "float16")
    symbol = graph.symbol()
    internals, types_in = symbol.get_internals(), {"data": "float32", "label": "float32"}
    types = dict(zip(internals.list_outputs(), internals.infer_type(**types_in)[1]))
    maps = [t for name, t in types.items() if re.search(r"(convolution|batchnorm).*_output$", name)]
    assert len(maps) > 10 and set(maps) == {np.float16}
    assert set(symbol.infer_type(**types_in)[0]) == {np.float32}
    assert symbol.infer_type(**types_in)[1][:2] == [np.float32] * 2
    marked = marking.mark(symbol, frozenset({"convolution0"}))
    assert "amp_cast" in marked.tojson(remove_amp_cast=False)
