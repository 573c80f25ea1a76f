"""Several devices: what they compute together is what one computes from their parts in turn."""

from dataclasses import replace

from dsonas_mx import Architecture
from dsonas_mx.engine.flat import is_lambda
from dsonas_mx.engine.graph import TrainGraph, shares
from dsonas_mx.engine.setup import Setup
from dsonas_mx.search.options import SearchOptions
from dsonas_mx.search.search import Search, turns
from dsonas_mx.training.fit import evaluate
from dsonas_mx.training.loss import cross_entropy

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from symbols import get_model

OPTIONS = SearchOptions(
    pretrain_epochs=0, num_epochs=1, split=(1, 1), shrink_every=9, learning_rate=0.01, gamma=0.01
)
TWO = [mx.cpu(0), mx.cpu(1)]


@pytest.fixture
def search(tiny_space, loader, plain):
    """`search(steps, batch_size)`: on two devices, so many steps of weights and of λ in turn."""

    def build(steps, batch_size, contexts=TWO):
        mx.random.seed(0)
        data = [loader(batch_size * steps, batch_size, stream=stream) for stream in range(2)]
        return Search(
            lambda architecture: get_model("dsonas", architecture, weighted=True),
            Architecture.complete(tiny_space()),
            weight_data=data[0],
            lambda_data=data[1],
            options=replace(OPTIONS, split=(1, 1)),
            setup=Setup(contexts),
        )

    return build


def copy_parameters(source, target):
    for name, parameter in target.collect_params().items():
        parameter.set_data(source.collect_params()[name].list_data()[0])


def one_after_the_other(net, data, steps):
    """The steps of weights and λ on one device, by autograd: halves in turn, gradients added."""
    learned = {n: p for n, p in net.collect_params().items() if p.grad_req != "null"}
    for parameter in learned.values():
        parameter.grad_req = "add"
    shared = {"learning_rate": 0.01, "momentum": 0.9, "clip_gradient": 2.0}
    optimizers = {
        "weights": mx.optimizer.create("nag", wd=3e-4, **shared),
        "lambdas": mx.optimizer.create(
            "apgnag", gamma=0.01, never_empty=["reduction1_lambdas"], **shared
        ),
    }
    trainers = {
        kind: gluon.Trainer(
            {n: p for n, p in learned.items() if is_lambda(p) == (kind == "lambdas")}, optimizer
        )
        for kind, optimizer in optimizers.items()
    }
    batches = {kind: loader.epoch(0) for kind, loader in zip(trainers, data)}
    for kind in turns(len(data[0]), len(data[1]), (1, 1))[:steps]:
        batch = next(batches[kind])
        net.collect_params().zero_grad()
        first = (len(batch.labels) + 1) // 2
        for part in (slice(0, first), slice(first, None)):
            with autograd.record():
                logits = net(mx.nd.array(batch.data[part]))
                loss = cross_entropy(mx.nd, logits, mx.nd.array(batch.labels[part]))
            loss.backward()
        trainers[kind].step(len(batch.labels))


@pytest.mark.parametrize("batch_size", [8, 7])
def test_five_steps_are_those_of_the_halves_in_turn(search, tiny_space, batch_size):
    running = search(3, batch_size)
    net = get_model("dsonas", Architecture.complete(tiny_space()), weighted=True)
    net.initialize()
    copy_parameters(running.net, net)
    before = {n: p.data().asnumpy() for n, p in net.collect_params().items()}
    one_after_the_other(net, (running.weight_data, running.lambda_data), 5)

    class Enough(Exception):
        pass

    def stop():
        if running.position == 5:
            raise Enough

    running.after_step = stop
    with pytest.raises(Enough):
        running.step_epoch()
    for name, parameter in net.collect_params().items():
        if "running" in name:  # of each device its own
            continue
        expected = parameter.data().asnumpy()
        for array in running.net.collect_params()[name].list_data():
            np.testing.assert_allclose(array.asnumpy(), expected, rtol=0, atol=1e-5, err_msg=name)
        if parameter.grad_req != "null":
            assert np.abs(expected - before[name]).max() > 1e-5, name


def test_after_fifty_steps_they_agree_to_the_last_bit(search):
    """Weights, λ and what the optimizers remember: checkpoints keep one device's of them."""
    running = search(25, 7)
    running.step_epoch()
    for name, parameter in running.net.collect_params().items():
        first, second = (array.asnumpy() for array in parameter.list_data())
        if "running" in name:
            assert (first != second).any(), name
        else:
            assert first.tobytes() == second.tobytes(), name
    for trainer in running.trainers.values():
        first, second = trainer.states(0), trainer.states(1)
        assert set(first) == set(second) == {p.name for p in trainer.parameters}
        for name, (state,) in first.items():
            assert state.asnumpy().tobytes() == second[name][0].asnumpy().tobytes()
            assert state.asnumpy().any()


def test_every_sample_has_a_device():
    """As even as it goes, for any batch size."""
    for batch_size in range(1, 40):
        for devices in range(1, batch_size + 1):
            sizes = shares(batch_size, devices)
            assert len(sizes) == devices
            assert sum(sizes) == batch_size
            assert max(sizes) - min(sizes) <= 1
            assert sizes == tuple(sorted(sizes, reverse=True))


@pytest.mark.parametrize("size", [3, 5, 8])
def test_each_device_gets_its_part_in_order(tiny_space, randomised, size):
    contexts = [mx.cpu(number) for number in range(3)]
    net = randomised(Architecture.complete(tiny_space()), contexts, weighted=True)
    graph = TrainGraph(net, cross_entropy, (size, 1, 8, 8), (size,), contexts)
    generator = np.random.RandomState(0)
    for _ in range(3):  # its two sets of staging arrays, and the first of them again
        labels = generator.randint(0, 3, size).astype(np.float32)
        data = generator.rand(size, 1, 8, 8).astype(np.float32)
        outputs = graph.step("weights", data, labels)
        seen = np.concatenate([output.label.asnumpy() for output in outputs])
        np.testing.assert_array_equal(seen, labels)
        assert [len(output.loss.asnumpy()) for output in outputs] == list(shares(size, 3))
    graph.wait()


@pytest.mark.parametrize("count", [5, 6, 7, 8])
def test_the_last_short_batch_is_divided_as_well(tiny_space, randomised, loader, count):
    """Batches of 4 on three devices: the last one has a sample for one, two or three of them."""
    contexts = [mx.cpu(number) for number in range(3)]
    net = randomised(Architecture.complete(tiny_space()), contexts)
    for name, parameter in net.collect_params().items():
        if "running" in name:
            for array in parameter.list_data()[1:]:
                array[:] = parameter.list_data()[0]
    data = loader(count, 4, shuffle=False, drop_last=False)
    together, alone = (evaluate(net, data, devices) for devices in (contexts, contexts[:1]))
    assert together.loss == pytest.approx(alone.loss, rel=1e-5)
    assert together.accuracy == alone.accuracy
    part = loader(count, 4, shuffle=False)  # without it
    assert evaluate(net, part, contexts).loss != pytest.approx(alone.loss, rel=1e-5) or count == 8
