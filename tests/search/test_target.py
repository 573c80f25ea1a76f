"""A search that ends at a number of multiply-adds: on λ that fall as they are told to."""

from dataclasses import replace

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.cost.count import count
from dsonas_mx.search.target import FLOPsTarget
from dsonas_mx.space.scales import Scales

import numpy as np
import pytest

SHARE = SearchSpace(blocks=(1, 1, 1), width=8, image_size=28, in_channels=1)
FULL = replace(SHARE, scope="full", blocks=(1, 2, 1))


def flops(architecture):
    return count(architecture).multiply_adds


def scales(space, *values):
    return Scales(space, np.array(values, float).ravel())


def find(space, *values):
    """The architecture of these λ."""
    return Architecture.from_scales(scales(space, *values))


def pretend_to_search(space, share, speed, epochs, seed=0):
    """λ fall by `speed` times the factor an epoch, important ones less, all with noise."""
    generator = np.random.RandomState(seed)
    size = space.num_connections
    now = np.ones(size + 2 * space.num_reductions)
    importance = generator.uniform(-1, 1, size)
    complete = Architecture.complete(space)
    target = FLOPsTarget(share * flops(complete))
    present = found = complete
    for epoch in range(epochs):
        factor = target.adapt(scales(space, now), epoch / epochs)
        pull = 0.08 * importance * now[:size].clip(0.2) + 0.03 * generator.randn(size)
        alive = np.array(present.kept).ravel()
        now[:size] = np.maximum(0, now[:size] - speed * factor + pull) * alive
        found = target.settle(present, find(space, now), scales(space, now), epoch == epochs - 1)
        if target.is_met(found):
            break
        if epoch % 2:  # the network is built anew
            present = found
            now[:size] *= np.array(present.kept).ravel()
    return flops(found) / target.multiply_adds


@pytest.mark.parametrize("space", [SHARE, FULL], ids=lambda space: space.scope)
@pytest.mark.parametrize("share", [0.9, 0.6, 0.4])
@pytest.mark.parametrize("speed", [0.5, 0.05, 0.005])
def test_ends_within_five_percent_whatever_gamma_is(space, share, speed):
    assert pretend_to_search(space, share, speed, epochs=15) == pytest.approx(1, abs=0.05)


def test_threshold_is_the_scale_up_to_which_all_must_go():
    space = SearchSpace(levels=1, operations=("sep3", "max"), blocks=(1,), width=8)
    target = FLOPsTarget(flops(find(space, 0.0, 1.0)))  # what is left without sep3
    target.adapt(scales(space, 0.3, 0.7), 0.0)
    assert target.threshold == 0.3
    target.adapt(scales(space, 0.0, 0.7), 0.1)
    assert target.threshold == 0.0


def test_the_factor_follows_how_far_the_threshold_is_from_its_plan():
    space = SearchSpace(levels=1, operations=("sep3", "max"), blocks=(1,), width=8)
    target = FLOPsTarget(flops(find(space, 0.0, 1.0)))

    def adapt(threshold, progress):
        return target.adapt(scales(space, threshold, 9.0), progress)

    assert adapt(1.0, 0.0) == 1  # as planned
    assert adapt(0.5, 0.375) == 1  # half of the way to three quarters
    assert adapt(0.625, 0.375) == pytest.approx(2**0.5)
    assert adapt(0.9, 0.375) == pytest.approx(2 * 2**0.5)  # no more than twice
    assert adapt(0.0, 0.75) == pytest.approx(2 * 2**0.5)
    assert adapt(0.25, 0.9) == pytest.approx(4 * 2**0.5)  # it should be zero by now
    assert adapt(0.1, 0.0) == pytest.approx(2 * 2**0.5)  # no less than half
    for _ in range(20):
        adapt(0.1, 0.0)
    assert target.factor == 0.1  # and not so small that it could not come back


def test_what_was_largest_stays_when_too_much_is_zero():
    space = SearchSpace(levels=1, operations=("sep3", "max", "avg"), blocks=(1,), width=8)
    complete = Architecture.complete(space)
    wanted = find(space, 1.0, 0.0, 1.0)
    target = FLOPsTarget(flops(wanted))
    target.adapt(scales(space, 0.4, 0.2, 0.3), 0.5)
    now = np.zeros(3)
    assert target.settle(complete, find(space, now), scales(space, now), is_last=False) == wanted
    # Above the target, what was found is kept as it is.
    now = np.array([0.3, 0.1, 0.2])
    assert target.settle(complete, find(space, now), scales(space, now), is_last=False) == complete
    # In the last epoch the smallest go.
    assert target.settle(complete, find(space, now), scales(space, now), is_last=True) == wanted


def test_nothing_that_would_miss_the_target_goes():
    space = SearchSpace(levels=1, operations=("sep3", "sep5", "max"), blocks=(1,), width=8)
    complete = Architecture.complete(space)
    wanted = find(space, 1.0, 1.0, 0.0)
    target = FLOPsTarget(flops(wanted))
    now = np.array([0.1, 0.2, 0.3])  # sep3 is the smallest, but too much
    assert target.settle(complete, find(space, now), scales(space, now), is_last=True) == wanted


def test_a_target_between_two_networks_gets_the_nearer():
    space = SearchSpace(levels=1, operations=("sep3", "sep5"), blocks=(1,), width=8)
    complete = Architecture.complete(space)
    without = find(space, 0.0, 1.0)
    now = np.array([0.1, 0.2])
    for share, expected in ((0.3, without), (0.8, complete)):
        between = flops(without) + share * (flops(complete) - flops(without))
        target = FLOPsTarget(between)
        assert (
            target.settle(complete, find(space, now), scales(space, now), is_last=True) == expected
        )
        assert not target.is_met(expected)


@pytest.mark.parametrize("space", [SHARE, replace(FULL, blocks=(1, 1, 1))])
@pytest.mark.parametrize("share", [1e-3, 1.2])
def test_unreachable_targets_name_what_can_be_had(space, share):
    complete = Architecture.complete(space)
    fixed = 9 * 8 * 28**2 + 10 * 32  # stem and classifier
    fixed += 8**2 * 28**2 + 16**2 * 14**2 + 32**2 * 7**2  # shortcuts
    fixed += 8 * 16 * 14**2 + 16 * 32 * 7**2  # 1×1 branches of reductions
    outputs = 3 if space.scope == "share" else 1  # 1×1 convolutions of a pool
    least = fixed + outputs * 8**2 * 28**2
    message = f"has {flops(complete):,}, and at least {least:,} have to stay"
    with pytest.raises(ValueError, match=message):
        FLOPsTarget(share * flops(complete)).check(complete)


def test_bad_targets():
    for value in (0, -5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="a target must be above 0 and finite"):
            FLOPsTarget(value)
