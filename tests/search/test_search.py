"""The search: whose turn it is, what each step changes, what is removed, how it ends."""

from dataclasses import replace

from dsonas_mx import Architecture
from dsonas_mx.engine.flat import is_lambda
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.search.search import Search
from dsonas_mx.space.scales import scale_names

import mxnet as mx
import numpy as np
import pytest
from small_search import FROZEN, OPTIONS, set_at_the_end, set_lambdas, values

from symbols import get_model


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
