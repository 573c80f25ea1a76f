"""Learning rates by epoch."""

import math


def cosine(epoch: int, high: float, low: float, period: int, factor: int = 1) -> float:
    """Cosine decay with warm restarts (SGDR): from `high` towards `low`, again and again.

    Parameters
    ----------
    epoch : int
        From 0; the rate changes once an epoch.
    high, low : float
        Rate at the start of each period, and what its end approaches.
    period : int
        Epochs of the first period, T0.
    factor : int
        Each period is so many times as long as the one before.
    """
    if period < 1 or factor < 1:
        raise ValueError(f"period and factor must be at least 1, got {period} and {factor}")
    while epoch >= period:
        epoch -= period
        period *= factor
    return low + (high - low) * (1 + math.cos(math.pi * epoch / period)) / 2


def linear(epoch: int, high: float, low: float, epochs: int) -> float:
    """From `high` in the first of so many epochs on a straight line towards `low`."""
    return high + (low - high) * epoch / epochs


def poly(done: float, rate: float, power: float = 0.9) -> float:
    """Of DeepLab: rate·(1 − done)^power, `done` from 0 to 1."""
    if not 0 <= done <= 1:
        raise ValueError(f"done must be from 0 to 1, got {done}")
    return rate * (1 - done) ** power
