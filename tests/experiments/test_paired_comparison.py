"""Intervals and power of paired comparisons."""

from dsonas_mx.experiments.comparison import POWER, compare, detectable

import numpy as np
import pytest
from scipy import stats


def test_the_interval_is_that_of_a_paired_test():
    first, second = [0.31, 0.30, 0.34, 0.29], [0.33, 0.31, 0.34, 0.33]
    expected = stats.ttest_rel(second, first).confidence_interval()
    found = compare([b - a for a, b in zip(first, second)])
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("differences", [[], [0.1], [0.1, 0.1]])
def test_too_few_or_no_spread(differences):
    assert compare(differences) == {"low": None, "high": None, "detectable": None}


@pytest.mark.parametrize("n, expected", [(5, 1.682), (8, 1.156)])
def test_the_detectable_difference_is_found_as_often_as_it_says(n, expected):
    """`expected` as G*Power has it; and by drawing differences and testing them."""
    shift = detectable(n, 2.0)
    assert shift == pytest.approx(2 * expected, abs=2e-3)
    drawn = np.random.RandomState(0).normal(shift, 2.0, (4000, n))
    found = stats.ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(POWER, abs=0.02)
