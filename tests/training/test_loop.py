"""A loop goes on from its state, read back from a file, with the bits of one that never stopped."""

import json
from dataclasses import replace

from dsonas_mx import Architecture
from dsonas_mx.cost.count import count
from dsonas_mx.engine.setup import Setup
from dsonas_mx.runs.checkpoint import Checkpoints, read_checkpoint
from dsonas_mx.search.apg_nag import gamma_from_state, gamma_state
from dsonas_mx.search.budget import AdaptiveFLOPs
from dsonas_mx.search.options import SearchOptions
from dsonas_mx.search.search import Search
from dsonas_mx.search.target import FLOPsTarget
from dsonas_mx.training.fit import Fit
from dsonas_mx.training.loop import Diverged
from dsonas_mx.training.options import FitOptions
from dsonas_mx.training.state import State

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model

# Pre-training, then removals after epochs 3 and 5; 3 + 4 × 6 steps, of 8 samples each.
SEARCH = SearchOptions(
    pretrain_epochs=1,
    num_epochs=4,
    shrink_every=2,
    patience=9,
    learning_rate=0.05,
    gamma=0.01,
)
FIT = FitOptions(num_epochs=3, learning_rate=0.1, final_learning_rate=0.01, period=2)
TWO = [mx.cpu(0), mx.cpu(1)]


@pytest.fixture
def searches(tiny_space, loader, plain):
    """`searches(…)`: a new search; MXNet's seed, `start`, is that of a process, not of the run."""

    def build(options=SEARCH, contexts=None, start=0, batches=(3, 3), **budget):
        mx.random.seed(start)
        weights, lambdas = (loader(8 * n, 8, stream=stream) for stream, n in enumerate(batches))
        return Search(
            lambda architecture: get_model("dsonas", architecture, weighted=True),
            Architecture.complete(tiny_space(), {"seed": 0}),
            weight_data=weights,
            lambda_data=lambdas if options.split else None,
            options=options,
            setup=Setup(contexts or [mx.cpu()]),
            **budget,
        )

    return build


@pytest.fixture
def fits(tiny_space, some_architecture, loader, plain):
    """`fits(…)`: a new training, with dropout."""

    def build(options=FIT, contexts=None, start=0, dropout=0.5, drop_path=0.0):
        mx.random.seed(start)
        net = get_model(
            "dsonas", some_architecture(tiny_space()), dropout=dropout, drop_path=drop_path
        )
        net.initialize(ctx=contexts or [mx.cpu()])
        test_data = loader(20, 8, 1, shuffle=False, drop_last=False)
        setup = Setup(contexts or [mx.cpu()])
        data = {"train_data": loader(40, 8), "test_data": test_data}
        return Fit(net, **data, options=options, setup=setup)

    return build


class Enough(Exception):
    """Ends a loop between two steps, as a signal does."""


def stop_after(loop, steps):
    """The state of a loop after so many steps of its life, and what its epochs did before."""
    epochs, count, before = [], iter(range(steps - 1)), loop.after_step

    def check():
        before()
        if next(count, None) is None:
            raise Enough

    loop.after_step = check
    with pytest.raises(Enough):
        loop.run(epochs.append)
    return loop.state(), epochs


def through_a_file(state, folder):
    checkpoints = Checkpoints(folder)
    return read_checkpoint(checkpoints.save(state))


def assert_same(first, second):
    """Two states, to the last bit."""
    assert first.values == second.values
    assert list(first.arrays) == list(second.arrays)
    for name, array in first.arrays.items():
        assert array.dtype == second.arrays[name].dtype
        assert array.tobytes() == second.arrays[name].tobytes(), name


# In pre-training, after it, in an epoch of search, before and after a removal, after a last step.
SEARCH_STEPS = [2, 3, 5, 14, 16, 19, 27]


@pytest.fixture(scope="module")
def ends():
    """By kind and devices, what the epochs of a whole loop did, and its state at the end."""
    return {}


@pytest.mark.parametrize(
    "steps, contexts",
    [*((steps, None) for steps in SEARCH_STEPS), *((steps, TWO) for steps in SEARCH_STEPS[::2])],
    ids=lambda value: value if isinstance(value, int) else "one" if value is None else "two",
)
def test_a_search_goes_on(searches, ends, tmp_path, steps, contexts):
    if ("search", str(contexts)) not in ends:
        whole, epochs = searches(contexts=contexts), []
        set_zero(whole)
        whole.run(epochs.append)
        ends["search", str(contexts)] = epochs, whole.architecture, whole.state()
    epochs, architecture, end = ends["search", str(contexts)]
    stopped = searches(contexts=contexts)
    set_zero(stopped)
    state, before = stop_after(stopped, steps)
    again, after = searches(contexts=contexts, start=9), []
    again.restore(through_a_file(state, tmp_path))
    assert_same(again.state(), state)
    set_zero(again)
    again.run(after.append)
    assert before + after == epochs
    assert_same(again.state(), end)
    assert again.architecture == architecture
    assert again.net.architecture.num_connections < again.architecture.space.num_connections - 2


def set_zero(search):
    """Let a connection's λ reach zero in the third epoch, and another's in the fifth."""

    def zero():
        position = {3: 1, 5: 2}.get(search.epoch + 1)
        if position is not None and search.position == search.steps_of(search.epoch):
            parameter = search.net.collect_params()["lambdas"]
            values = parameter.data(parameter.list_ctx()[0]).asnumpy()
            values[-position] = 0
            parameter.set_data(mx.nd.array(values))

    search.after_step = zero


def test_a_search_without_a_split_goes_on(searches, tmp_path):
    options = replace(SEARCH, split=None, num_epochs=2)
    whole = searches(options)
    whole.run()
    state, _ = stop_after(searches(options), 5)
    again = searches(options, start=9)
    again.restore(through_a_file(state, tmp_path))
    again.run()
    assert_same(again.state(), whole.state())


@pytest.mark.parametrize("contexts", [None, TWO], ids=["one device", "two devices"])
# In an epoch, after its last step, between two batches of its test, and with another rate.
@pytest.mark.parametrize("steps", [2, 5, 6, 10, 17])
def test_a_training_goes_on(fits, ends, tmp_path, steps, contexts):
    if ("training", str(contexts)) not in ends:
        whole, epochs = fits(contexts=contexts, drop_path=0.5), []
        whole.run(epochs.append)
        ends["training", str(contexts)] = epochs, whole.state()
    epochs, end = ends["training", str(contexts)]
    state, before = stop_after(fits(contexts=contexts, drop_path=0.5), steps)
    again, after = fits(contexts=contexts, start=9, drop_path=0.5), []
    again.restore(through_a_file(state, tmp_path))
    again.run(after.append)
    assert before + after == epochs
    assert_same(again.state(), end)


def test_reading_the_state_changes_nothing(searches, fits):
    for build in (searches, fits):
        undisturbed, disturbed = build(), build()
        disturbed.after_step = disturbed.state
        undisturbed.run()
        disturbed.run()
        assert_same(disturbed.state(), undisturbed.state())


def test_dropout_depends_on_the_seed_and_the_step_alone(fits, monkeypatch):
    seeds, seed = [], mx.random.seed
    training = fits(start=1)
    monkeypatch.setattr(
        mx.random, "seed", lambda number, ctx="all": seeds.append(number) or seed(number, ctx)
    )
    training.run()
    assert len(set(seeds)) == len(seeds) == 15
    assert all(0 <= number < 2**31 for number in seeds)
    first = list(seeds)
    fits(start=2)
    del seeds[:]
    fits(start=3, dropout=0.0).run()
    assert seeds == [3]  # nothing is drawn, so nothing is seeded
    training = fits(start=4)
    del seeds[:]
    training.run()
    assert seeds == first


@pytest.mark.parametrize("before, after", [(None, TWO), (TWO, None)])
def test_on_another_number_of_devices(searches, tmp_path, before, after):
    """It goes on with the same parameters, and with statistics and sums as near as can be."""
    state, _ = stop_after(searches(contexts=before), 5)
    again = searches(contexts=after, start=9)
    again.restore(through_a_file(state, tmp_path))
    changed = again.state()
    for name, array in state.arrays.items():
        if name in changed.arrays and not name.startswith("tally"):
            np.testing.assert_array_equal(changed.arrays[name], array, err_msg=name)
    for name, array in changed.arrays.items():
        if name.startswith("net.1/"):
            np.testing.assert_array_equal(array, state.arrays[name.replace("net.1", "net.0")])
    for kind in ("weights", "lambdas"):
        sums = [s.arrays[f"tally/{kind}"].sum(0)[:2] for s in (state, changed)]
        np.testing.assert_allclose(*sums, rtol=1e-6)
    assert again.run().num_connections


@pytest.mark.parametrize("kind", ["number", "arrays"])
def test_gamma_in_force_is_part_of_the_state(searches, tmp_path, kind):
    """Whoever changes γ at the start of an epoch finds it again in the middle of it."""
    generator = np.random.RandomState(0)
    stopped = searches()
    shapes = {name: stopped.net.collect_params()[name].shape for name in stopped.net.lambda_names}
    gammas = {name: generator.uniform(0, 0.1, s).astype(np.float32) for name, s in shapes.items()}
    optimizer = stopped.trainers["lambdas"].optimizer
    optimizer.gamma = 0.1 / 3 if kind == "number" else {**gammas, "reduction1_lambdas": 0.25}
    state, _ = stop_after(stopped, 8)
    again = searches(start=9)
    again.restore(through_a_file(state, tmp_path))
    assert_same(again.state(), state)
    for search in (stopped, again):
        search.after_step = lambda: None
        search.step_epoch()
    assert_same(again.state(), stopped.state())


@pytest.mark.parametrize("steps", [5, 8, 9, 15])
def test_a_target_goes_on(searches, tmp_path, tiny_space, steps):
    """Its factor and the λ it remembers are part of the state, in the middle of an epoch, too."""
    complete = count(Architecture.complete(tiny_space())).multiply_adds

    def build():
        target = FLOPsTarget(0.6 * complete)
        return searches(budget=AdaptiveFLOPs(SEARCH.gamma), target=target), target

    (whole, steered), (stopped, _), (again, target) = build(), build(), build()
    state, _ = stop_after(stopped, steps)
    again.restore(through_a_file(state, tmp_path))
    assert_same(again.state(), state)
    assert whole.run() == again.run()
    assert_same(again.state(), whole.state())
    assert target.factor == steered.factor != 1


def test_gamma_comes_back_in_each_form():
    array = np.float32([0.1, 0.2])
    for gamma in (0.1, array, {"a": 0.3, "b": array}, mx.nd.array(array)):
        values, arrays = gamma_state(gamma)
        back = gamma_from_state(json.loads(json.dumps(values)), arrays)
        assert not arrays
        if isinstance(gamma, dict):
            assert back["a"] == 0.3
            gamma, back = gamma["b"], back["b"]
        if isinstance(gamma, float):
            assert back == gamma
        else:
            np.testing.assert_array_equal(back, array)


# States that do not fit


def change(state, place, value):
    """A state in which one value is another."""
    values = dict(state.values)
    values[place] = value
    return State(values, state.arrays)


def test_refuses_what_does_not_fit(searches):
    search = searches()
    state, _ = stop_after(searches(), 5)
    other = Architecture.complete(replace(search.architecture.space, width=8))
    arrays = dict(state.arrays)
    array = arrays.pop("net.0/stem_conv_weight")
    cases = [
        (change(state, "epoch", -1), "epoch, position or rate_scale is out of range"),
        (change(state, "rate_scale", 0), "epoch, position or rate_scale is out of range"),
        (change(state, "network", other.to_json()), "another search space"),
        (State(state.values, arrays), "net.0/stem_conv_weight is missing"),
        (
            State(state.values, {**arrays, "net.0/stem_conv_weight": array[:1]}),
            r"net.0/stem_conv_weight has the shape \(1, .*\), not \(4, ",
        ),
        (State(state.values, {**state.arrays, "more": array}), "has more, which this network has"),
    ]
    for bad, message in cases:
        with pytest.raises(ValueError, match=message):
            search.restore(bad)
    for name in state.values:
        values = {key: value for key, value in state.values.items() if key != name}
        with pytest.raises(KeyError, match=name):
            searches().restore(State(values, state.arrays))


# Losses that are not finite


def test_a_state_that_is_not_finite_is_none(searches):
    """The last step made it: no loss has seen it yet."""
    search = searches()
    stop_after(search, 5)
    search.net.collect_params()["fc_bias"].set_data(mx.nd.full((3,), np.nan))
    with pytest.raises(Diverged, match="^net.0/fc_bias is not finite in epoch 2: .*: fc_bias$"):
        search.state()


def test_the_step_is_named_and_found_before_the_epoch_is_over(searches):
    """Not later than a hundred steps after it, without waiting for any."""
    search = searches(replace(SEARCH, pretrain_epochs=0), batches=(150, 150))
    steps = []

    def poison():
        steps.append(search.position)
        if search.position == 21:
            search.net.collect_params()["fc_bias"].set_data(mx.nd.full((3,), np.nan))

    search.after_step = poison
    with pytest.raises(Diverged, match="^the loss is nan in epoch 1, from step 22 of 300 on: "):
        search.step_epoch()
    assert steps[-1] < 100


def test_a_smaller_rate_is_used_and_recorded(searches, fits):
    for build in (searches, fits):
        loop = build()
        loop.rate_scale = 0.25
        epoch = loop.step_epoch()
        base = loop.options.learning_rate
        (rate,) = {trainer.learning_rate for trainer in loop.trainers.values()}
        assert epoch.learning_rate == rate == base / 4
        again = build(start=9)
        again.restore(loop.state())
        assert again.rate_scale == 0.25
    search = searches(replace(SEARCH, pretrain_epochs=0, num_epochs=1))
    search.rate_scale = 0.5
    assert search.run().origin == {"seed": 0, "rate_scale": 0.5}
