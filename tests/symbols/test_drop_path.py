"""Drop path: which connections, how often, what it leaves as it is, and where it acts."""

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.engine.tracing import PROGRESS
from dsonas_mx.training.fit import Fit, evaluate
from dsonas_mx.training.loss import cross_entropy
from dsonas_mx.training.options import FitOptions

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model
from symbols.block import Block
from symbols.drop_path import DropPath, can_drop, final_probability

BLOCK = [
    "input->2.sep3",
    "1.sep3->2.max",
    "1.max->2.max",
    "1.sep3->output",
    "2.sep3->output",
    "2.max->output",
]
DROPPABLE = (False, True, True, True, True, True)  # 2.sep3 has one input


@pytest.fixture
def architecture(tiny_space):
    """`architecture(**changes)`: every block is `BLOCK`."""

    def build(**changes):
        space = tiny_space(**changes)
        mask = [edge.name in BLOCK for edge in space.connections]
        return Architecture(
            space, (mask,) * space.num_structures, ((True, True),) * space.num_reductions
        )

    return build


def test_probabilities_are_the_releases():
    """p = rate · (36 (s − 1) + 4 (u − 1) + 1) / 112 for block u of stage s."""
    space = SearchSpace.cifar10()
    for index, (s, u) in enumerate(space.block_positions):
        expected = 0.5 * (36 * (s - 1) + 4 * (u - 1) + 1) / 112
        assert final_probability(space, index, 0.5) == pytest.approx(expected, rel=1e-12)
    assert final_probability(space, 0, 0.5) == pytest.approx(0.5 / 112)
    assert final_probability(space, 23, 0.5) == pytest.approx(0.5 * 101 / 112)
    small = SearchSpace.cifar10(blocks=(1, 2))  # 3 blocks and 1 reduction
    assert [final_probability(small, block, 0.6) for block in range(3)] == pytest.approx(
        [0.025, 0.225, 0.325]
    )


def test_what_can_be_dropped(architecture):
    """Connections into operations with several, and to the output."""
    found = architecture()
    kept = [edge.name for edge, kept in zip(found.space.connections, found.kept[0]) if kept]
    assert kept == BLOCK
    assert can_drop(found, 0) == DROPPABLE
    space = found.space
    nothing = Architecture(space, ((False,) * len(space.connections),), ((True, True),))
    assert can_drop(nothing, 0) == ()


def draw(found, rate, progress, batch, seed=0):
    mx.random.seed(seed)
    data, done = mx.nd.zeros((batch, 1, 8, 8)), mx.nd.array([progress])
    return [scales.asnumpy() for scales in DropPath(found, rate).scales(mx.nd, data, done)]


@pytest.mark.parametrize("progress", [0.25, 1.0])
def test_expectation_and_variance(architecture, progress):
    """Of a scale that is 0 with probability p, else 1 / (1 − p): 1 and p / (1 − p)."""
    found, batch = architecture(blocks=(2, 3)), 20_000
    droppable = np.array(DROPPABLE)
    drawn = draw(found, 0.9, progress, batch)
    assert len(drawn) == 5
    for block, scales in enumerate(drawn):
        p = progress * final_probability(found.space, block, 0.9)
        assert scales.shape == (batch, 6)
        assert (scales[:, ~droppable] == 1).all()
        dropped = scales[:, droppable]
        np.testing.assert_allclose(np.unique(dropped), [0, 1 / (1 - p)], rtol=1e-6)
        variance = p / (1 - p)
        np.testing.assert_allclose(dropped.mean(0), 1, atol=5 * np.sqrt(variance / batch))
        np.testing.assert_allclose(dropped.var(0), variance, rtol=0.15, atol=0.01)
    # No two connections, neighbouring samples or blocks drop together.
    last = drawn[4][:, droppable]
    together = np.corrcoef(np.hstack([last[1:], last[:-1], drawn[3][1:, droppable]]).T)
    assert np.abs(together - np.eye(15)).max() < 0.04


def test_nothing_is_dropped_at_first(architecture):
    assert all((scales == 1).all() for scales in draw(architecture(), 0.9, 0.0, 500))


def test_draws_follow_the_seed(architecture):
    found = architecture()
    first, again, other = (draw(found, 0.9, 1, 50, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first[1] != other[1]).any()


def trained(net, shape=(12, 1, 8, 8), progress=1.0, seed=0):
    """Logits and gradients of a step."""
    graph = TrainGraph(net, cross_entropy, shape, shape[:1], [mx.cpu()])
    graph.set_progress(progress)
    mx.random.seed(seed)
    generator = np.random.RandomState(0)
    data = generator.randn(*shape).astype(np.float32)
    (outputs,) = graph.step("all", data, generator.randint(0, 3, shape[0]).astype(np.float32))
    graph.wait()
    learned = {n: p for n, p in net.collect_params().items() if p.grad_req != "null"}
    arrays = {name: parameter.grad().asnumpy() for name, parameter in learned.items()}
    return {"logits": outputs.answers.asnumpy(), **arrays}


@pytest.fixture
def dropping(randomised):
    """`dropping(found, rate)`: a network with drop path, and the parameters of `randomised`."""

    def build(found, rate=0.8):
        net = get_model("dsonas", found, drop_path=rate)
        net.initialize()
        for name, parameter in randomised(found).collect_params().items():
            net.collect_params()[name].set_data(parameter.data())
        return net

    return build


def close(ours, theirs, tolerance):
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_allclose(
            ours[name], array, rtol=0, atol=tolerance * np.abs(array).max() + 1e-6, err_msg=name
        )


def oracle(block, x, scales):
    """A block of `BLOCK` from its equations: each connection times its scale of each sample."""
    p = {name[len(block.prefix) :]: q.data() for name, q in block.collect_params().items()}
    s = [mx.nd.array(column).reshape((-1, 1, 1, 1)) for column in scales.T]

    def normalised(y, name):
        mean = y.mean(axis=(0, 2, 3), keepdims=True)
        variance = ((y - mean) ** 2).mean(axis=(0, 2, 3), keepdims=True)
        gamma, beta = (p[f"{name}_{part}"].reshape((1, -1, 1, 1)) for part in ("gamma", "beta"))
        return mx.nd.relu((y - mean) / mx.nd.sqrt(variance + 2e-5) * gamma + beta)

    def separable(y, name):
        options = {"num_filter": 4, "no_bias": True}
        depthwise, pointwise = p[f"{name}_depthwise_weight"], p[f"{name}_pointwise_weight"]
        y = mx.nd.Convolution(y, depthwise, kernel=(3, 3), pad=(1, 1), num_group=4, **options)
        y = mx.nd.Convolution(y, pointwise, kernel=(1, 1), **options)
        return normalised(y, f"{name}_bn")

    def maximum(y, name):
        pooled = mx.nd.Pooling(y, kernel=(3, 3), pad=(1, 1), pool_type="max")
        return normalised(pooled, f"{name}_bn")

    first, second = separable(x, "level1_sep3"), maximum(x, "level1_max")
    third = separable(x * s[0], "level2_sep3")
    fourth = maximum(first * s[1] + second * s[2], "level2_max")
    stacked = mx.nd.concat(first * s[3], third * s[4], fourth * s[5], dim=1)
    y = mx.nd.Convolution(stacked, p["output_weight"], kernel=(1, 1), num_filter=4, no_bias=True)
    return normalised(y, "output_bn") + x


def test_a_block_scales_each_connection_of_each_sample(architecture):
    block = Block(architecture(), 0, 4, False, "none", prefix="block_")
    block.initialize(mx.init.Normal(0.5))
    generator = np.random.RandomState(0)
    x = mx.nd.array(generator.randn(5, 4, 6, 7))
    scales = generator.choice([0, 1.25], (5, 6))
    scales[:, 0] = 1  # never dropped
    with mx.autograd.train_mode():
        ours = block(x, None, mx.nd.array(scales))
    np.testing.assert_allclose(
        ours.asnumpy(), oracle(block, x, scales).asnumpy(), rtol=1e-4, atol=1e-4
    )


def test_both_forms_of_a_block_drop_the_same(
    architecture, dropping, randomised, monkeypatch, operators
):
    """The same draws, outputs and gradients, which are not those without."""
    found = architecture()
    ours = trained(dropping(found), seed=1)
    without = trained(randomised(found))
    assert np.abs(ours["logits"] - without["logits"]).max() > 0.05
    monkeypatch.setattr("dsonas_mx.engine.graph.native.load", lambda: False)
    close(ours, trained(dropping(found), seed=1), 20 * operators)


def test_it_starts_as_training_without(architecture, dropping, randomised, operators):
    """At no progress all scales are one."""
    found = architecture()
    ours = trained(dropping(found), progress=0.0)
    close(ours, trained(randomised(found)), 20 * operators)


def test_it_acts_in_training_alone(architecture, dropping, randomised, loader):
    """Not in a test, nor in a call, nor in what is exported."""
    found = architecture()
    net, without = dropping(found), randomised(found)
    net.collect_params()[PROGRESS].set_data(mx.nd.ones(1))
    data = loader(20, 8, shuffle=False, drop_last=False)
    assert evaluate(net, data, [mx.cpu()]) == evaluate(without, data, [mx.cpu()])
    x = mx.nd.array(np.random.RandomState(0).randn(3, 1, 8, 8))
    np.testing.assert_array_equal(net(x).asnumpy(), without(x).asnumpy())
    symbol = net(mx.sym.Variable("data"))
    assert symbol.list_arguments() == without(mx.sym.Variable("data")).list_arguments()
    assert "random" not in symbol.tojson()
    assert PROGRESS not in without.collect_params()


def test_fit_tells_the_progress(architecture, loader, plain):
    net = get_model("dsonas", architecture(), drop_path=0.5)
    net.initialize()
    test_data = loader(20, 8, 1, shuffle=False, drop_last=False)
    options = FitOptions(num_epochs=4, learning_rate=0.1, final_learning_rate=0.1)
    fit = Fit(net, train_data=loader(16, 8), test_data=test_data, options=options)
    progress = net.collect_params()[PROGRESS]
    seen = []
    fit.run(lambda epoch: seen.append(progress.data().asscalar()))
    assert seen == [0, 0.25, 0.5, 0.75]
    assert progress not in fit.trainers["all"].parameters


@pytest.mark.parametrize(
    "options, message",
    [
        ({"drop_path": 1}, r"drop_path must be in \[0, 1\), got 1"),
        ({"drop_path": -0.1}, r"drop_path must be in \[0, 1\), got -0.1"),
        ({"drop_path": float("nan")}, r"drop_path must be in \[0, 1\), got nan"),
        ({"drop_path": 0.5, "weighted": True}, "drop_path is for training what was found"),
    ],
)
def test_refuses(architecture, options, message):
    with pytest.raises(ValueError, match=message):
        get_model("dsonas", architecture(), **options)
