"""A search whose γ a budget or a target sets."""

from dataclasses import replace

from dsonas_mx import Architecture
from dsonas_mx.cost.count import count
from dsonas_mx.search.budget import Budget
from dsonas_mx.search.target import FLOPsTarget
from dsonas_mx.space.scales import scale_names

import numpy as np
import pytest
from small_search import FROZEN, OPTIONS, named, set_at_the_end


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
