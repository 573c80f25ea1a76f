"""The cosine with warm restarts (Loshchilov and Hutter 2017)."""

import math

from dsonas_mx.training.schedule import cosine, linear

import pytest


def test_one_period():
    rates = [cosine(epoch, 0.5, 0.1, 4) for epoch in range(4)]
    half = 0.2 * math.cos(math.pi / 4)
    assert rates == pytest.approx([0.5, 0.3 + half, 0.3, 0.3 - half])


def test_periods_follow_each_other():
    """T0 = 3 and T_mul = 2: periods of 3, 6 and 12 epochs, each from the top."""
    rates = [cosine(epoch, 0.05, 0.001, 3, 2) for epoch in range(21)]
    starts = [epoch for epoch, rate in enumerate(rates) if rate == 0.05]
    assert starts == [0, 3, 9]
    for start, length in ((0, 3), (3, 6), (9, 12)):
        for step in range(length):
            expected = 0.001 + 0.049 * (1 + math.cos(math.pi * step / length)) / 2
            assert rates[start + step] == pytest.approx(expected, rel=1e-12)


def test_the_paper_ends_with_a_period():
    """Six periods from T0 = 10 with T_mul = 2 are 630 epochs."""
    assert cosine(630, 0.05, 0.001, 10, 2) == 0.05
    assert cosine(629, 0.05, 0.001, 10, 2) == pytest.approx(0.001, abs=2e-6)
    assert min(cosine(epoch, 0.05, 0.001, 10, 2) for epoch in range(630)) > 0.001


@pytest.mark.parametrize("period, factor", [(0, 1), (3, 0), (-1, 2)])
def test_refuses(period, factor):
    with pytest.raises(ValueError, match=f"at least 1, got {period} and {factor}"):
        cosine(0, 1.0, 0.0, period, factor)


def test_linear():
    assert [linear(epoch, 0.5, 0.0, 5) for epoch in range(5)] == pytest.approx(
        [0.5, 0.4, 0.3, 0.2, 0.1]
    )
