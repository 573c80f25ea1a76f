"""APG-NAG against the reference trajectory, numpy, and itself on two devices."""

import dsonas_mx  # noqa: F401  registers the optimizer

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon


def numpy_step(x, v, gradient, t, lr, gamma, momentum, schedule, clip=np.inf):
    """Eq. 14-16 in float64, written from the paper."""
    before = now = momentum
    if schedule == "apg":
        before, now = (t - 2) / (t + 1), (t - 1) / (t + 2)
    z = x - lr * np.clip(gradient, -clip, clip)
    s = np.sign(z) * np.maximum(np.abs(z) - lr * gamma, 0)
    v = s - x + before * v
    return np.maximum(s + now * v, 0), v


def test_follows_the_reference_trajectory(golden):
    with np.load(golden / "apg_nag_trajectory.npz") as file:
        reference = dict(file)
    optimizer = mx.optimizer.create(
        "apgnag",
        gamma=float(reference["gamma"]),
        learning_rate=float(reference["lr"]),
        momentum=float(reference["momentum"]),
        clip_gradient=float(reference["clip_gradient"]),
    )
    x = mx.nd.array(reference["lambda0"])
    state = optimizer.create_state(0, x)
    for step, (gradient, expected) in enumerate(
        zip(reference["grad_lambda"], reference["lambda_traj"])
    ):
        if step % 2:  # the file updates λ in odd steps (from 0), weights in even ones
            optimizer.update(0, x, mx.nd.array(gradient), state)
        np.testing.assert_allclose(x.asnumpy(), expected, atol=1e-5)
    assert (expected == 0).any() and (expected > 0).any()


@pytest.mark.parametrize("schedule", ["constant", "apg"])
def test_equations(schedule):
    rng = np.random.RandomState(0)
    gamma = np.linspace(0, 2, 7)
    optimizer = mx.optimizer.create(
        "apgnag", gamma=gamma, learning_rate=0.1, momentum=0.8, momentum_schedule=schedule
    )
    expected, v = np.ones(7), np.zeros(7)
    x = mx.nd.array(expected)
    state = optimizer.create_state(0, x)
    for t in range(1, 31):
        gradient = rng.randn(7) + 0.5
        expected, v = numpy_step(expected, v, gradient, t, 0.1, gamma, 0.8, schedule)
        optimizer.update(0, x, mx.nd.array(gradient), state)
        np.testing.assert_allclose(x.asnumpy(), expected, atol=1e-5)
        np.testing.assert_allclose(state.asnumpy(), v, atol=1e-5)
        assert (x.asnumpy() >= 0).all()


def test_gamma_changes_between_steps():
    optimizer = mx.optimizer.create("apgnag", gamma=0.0, learning_rate=0.1, momentum=0.0)
    x = mx.nd.ones(3)
    state = optimizer.create_state(0, x)
    optimizer.update(0, x, mx.nd.zeros(3), state)
    np.testing.assert_array_equal(x.asnumpy(), 1)
    optimizer.gamma = np.array([0.0, 1.0, 20.0])
    optimizer.update(0, x, mx.nd.zeros(3), state)
    np.testing.assert_allclose(x.asnumpy(), [1, 0.9, 0], atol=1e-6)


@pytest.mark.parametrize("kind", [np.array, mx.nd.array])
def test_gamma_is_not_changed_behind_its_back(kind):
    given = kind([0.5, 0.5])
    optimizer = mx.optimizer.create("apgnag", gamma={"x": given}, learning_rate=1.0, momentum=0.0)
    optimizer.idx2name = {0: "x"}
    given[:] = 0
    with pytest.raises(ValueError, match="read-only"):
        optimizer.gamma["x"][0] = 0
    with pytest.raises(TypeError):
        optimizer.gamma["x"] = 0.0
    x = mx.nd.ones(2)
    optimizer.update(0, x, mx.nd.zeros(2), optimizer.create_state(0, x))
    np.testing.assert_allclose(x.asnumpy(), 0.5)


def test_a_reduction_never_empties():
    optimizer = mx.optimizer.create(
        "apgnag", gamma=1.0, learning_rate=1.0, momentum=0.5, never_empty=["kept"]
    )
    optimizer.idx2name = {0: "kept", 1: "other"}
    for index, expected in ((0, [0.0, 0.4]), (1, [0.0, 0.0])):
        x = mx.nd.array([0.2, 0.4])
        state = optimizer.create_state(index, x)
        for _ in range(3):
            optimizer.update(index, x, mx.nd.zeros(2), state)
        np.testing.assert_allclose(x.asnumpy(), expected, atol=1e-6)
    x = mx.nd.array([3.0, 0.4])  # only one reaches zero: nothing is held
    optimizer.update(0, x, mx.nd.zeros(2), optimizer.create_state(0, x))
    assert 0 < x.asnumpy()[0] < 3
    assert x.asnumpy()[1] == 0


def train(contexts, steps=6):
    """λ after some steps of a least-squares loss, on one device or two."""
    lambdas = gluon.Parameter("lambdas", shape=(5,))
    other = gluon.Parameter("other", shape=(2,))
    for parameter in (lambdas, other):
        parameter.initialize(mx.init.One(), ctx=contexts)
    optimizer = mx.optimizer.create(
        "apgnag", gamma={"lambdas": np.full(5, 0.3)}, learning_rate=0.05, momentum=0.9
    )
    trainer = gluon.Trainer(
        {"lambdas": lambdas, "other": other}, optimizer, update_on_kvstore=False
    )
    data = np.random.RandomState(1).randn(steps, 8, 5).astype("float32")
    for batch in data:
        parts = gluon.utils.split_and_load(mx.nd.array(batch), contexts)
        with autograd.record():
            losses = [
                ((x * lambdas.data(x.context)).sum(1) ** 2).sum() + other.data(x.context).sum() * 0
                for x in parts
            ]
        autograd.backward(losses)
        trainer.step(8)
    return [lambdas.data(c).asnumpy() for c in contexts] + [other.data(contexts[0]).asnumpy()]


def test_two_devices_agree_with_one():
    alone, other = train([mx.cpu(0)])
    first, second, _ = train([mx.cpu(0), mx.cpu(1)])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, alone, atol=1e-6)
    np.testing.assert_array_equal(other, 1)  # a mapping leaves what it does not name alone
    assert not np.allclose(alone, 1)


@pytest.mark.parametrize("gamma", [0.1, np.full(4, 0.1), {"lambdas": np.full(4, 0.1)}])
def test_state_saves_and_loads(tmp_path, gamma):
    def trainer_of(value):
        parameter = gluon.Parameter("lambdas", shape=(4,))
        parameter.initialize(mx.init.Constant(value))
        optimizer = mx.optimizer.create("apgnag", gamma=gamma, learning_rate=0.1, momentum=0.9)
        return parameter, gluon.Trainer({"lambdas": parameter}, optimizer, kvstore=None)

    def step(parameter, trainer):
        with autograd.record():
            loss = (parameter.data() ** 2).sum()
        loss.backward()
        trainer.step(1)

    parameter, trainer = trainer_of(1.0)
    step(parameter, trainer)
    trainer.save_states(str(tmp_path / "states"))
    resumed, other = trainer_of(0.0)
    resumed.set_data(parameter.data())
    other.load_states(str(tmp_path / "states"))
    for pair in ((parameter, trainer), (resumed, other)):
        step(*pair)
    np.testing.assert_array_equal(parameter.data().asnumpy(), resumed.data().asnumpy())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"gamma": -1.0}, "gamma must be finite and not negative, got -1.0"),
        ({"gamma": float("nan")}, "gamma must be finite"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"momentum_schedule": "fast"}, "momentum_schedule must be one of constant, apg"),
        ({"wd": 1e-4}, "no weight decay"),
        ({"learning_rate": -1.0}, "lr must be at least 0, got -1.0"),
        ({"clip_gradient": -1.0}, "clip_gradient must be at least 0, got -1.0"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        mx.optimizer.create("apgnag", **options)


def test_refuses_a_gamma_of_another_shape():
    optimizer = mx.optimizer.create("apgnag", gamma=np.ones(4))
    x = mx.nd.ones(3)
    with pytest.raises(ValueError, match=r"shape of λ, \(3,\), got \(4,\)"):
        optimizer.update(0, x, mx.nd.ones(3), optimizer.create_state(0, x))


@pytest.mark.parametrize("order", ["dsonas_mx, mxnet", "mxnet, dsonas_mx"])
def test_mxnet_finds_it_by_name(order, in_child):
    program = f"import {order}; import mxnet as mx; print(mx.optimizer.create('apgnag').momentum)"
    cap = {"MXNET_EXEC_INPLACE_GRAD_SUM_CAP": "100"}
    assert in_child(program, **cap) == "0.9\n"
