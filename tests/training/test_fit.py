"""Training from scratch: it learns, follows its schedule, and tests with moving statistics."""

from dataclasses import replace

from dsonas_mx import Architecture
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.engine.setup import Setup
from dsonas_mx.training.fit import Fit, evaluate
from dsonas_mx.training.loss import cross_entropy, with_auxiliary
from dsonas_mx.training.options import FitOptions
from dsonas_mx.training.schedule import cosine

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model

OPTIONS = FitOptions(
    num_epochs=2, learning_rate=0.1, final_learning_rate=0.01, period=2, weight_decay=1e-4
)
CONTEXTS = [mx.cpu(0), mx.cpu(1)]


@pytest.fixture
def found(tiny_space, some_architecture):
    return some_architecture(tiny_space())


@pytest.fixture
def fit(found, loader, plain):
    """`fit(options, …)`: training on 48 stripes."""

    def build(options=OPTIONS, contexts=None, architecture=found, seed=0, loss=cross_entropy):
        mx.random.seed(seed)
        net = get_model("dsonas", architecture)
        net.initialize(ctx=contexts or [mx.cpu()])
        test_data = loader(20, 8, 1, shuffle=False, drop_last=False)
        setup = Setup(contexts or [mx.cpu()])
        data = {"train_data": loader(48, 8, seed), "test_data": test_data}
        return Fit(net, **data, options=options, loss=loss, setup=setup)

    return build


@pytest.mark.parametrize("contexts", [None, pytest.param(CONTEXTS, marks=pytest.mark.slow)])
def test_learns_what_can_be_learnt(fit, contexts):
    epochs = []
    training = fit(replace(OPTIONS, num_epochs=20, period=20), contexts)
    score = training.run(epochs.append)
    assert [epoch.epoch for epoch in epochs] == list(range(1, 21))
    assert epochs[0].train.loss > 0.3
    assert epochs[-1].train.accuracy > 0.95
    assert score == epochs[-1].test
    assert score.accuracy > 0.95
    assert score.loss < 0.3
    assert training.test() == score


def test_the_schedule_is_applied(fit):
    """The rate of every update, and the one that is reported."""
    training = fit(replace(OPTIONS, num_epochs=5, period=1, factor=3))
    trainer = training.trainers["all"]
    rates, step = [], trainer.step

    def noted(batch_size):
        rates.append((trainer.learning_rate, batch_size))
        step(batch_size)

    trainer.step = noted
    epochs = []
    training.run(epochs.append)
    expected = [cosine(epoch, 0.1, 0.01, 1, 3) for epoch in range(5)]
    assert expected[0] == expected[1] > expected[2]
    assert [epoch.learning_rate for epoch in epochs] == expected
    assert rates == [(rate, 8) for rate in expected for _ in range(6)]


def test_the_rate_reaches_the_weights(fit, monkeypatch):
    """A rate of zero changes nothing."""
    monkeypatch.setattr(
        "dsonas_mx.training.options.cosine", lambda epoch, *rest: 0.0 if epoch else 0.1
    )
    training = fit(replace(OPTIONS, momentum=0.0))
    fc = training.net.collect_params()["fc_weight"]
    values = [fc.data().asnumpy()]
    for _ in range(2):
        training.step_epoch()
        values.append(fc.data().asnumpy())
    assert (values[0] != values[1]).any()
    np.testing.assert_array_equal(values[1], values[2])


def test_only_weights_of_convolutions_and_classifiers_decay(fit):
    """Without a gradient an update is −ηw·wd; NAG's first is (1 + μ) times that."""
    training = fit(
        replace(OPTIONS, num_epochs=1, weight_decay=0.01),
        loss=lambda F, outputs, label: F.sum(outputs * 0, axis=1) + label * 0,
    )
    parameters = training.net.collect_params()
    for name, parameter in parameters.items():
        assert parameter.wd_mult == float(name.endswith("weight") or "running" in name), name
        if name.endswith(("gamma", "beta", "bias")):
            parameter.set_data(mx.nd.ones(parameter.shape))
    before = {name: p.data().asnumpy() for name, p in parameters.items()}
    data = training.train_data
    batch = next(data.epoch(0))
    training.graph.step("all", batch.data, batch.labels)
    training.trainers["all"].step(8)
    for name, parameter in parameters.items():
        if parameter.grad_req == "null":
            continue
        decay = 1 - 0.1 * 0.01 * 1.9 if name.endswith("weight") else 1
        np.testing.assert_allclose(
            parameter.data().asnumpy(), before[name] * decay, rtol=1e-6, err_msg=name
        )


def test_a_loss_that_is_not_finite(fit):
    training = fit(replace(OPTIONS, learning_rate=1e30))
    with pytest.raises(ArithmeticError, match="^the loss is (nan|inf) in epoch 1, from step 2 of "):
        training.run()


def test_a_test_loss_that_is_not_finite(fit, loader):
    """One step only: its own loss was finite."""
    training = fit(replace(OPTIONS, learning_rate=1e30))
    training.train_data = loader(8, 8)
    with pytest.raises(ArithmeticError, match="^the test loss is (nan|inf) in epoch 1: use a"):
        training.run()


def test_the_seed_decides_everything(fit):
    """Testing in between changes nothing either: three times, since a race may go well."""
    runs = []
    for seed in (1, 1, 1, 2):
        epochs = []
        training = fit(seed=seed)
        training.run(epochs.append)
        parameters = training.net.collect_params().items()
        runs.append((epochs, {name: p.data().asnumpy() for name, p in parameters}))
    first, *again, other = runs
    for epochs, values in again:
        assert epochs == first[0]
        for name, value in values.items():
            np.testing.assert_array_equal(value, first[1][name], err_msg=name)
    assert other[0] != first[0]


def test_each_device_has_moving_statistics_of_its_own(fit):
    training = fit(replace(OPTIONS, num_epochs=1), CONTEXTS)
    batch = next(training.train_data.epoch(0))
    training.graph.step("all", batch.data, batch.labels)
    training.trainers["all"].step(8)
    mx.nd.waitall()
    for name, parameter in training.net.collect_params().items():
        first, second = (array.asnumpy() for array in parameter.list_data())
        assert (first != second).any() == ("running" in name), name


# The test


def numpy_score(net, data, context):
    """Of all samples in one batch, by an independent formula."""
    batch = next(data.epoch(0))
    logits = net(mx.nd.array(batch.data, context)).asnumpy().astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = -log_p[np.arange(len(logits)), batch.labels.astype(int)]
    return loss.mean(), (logits.argmax(1) == batch.labels).mean()


@pytest.mark.parametrize("batch_size", [5, 8, 13])
@pytest.mark.parametrize("contexts", [[mx.cpu()], CONTEXTS])
def test_all_samples_count_once(found, randomised, loader, batch_size, contexts):
    """13 of them; with two devices and batches of 4 or 12, the last one has a single sample."""
    net = randomised(found, contexts)
    for parameter in net.collect_params().values():  # else two devices differ, rightly
        parameter.set_data(parameter.data(contexts[0]))
    everything = loader(13, 13, shuffle=False)
    loss, accuracy = numpy_score(net, everything, contexts[0])
    for size in (batch_size, batch_size - 1):
        score = evaluate(net, loader(13, size, shuffle=False, drop_last=False), contexts)
        assert score.loss == pytest.approx(loss, rel=1e-5)
        assert score.accuracy == pytest.approx(accuracy)
    assert 0 < accuracy < 1


def test_moving_statistics_are_used_and_not_moved(found, randomised, loader):
    net = randomised(found)
    data = loader(13, 13, shuffle=False)
    parameters = net.collect_params()
    statistics = {n: p.data().asnumpy() for n, p in parameters.items() if "running" in n}
    first = evaluate(net, data, [mx.cpu()])
    for name, value in statistics.items():
        np.testing.assert_array_equal(parameters[name].data().asnumpy(), value)
    parameters["final_bn_running_mean"].set_data(parameters["final_bn_running_mean"].data() + 1)
    assert evaluate(net, data, [mx.cpu()]) != first


def test_a_test_does_not_touch_the_parameters(found, randomised, loader, monkeypatch):
    """MKLDNN would reorder them, now or later, and later steps would not repeat bit for bit."""
    net = randomised(found)
    bound, bind = [], mx.sym.Symbol.bind

    def noted(self, context, args, **options):
        bound.extend([*args.values(), *options["aux_states"].values()])
        return bind(self, context, args, **options)

    def refuse(self, *inputs):
        raise AssertionError("runs on the parameters themselves")

    monkeypatch.setattr(mx.sym.Symbol, "bind", noted)
    monkeypatch.setattr(mx.gluon.HybridBlock, "_call_cached_op", refuse)
    evaluate(net, loader(12, 12, shuffle=False), [mx.cpu()])
    own = {id(parameter.data()) for parameter in net.collect_params().values()}
    assert len(bound) > len(own)
    assert not own & {id(array) for array in bound}


def test_each_device_tests_with_its_own_statistics(found, randomised, loader):
    net = randomised(found, CONTEXTS)
    both = evaluate(net, loader(12, 12, shuffle=False), CONTEXTS)
    parts = []
    for context, start in zip(CONTEXTS, (0, 6)):
        part = loader(12, 6, shuffle=False)
        part.indices = part.indices[start : start + 6]
        parts.append(numpy_score(net, part, context))
    assert both.loss == pytest.approx(np.mean([loss for loss, _ in parts]), rel=1e-5)


# The auxiliary tower


def test_the_weight_of_the_tower(tiny_space, randomised, plain):
    """The gradient of what only the tower has is proportional to its weight."""
    space = tiny_space(blocks=(1, 1, 1), image_size=32, levels=1)
    net = randomised(Architecture.complete(space), auxiliary=True)
    data = np.random.RandomState(0).randn(4, 1, 32, 32).astype("float32")
    gradients = {}
    for weight in (0.25, 1.0):
        graph = TrainGraph(net, with_auxiliary(weight), data.shape, (4,), [mx.cpu()])
        graph.step("all", data, np.arange(4, dtype="float32") % 3)
        for name in ("auxiliary_fc_bias", "auxiliary_2x2_conv_weight", "fc_bias", "fc_weight"):
            gradient = net.collect_params()[name].grad().asnumpy()
            gradients.setdefault(name, []).append(gradient)
    for name, (quarter, whole) in gradients.items():
        factor = 0.25 if name.startswith("auxiliary") else 1
        np.testing.assert_allclose(quarter, factor * whole, rtol=1e-4, atol=1e-6)
        assert whole.any()


def test_the_test_is_of_the_first_output(tiny_space, randomised, loader):
    """Cross-entropy of the classifier alone, tower or not."""

    class WithTower(mx.gluon.HybridBlock):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def hybrid_forward(self, F, x):
            logits = self.net(x)
            return logits, logits * 0

    net = randomised(Architecture.complete(tiny_space()))
    data = loader(12, 5, shuffle=False, drop_last=False)
    assert evaluate(WithTower(net), data, [mx.cpu()]) == evaluate(net, data, [mx.cpu()])


# Options


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_epochs": 0}, "`num_epochs` must be at least 1, got 0"),
        ({"num_epochs": -3}, "`num_epochs` must be at least 1, got -3"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be at least 0 and finite"),
        ({"learning_rate": float("inf")}, "`learning_rate` must be at least 0 and finite"),
        (
            {"learning_rate": 0.001},
            "not be below `final_learning_rate`, .* got 0.001 and 0.01",
        ),
        ({"final_learning_rate": -1}, "`learning_rate` must not be below"),
        ({"momentum": 1.0}, r"`momentum` must be in \[0, 1\), got 1.0"),
        ({"weight_decay": -1e-4}, "`weight_decay` must be at least 0 and finite, got -0.0001"),
        ({"weight_decay": float("inf")}, "`weight_decay` must be at least 0 and finite, got inf"),
        ({"period": 0}, "period and factor must be at least 1, got 0 and 2"),
    ],
)
def test_refuses_options(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(OPTIONS, **changes)


def test_the_defaults_are_those_of_the_paper():
    options = FitOptions()
    assert options.num_epochs == 10 * (2**6 - 1)  # six periods
    assert (options.learning_rate, options.final_learning_rate) == (0.05, 0.001)
    assert (options.period, options.factor) == (10, 2)
    assert (options.momentum, options.weight_decay) == (0.9, 3e-4)
