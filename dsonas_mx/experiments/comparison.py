"""A comparison of two rows of a table over the same seeds: an interval, and what it could tell."""

import math
import statistics
from typing import Dict, Optional, Sequence

from scipy import optimize, stats

CONFIDENCE = 0.95
POWER = 0.8
_ROUNDING = 1e-12  # differences that spread no more are equal


def compare(differences: Sequence[float]) -> Dict[str, Optional[float]]:
    """What paired differences say: by Student's t, two-sided.

    Returns
    -------
    dict
        ``low`` and ``high``, the interval of 95 % of the mean difference; ``detectable``, the
        smallest true difference that so many seeds of that spread find with a power of 80 %, zero
        being outside of the interval. None where there are too few or all are equal.
    """
    if len(differences) < 2 or statistics.stdev(differences) < _ROUNDING:
        return {"low": None, "high": None, "detectable": None}
    interval = stats.ttest_1samp(differences, 0.0).confidence_interval(CONFIDENCE)
    return {
        "low": float(interval.low),
        "high": float(interval.high),
        "detectable": detectable(len(differences), statistics.stdev(differences)),
    }


def detectable(n: int, deviation: float) -> float:
    """The smallest mean of n differences of that standard deviation that a t-test mostly finds."""
    bound = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)

    def missing(shift: float) -> float:
        return float(stats.nct.sf(bound, n - 1, shift)) - POWER

    shift = optimize.brentq(missing, 0.0, 2 * bound + 4)
    return float(shift) * deviation / math.sqrt(n)
