"""γ by Eq. 17-19, on cases worked by hand."""

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.search import budget
from dsonas_mx.search.budget import (
    AdaptiveFLOPs,
    AdaptiveLatency,
    AdaptiveMAC,
    Budget,
    make_budget,
)

import numpy as np
import pytest

# Two levels of sep3 and max. By block: 4 channels, 64 pixels; then 8 channels, 16 pixels.
SMALL = {"levels": 2, "operations": ("sep3", "max"), "width": 4, "image_size": 8}
SHARE = SearchSpace(blocks=(1, 1), **SMALL)
FULL = SearchSpace(scope="full", blocks=(1, 1), **SMALL)
NAMES = [edge.name for edge in SHARE.connections]
POINTWISE, DEPTHWISE = (16 * 64, 64 * 16), (9 * 4 * 64, 9 * 8 * 16)  # multiply-adds by block
SEPARABLE = [depth + point for depth, point in zip(DEPTHWISE, POINTWISE)]
BLOCK = [2 * sep + 4 * out for sep, out in zip(SEPARABLE, POINTWISE)]  # the complete one


def architecture(space, *kept):
    """What keeps these connections, by structure."""
    masks = [[name in structure for name in NAMES] for structure in kept]
    return Architecture(space, masks, ((True, True),))


ONE_SEP = {"1.sep3->output"}
POOLS = {"1.max->2.max", "2.max->output"}


def test_constant():
    gammas = Budget(0.25).gammas(Architecture.complete(FULL))
    assert gammas.shape == (2, len(NAMES)) and (gammas == 0.25).all()


def test_flops_of_each_block_in_the_full_scope():
    gammas = AdaptiveFLOPs(0.5).gammas(architecture(FULL, ONE_SEP, POOLS))
    expected = [
        0.5 * (SEPARABLE[0] + POINTWISE[0]) / BLOCK[0],
        0.5 * POINTWISE[1] / BLOCK[1],  # pools have no multiply-adds, their output has
    ]
    np.testing.assert_allclose(gammas, np.repeat([[e] for e in expected], len(NAMES), axis=1))


def test_flops_start_at_gamma_and_end_at_zero():
    for space in (SHARE, FULL):
        np.testing.assert_allclose(AdaptiveFLOPs(3.0).gammas(Architecture.complete(space)), 3.0)
    gammas = AdaptiveFLOPs(3.0).gammas(architecture(FULL, ONE_SEP, set()))
    assert (gammas[1] == 0).all() and (gammas[0] > 0).all()


def test_flops_of_the_one_structure_in_the_share_scope():
    gammas = AdaptiveFLOPs(1.0).gammas(architecture(SHARE, ONE_SEP))
    expected = (sum(SEPARABLE) + sum(POINTWISE)) / sum(BLOCK)
    np.testing.assert_allclose(gammas, np.full((1, len(NAMES)), expected))


def test_mac_of_the_operation_that_a_connection_enters():
    # Maps of 4·64 = 256 numbers, then of 8·16 = 128.
    separable = [4 * 256 + 9 * 4 + 16, 4 * 128 + 9 * 8 + 64]
    pool = [2 * 256, 2 * 128]
    output = [2 * 256 + 16, 2 * 128 + 64]

    def expected(sep3, maximum, out):
        of = {"2.sep3": sep3, "2.max": maximum, "output": out}
        return [of[edge.target] for edge in SHARE.connections]

    gammas = AdaptiveMAC(2.0).gammas(Architecture.complete(SHARE))
    row = expected(1, sum(pool) / sum(separable), sum(output) / sum(separable))
    np.testing.assert_allclose(gammas, 2 * np.array([row]))
    gammas = AdaptiveMAC(2.0).gammas(Architecture.complete(FULL))
    rows = [expected(*(mac[block] for mac in (separable, pool, output))) for block in (0, 1)]
    np.testing.assert_allclose(gammas, 2 * np.array(rows) / separable[0])


def test_mac_is_that_of_the_release():
    """Its constants are those of 96 channels and 16×16 pixels, the second stage of CIFAR."""
    space = SearchSpace(blocks=(1,), width=96, image_size=16)
    gammas = AdaptiveMAC(1.0).gammas(Architecture.complete(space))[0]
    by_target = {e.target: gamma for e, gamma in zip(space.connections, gammas)}
    found = [by_target[f"2.{name}"] for name in ("sep3", "sep5", "max", "avg")]
    np.testing.assert_allclose(found, [0.986, 1, 0.447, 0.447], atol=5e-4)


def test_mac_of_one_level_is_compared_with_its_operations():
    """Their connections are to the output alone, whose convolution is not the largest."""
    space = SearchSpace(levels=1, operations=("sep3",), blocks=(1,), width=4, image_size=8)
    gammas = AdaptiveMAC(1.0).gammas(Architecture.complete(space))
    np.testing.assert_allclose(gammas, [[(512 + 16) / (4 * 256 + 9 * 4 + 16)]])


def latency(
    saved, gamma=1.0, gamma0=0.25, kept=("1.sep3->output", "1.max->2.max", "2.max->output")
):
    """γ of the kept connections, which save so many ms, by name."""
    found = architecture(SHARE, set(kept))
    row = np.array([[saved.get(name, 0.0) for name in NAMES]])
    return dict(zip(NAMES, AdaptiveLatency(lambda a: row, gamma, gamma0).gammas(found)[0]))


def test_latency_penalises_most_what_saves_most():
    gammas = latency({"1.sep3->output": 4.0, "1.max->2.max": 2.0, "2.max->output": 3.0})
    assert gammas["1.sep3->output"] == 1.0
    assert gammas["1.max->2.max"] == 0.25  # the smallest of the live ones
    assert gammas["2.max->output"] == pytest.approx(0.25 + 0.75 * 0.5)
    assert gammas["input->2.max"] == 0.25  # dead


def test_latency_within_the_noise_has_no_penalty():
    gammas = latency({"1.sep3->output": 4.0, "1.max->2.max": -1.0})
    assert gammas["1.max->2.max"] == gammas["2.max->output"] == 0.25
    for saved in ({}, dict.fromkeys(NAMES, 2.0), dict.fromkeys(NAMES, -2.0)):
        assert set(latency(saved).values()) == {0.25}


def test_latency_of_nothing_left():
    assert set(latency({}, kept=()).values()) == {0.25}


def test_latency_defaults_are_half_and_half():
    saved = np.zeros((1, len(NAMES)))
    saved[0, 0] = 7
    gammas = AdaptiveLatency(lambda a: saved, 0.5).gammas(Architecture.complete(SHARE))
    np.testing.assert_array_equal(gammas[0], [0.5] + [0.25] * (len(NAMES) - 1))


def test_latency_is_measured_anew_for_each_architecture():
    seen = []

    def measure(found):
        seen.append(found)
        return np.zeros((1, len(NAMES)))

    adaptive = AdaptiveLatency(measure, 1.0)
    few = architecture(SHARE, ONE_SEP)
    for found in (Architecture.complete(SHARE), few):
        adaptive.gammas(found)
    assert seen == [Architecture.complete(SHARE), few]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Budget(-1), "gamma must be at least 0, got -1"),
        (lambda: AdaptiveMAC(float("nan")), "gamma must be at least 0, got nan"),
        (lambda: AdaptiveLatency(None, 1.0, 2.0), "gamma0 must be from 0 to gamma, which is 1.0"),
        (lambda: AdaptiveLatency(None, 1.0, -0.1), "gamma0 must be from 0 to gamma"),
        (lambda: make_budget("latency", 1.0), "needs a way to measure latency"),
        (lambda: make_budget("mac", 1.0, 0.5), "gamma0 is of budget latency: budget mac has none"),
        (
            lambda: make_budget("power", 1.0),
            "budget must be none, flops, mac, latency, got 'power'",
        ),
    ],
)
def test_bad_values_fail_at_once(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("saved", [np.zeros(3), np.full((1, len(NAMES)), np.nan)])
def test_a_bad_measurement_is_refused(saved):
    with pytest.raises(ValueError, match="latency must be measured"):
        AdaptiveLatency(lambda a: saved, 1.0).gammas(Architecture.complete(SHARE))


def test_budgets_by_name():
    assert [type(make_budget(name, 1.0)) for name in ("none", "flops", "mac")] == [
        Budget,
        AdaptiveFLOPs,
        AdaptiveMAC,
    ]
    adaptive = make_budget("latency", 1.0, 0.125, lambda a: np.zeros((1, len(NAMES))))
    assert (adaptive.gamma, adaptive.gamma0) == (1.0, 0.125)
    assert [budget.default_budget(scope) for scope in ("full", "share")] == ["flops", "none"]
