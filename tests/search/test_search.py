"""The search: whose turn it is, what each step changes, what is removed, how it ends."""

from dataclasses import replace

from dsonas_mx import Architecture
from dsonas_mx.cost.count import count
from dsonas_mx.engine.flat import is_lambda
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.engine.setup import Setup, in_silence
from dsonas_mx.search.budget import Budget
from dsonas_mx.search.options import SearchOptions
from dsonas_mx.search.search import Search
from dsonas_mx.search.target import FLOPsTarget
from dsonas_mx.space.scales import scale_names

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model

OPTIONS = SearchOptions(
    pretrain_epochs=0,
    num_epochs=2,
    split=(1, 1),
    shrink_every=1,
    patience=9,
    learning_rate=0.05,
    gamma=0.01,
)
# λ then changes by 1e-5 a step, and what is zero stays so: a clipped gradient is below γ.
FROZEN = replace(OPTIONS, learning_rate=1e-6, gamma=10.0, momentum=0.0, num_epochs=9)


@pytest.fixture
def search(tiny_space, loader, plain):
    """`search(options, …)`: a search with so many batches of weights and of λ."""

    def build(
        options=OPTIONS,
        batches=(3, 3),
        contexts=None,
        seed=0,
        scope="share",
        batch_size=8,
        budget=None,
        target=None,
        progress=in_silence,
        **network,
    ):
        space = tiny_space(scope=scope)
        mx.random.seed(seed)
        weights, lambdas = (
            loader(batch_size * number, batch_size, seed, stream=stream)
            for stream, number in enumerate(batches)
        )
        return Search(
            lambda architecture: get_model("dsonas", architecture, weighted=True, **network),
            Architecture.complete(space, {"seed": seed}),
            weight_data=weights,
            lambda_data=lambdas if options.split else None,
            options=options,
            setup=Setup(contexts or [mx.cpu()], progress=progress),
            budget=budget,
            target=target,
        )

    return build


@pytest.fixture
def steps(monkeypatch):
    """The kinds of the steps that all searches take, as they are taken."""
    kinds = []
    step = TrainGraph.step

    def noted(self, gradients, data, label, seeds):
        kinds.append(gradients)
        return step(self, gradients, data, label, seeds)

    monkeypatch.setattr(TrainGraph, "step", noted)
    return kinds


def values(search, device=0):
    """Every parameter, as it is on a device."""
    parameters = search.net.collect_params().items()
    return {name: p.list_data()[device].asnumpy() for name, p in parameters}


def named(search, parameter):
    """The names, as in `scales`, of the scales that a parameter holds."""
    names = scale_names(search.architecture.space)
    return [names[part] for part in search.net.packed[parameter][1]]


def set_lambdas(search, changes):
    """Set scales by the names that `scales` gives them."""
    for name in search.net.lambda_names:
        parameter = search.net.collect_params()[name]
        array = parameter.data(parameter.list_ctx()[0]).asnumpy()
        for position, full_name in enumerate(named(search, name)):
            array[position] = changes.get(full_name, array[position])
        parameter.set_data(mx.nd.array(array))


def set_at_the_end(search, changes):
    """Set scales between the last step of an epoch and what follows from it: {epoch: scales}."""

    def change():
        if search.position == search.steps_of(search.epoch):
            set_lambdas(search, changes.get(search.epoch + 1, {}))

    search.after_step = change


# Turns


@pytest.mark.parametrize(
    "split, batches, expected",
    [
        ((4, 1), (9, 2), "wwwwl wwwwl"),
        ((4, 1), (8, 5), "wwwwl wwwwl"),
        ((4, 1), (20, 1), "wwwwl"),
        ((1, 1), (3, 5), "wl wl wl"),
        ((1, 1), (5, 2), "wl wl"),
        ((2, 3), (4, 6), "wwlll wwlll"),
        (None, (3, 1), "aaa"),
    ],
)
def test_weights_and_lambdas_take_turns(search, steps, split, batches, expected):
    turns = search(replace(OPTIONS, split=split, gamma=0), batches)
    epoch = turns.step_epoch()
    assert "".join(kind[0] for kind in steps) == expected.replace(" ", "")
    assert turns.steps_per_epoch == len(steps)
    assert (epoch.lambdas is None) == (split is None)


def test_an_epoch_without_a_step_is_refused(search):
    with pytest.raises(ValueError, match="split 4:1 needs .* got 3:2: use a smaller batch size"):
        search(replace(OPTIONS, split=(4, 1)), (3, 2))


def test_pretraining_takes_all_weight_batches_and_leaves_lambda_at_one(search, steps):
    pretraining = search(replace(OPTIONS, pretrain_epochs=2, num_epochs=1), (4, 2))
    for number in range(2):
        epoch = pretraining.step_epoch()
        assert (epoch.epoch, epoch.phase, epoch.lambdas) == (number + 1, "pretrain", None)
        assert set(epoch.scales.values()) == {1.0}
        assert steps == ["weights"] * 4 * (number + 1)
    epoch = pretraining.step_epoch()
    assert (epoch.epoch, epoch.phase) == (3, "search")
    assert 1.0 not in epoch.scales.values()
    assert pretraining.finished


@pytest.mark.parametrize("split", [(2, 1), None])
def test_what_each_step_changes(search, monkeypatch, split):
    running = search(replace(OPTIONS, split=split), (4, 2))
    seen = []
    step = TrainGraph.step

    def noted(self, gradients, data, label, seeds):
        seen.append((gradients, values(running)))
        return step(self, gradients, data, label, seeds)

    monkeypatch.setattr(TrainGraph, "step", noted)
    running.step_epoch()
    seen.append(("", values(running)))
    for (kind, before), (_, after) in zip(seen, seen[1:]):
        for name, parameter in running.net.collect_params().items():
            changed = (before[name] != after[name]).any()
            if "running" in name:
                continue
            if parameter.grad_req == "null":
                assert not changed
            elif is_lambda(parameter):
                assert changed == (kind != "weights"), (kind, name)
            else:
                assert changed == (kind != "lambdas"), (kind, name)


def test_the_score_is_the_mean_of_the_part(search, steps, monkeypatch):
    """Losses of the steps of each kind, averaged over its samples."""
    running = search(replace(OPTIONS, split=(2, 1)), (4, 2))
    losses = {"weights": [], "lambdas": []}
    step = TrainGraph.step

    def noted(self, gradients, data, label, seeds):
        (output,) = outputs = step(self, gradients, data, label, seeds)
        losses[gradients].append(output.loss.asnumpy())
        return outputs

    monkeypatch.setattr(TrainGraph, "step", noted)
    epoch = running.step_epoch()
    for kind, score in (("weights", epoch.weights), ("lambdas", epoch.lambdas)):
        assert score.loss == pytest.approx(np.concatenate(losses[kind]).mean(), rel=1e-5)
        assert 0 <= score.accuracy <= 1


# Removal


@pytest.mark.parametrize("scope", ["share", "full"])
def test_what_is_removed_stays_removed(search, scope):
    options = replace(OPTIONS, gamma=0.001, num_epochs=6, patience=6, shrink_every=2)
    removing = search(options, scope=scope)
    total = removing.architecture.num_connections
    owner = "" if scope == "share" else "stage2.block1:"
    zeros = {
        2: dict.fromkeys([f"{owner}1.max->2.sep3", f"{owner}1.sep3->output"], 0.0),
        4: {f"{owner}2.max->output": 0.0, "reduction1.3x3": 0.0},
    }
    set_at_the_end(removing, zeros)
    removed = set()
    for number in range(1, 7):
        epoch = removing.step_epoch()
        assert not any(epoch.scales[name] for name in removed)
        assert all(value >= 0 for value in epoch.scales.values())
        assert epoch.connections == removing.architecture.num_connections
        removed |= set(zeros.get(number, {}))
        if number % 2 == 0:  # permanent now
            present = removing.net.architecture
            assert present == removing.architecture
            rebuilt = get_model("dsonas", present, weighted=True).collect_params()
            actual = removing.net.collect_params()
            assert {n: p.shape for n, p in actual.items()} == {
                n: p.shape for n, p in rebuilt.items()
            }
    assert 0 < epoch.connections <= total - 3 - 3  # 2.max dangles, and its three sources
    assert removing.architecture.reductions == ((True, False),)
    assert removing.architecture.origin == {"seed": 0}


def test_scales_are_named_by_connection(search):
    """λ set by hand comes back under its name, before and after a removal."""
    frozen = search(FROZEN)
    names = scale_names(frozen.architecture.space)
    space = frozen.architecture.space
    assert names == (*[edge.name for edge in space.connections], "reduction1.1x1", "reduction1.3x3")
    wanted = {name: 0.5 + 0.1 * k for k, name in enumerate(names)}
    gone = ("1.max->2.sep3", "2.sep3->output", "reduction1.1x1")
    set_lambdas(frozen, {**wanted, **dict.fromkeys(gone, 0.0)})
    for _ in range(2):
        scales = frozen.step_epoch().scales
    assert tuple(scales) == names
    dangling = {edge.name for edge in space.connections if edge.target == "2.sep3"}
    for name, value in wanted.items():
        expected = 0 if name in gone or name in dangling else value
        assert scales[name] == pytest.approx(expected, abs=1e-3), name
    full = Architecture.complete(replace(space, scope="full"))
    assert scale_names(full.space)[0] == f"stage1.block1:{space.connections[0].name}"
    assert len(scale_names(full.space)) == 2 * len(space.connections) + 2


def test_removal_waits_for_its_epoch(search):
    frozen = search(replace(FROZEN, shrink_every=3))
    complete = frozen.net
    set_lambdas(frozen, {"2.sep3->output": 0.0})
    for _ in range(2):
        frozen.step_epoch()
        assert frozen.net is complete
        assert frozen.architecture.num_connections < len(scale_names(frozen.architecture.space)) - 2
    frozen.step_epoch()
    assert frozen.net is not complete
    same = frozen.net
    for _ in range(3):
        frozen.step_epoch()
    assert frozen.net is same  # nothing else went


def test_momentum_survives_a_removal(search):
    running = search(OPTIONS, (3, 3))
    set_at_the_end(running, {1: {"1.sep3->output": 0.0}})
    complete = running.net
    running.step_epoch()
    assert running.net is not complete
    for kind, trainer in running.trainers.items():
        states = trainer.states(0)
        assert len(states) == len(trainer.parameters), kind
        assert all(state.asnumpy().any() for (state,) in states.values())
        assert trainer.updates(0) == dict.fromkeys(states, 3)


def test_a_reduction_keeps_its_larger_lambda(search):
    contexts = [mx.cpu(0), mx.cpu(1)]
    frozen = search(replace(FROZEN, shrink_every=1), contexts=contexts)
    set_lambdas(frozen, {"reduction1.1x1": 1e-6, "reduction1.3x3": 2e-6})
    scales = frozen.step_epoch().scales
    assert scales["reduction1.1x1"] == 0
    assert scales["reduction1.3x3"] == pytest.approx(2e-6)
    assert frozen.architecture.reductions == ((False, True),)
    assert frozen.net.architecture.reductions == ((False, True),)
    set_lambdas(frozen, {"reduction1.3x3": 1e-6})  # the last one that is left
    assert frozen.step_epoch().scales["reduction1.3x3"] == pytest.approx(1e-6)
    for array in frozen.net.collect_params()["reduction1_lambdas"].list_data():
        assert array.asnumpy() == pytest.approx([1e-6])


# The end


def test_converges_without_change(search):
    frozen = search(replace(FROZEN, patience=3))
    for _ in range(2):
        frozen.step_epoch()
    set_lambdas(frozen, {"1.sep3->output": 0.0})
    frozen.step_epoch()  # a change: the count starts again
    for _ in range(2):
        frozen.step_epoch()
        assert not frozen.finished
    frozen.step_epoch()
    assert frozen.finished
    assert frozen.epoch == 6


def test_ends_with_its_epochs(search):
    recorded = []
    running = search(replace(OPTIONS, pretrain_epochs=1, num_epochs=2, gamma=0))
    assert running.run(recorded.append) is running.architecture
    assert [(epoch.epoch, epoch.phase) for epoch in recorded] == [
        (1, "pretrain"),
        (2, "search"),
        (3, "search"),
    ]


def test_the_bar_is_told_how_many_steps_come_later(search):
    told = []
    running = search(
        replace(OPTIONS, pretrain_epochs=2, num_epochs=2, gamma=0),
        (4, 2),
        progress=lambda steps, *about: told.append(about) or steps,
    )
    running.run()
    steps = running.steps_per_epoch
    assert told == [
        (4, "pretrain 1 of 4", 4 + 2 * steps),
        (4, "pretrain 2 of 4", 2 * steps),
        (steps, "search 3 of 4", steps),
        (steps, "search 4 of 4", 0),
    ]


def test_a_gamma_that_prunes_everything(search):
    running = search(replace(OPTIONS, pretrain_epochs=1, gamma=100.0))
    message = "^epoch 2 removed every connection: use a gamma below 100.0$"
    with pytest.raises(ArithmeticError, match=message):
        running.run()


def test_a_later_epoch_that_removes_everything_ends_it_with_what_was_left(search):
    """As the state says, too: a search that goes on from there is at its end."""
    names = scale_names(search().architecture.space)
    running, again = search(FROZEN), search(FROZEN)
    set_at_the_end(running, {1: {"1.max->output": 0.0}, 2: dict.fromkeys(names, 0.0)})
    left = running.step_epoch().connections
    assert not running.emptied
    last = running.step_epoch()
    assert running.finished and running.emptied and running.epoch < running.num_epochs
    assert last.connections == running.outcome().num_connections == left > 0
    again.restore(running.state())
    assert again.finished and again.emptied and again.outcome() == running.outcome()


def test_a_loss_that_is_not_finite(search):
    running = search(replace(OPTIONS, learning_rate=1e30, gamma=0))
    message = (
        "^the loss is (nan|inf) in epoch 1, from step 2 of 6 on: use a learning rate below "
        "1e[+]30; parameters not finite by now: stem_conv_weight, .* and [0-9]+ others$"
    )
    with pytest.raises(ArithmeticError, match=message):
        running.run()


def test_a_lambda_that_is_not_finite(search):
    """The last step of an epoch makes it: no loss has seen it."""
    running = search(FROZEN)
    set_at_the_end(running, {1: {"1.sep3->output": np.inf}})
    with pytest.raises(ArithmeticError, match="^λ is not finite after epoch 1: .*: lambdas$"):
        running.run()


# Seeds, devices, BN


def test_the_seed_decides_everything(search):
    options = replace(OPTIONS, pretrain_epochs=1, num_epochs=3)
    first, again, other = (search(options, seed=seed) for seed in (1, 1, 2))
    epochs = [[], [], []]
    for running, record in zip((first, again, other), epochs):
        set_at_the_end(running, {2: {"1.sep3->output": 0.0}})
        running.run(record.append)
    assert epochs[0] == epochs[1]  # λ, losses, accuracies, to the last bit
    assert epochs[0][-1].connections < first.architecture.space.num_connections
    expected = values(first)
    for name, value in values(again).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert epochs[0][-1].scales != epochs[2][-1].scales


@pytest.mark.parametrize("split", [(1, 1), None])
def test_two_devices_agree(search, split):
    options = replace(OPTIONS, pretrain_epochs=1, num_epochs=3, split=split)
    running = search(options, (3, 3), [mx.cpu(0), mx.cpu(1)])
    set_at_the_end(running, {2: {"1.sep3->output": 0.0}})
    initial = running.architecture.num_connections
    running.run()
    assert running.net.architecture.num_connections < initial
    first, second = values(running, 0), values(running, 1)
    for name in first:
        if "running" not in name:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_each_device_has_moving_statistics_of_its_own(search):
    """From the first update on, and after a removal."""
    running = search(FROZEN, (1, 1), [mx.cpu(0), mx.cpu(1)])
    for _ in range(2):
        set_lambdas(running, {"2.max->output": 0.0})
        running.step_epoch()
        first, second = values(running, 0), values(running, 1)
        for name in first:
            if "running" in name:
                assert (first[name] != second[name]).any(), name


@pytest.mark.parametrize("fix_gamma", ["all", "operations", "none"])
def test_fixed_gammas_stay_one(search, fix_gamma):
    options = replace(OPTIONS, pretrain_epochs=1, num_epochs=1, gamma=0)
    running = search(options, fix_gamma=fix_gamma)
    running.run()
    gammas = {n: value for n, value in values(running).items() if n.endswith("gamma")}
    learned = {name for name, value in gammas.items() if (value != 1).any()}
    outside = {name for name in gammas if name.startswith(("stem", "final")) or "output" in name}
    expected = {"all": set(), "operations": outside, "none": set(gammas)}[fix_gamma]
    assert learned == expected
    assert outside < set(gammas)


# Options


def test_refuses_data_without_a_split(search, loader, tiny_space):
    with pytest.raises(ValueError, match="lambda_data must be given if, and only if, there is"):
        Search(None, Architecture.complete(tiny_space()), weight_data=loader(8, 8), options=OPTIONS)


# Budgets


class Numbered(Budget):
    """γ of each connection is its number, in hundreds the number of times it was asked for."""

    def __init__(self, gamma):
        super().__init__(gamma)
        self.asked = []

    def gammas(self, architecture):
        self.asked.append(architecture)
        size = len(architecture.kept) * len(architecture.kept[0])
        numbers = np.arange(size) + 100.0 * len(self.asked)
        return numbers.reshape(np.shape(architecture.kept))


@pytest.mark.parametrize("scope", ["share", "full"])
def test_gamma_is_that_of_the_budget_in_each_epoch_of_search(search, scope):
    budget = Numbered(10.0)
    running = search(replace(FROZEN, pretrain_epochs=1, shrink_every=2), scope=scope, budget=budget)
    names = scale_names(running.architecture.space)
    connections = [name for name in names if "->" in name]
    plain = dict.fromkeys(names, 10.0)
    assert running.gammas() == plain and not budget.asked
    running.step_epoch()
    assert not budget.asked  # not for pre-training
    gone = {connections[-1]: 0.0, connections[-2]: 0.0}
    set_at_the_end(running, {3: gone})
    for epoch in (1, 2, 3):
        left = [n for parameter in running.net.lambda_names for n in named(running, parameter)]
        at_start = running.architecture
        running.step_epoch()
        assert budget.asked[-1] is at_start and len(budget.asked) == epoch
        expected = {name: i + 100.0 * epoch for i, name in enumerate(connections)}
        in_force = {name: expected.get(name, 10.0) if name in left else 0.0 for name in names}
        if epoch == 2:  # a smaller network was built since
            assert set(running.gammas().values()) == {10.0, 0.0}
            continue
        assert running.gammas() == in_force
        assert (0.0 in in_force.values()) == (epoch == 3)


def test_gamma_reaches_the_scales(search):
    """Without gradients and momentum a step takes ηγ off each λ."""

    class Two(Budget):
        def gammas(self, architecture):
            gammas = np.zeros(np.shape(architecture.kept))
            gammas[0, [1, 3]] = 2.0, 5.0
            return gammas

    running = search(FROZEN, batches=(1, 1), budget=Two(10.0))
    before = running.scales()
    running.step_epoch()
    rate = FROZEN.learning_rate
    drop = np.array(list(before.values())) - np.array(list(running.scales().values()))
    names = list(before)
    expected = {names[1]: 2.0, names[3]: 5.0, "reduction1.1x1": 10.0, "reduction1.3x3": 10.0}
    # A gradient is at most 2, of which the rate makes 2e-6.
    np.testing.assert_allclose(drop, [rate * expected.get(n, 0.0) for n in names], atol=2.2e-6)


def test_a_search_ends_at_its_target(search):
    options = replace(OPTIONS, num_epochs=8, patience=1)
    complete = search(options, scope="full").architecture
    flops = count(complete).multiply_adds
    target = FLOPsTarget(0.75 * flops)
    running = search(options, batches=(6, 6), scope="full", target=target)
    found = running.run()
    assert running.finished and target.is_met(found)
    assert 0.7 * flops < count(found).multiply_adds < 0.8 * flops


def test_a_target_changes_gamma(search):
    options = replace(OPTIONS, gamma=1e-9, num_epochs=8, patience=1)
    space = search(options).architecture.space
    target = FLOPsTarget(0.5 * count(Architecture.complete(space)).multiply_adds)
    running = search(options, target=target)
    running.step_epoch()
    running.step_epoch()  # patience is over, the target is not met
    assert not running.finished
    connections = [gamma for name, gamma in running.gammas().items() if "->" in name]
    assert set(connections) == {1e-9 * target.factor} and target.factor > 1
    assert running.gammas()["reduction1.1x1"] == 1e-9


def test_a_target_that_cannot_be_reached(search):
    with pytest.raises(ValueError, match="a search for 1 multiply-adds cannot end there"):
        search(target=FLOPsTarget(1))


def test_a_budget_of_another_gamma_is_refused(search):
    with pytest.raises(ValueError, match=r"^gamma is 0.01, but that of the budget 0.5$"):
        search(budget=Budget(0.5))
