"""Times of pieces that are compared with each other, taken in turn on a machine that drifts."""

import statistics
import time
from typing import Callable, Dict, List, Mapping

import mxnet as mx


def alternate(
    pieces: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1, pause: float = 0.0
) -> Dict[str, List[float]]:
    """Seconds of each piece in each round; the pieces take turns, so all see the same machine.

    Parameters
    ----------
    pieces : mapping of names to callables
        What they start on the device is waited for.
    rounds : int
        That are counted.
    warm_up : int
        Rounds before them, not counted.
    pause : float
        Seconds before each, in which threads of the last that still look for work give up.
    """
    seconds: Dict[str, List[float]] = {name: [] for name in pieces}
    mx.nd.waitall()
    for turn in range(warm_up + rounds):
        for name, piece in pieces.items():
            time.sleep(pause)
            start = time.perf_counter()
            piece()
            mx.nd.waitall()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def medians(seconds: Mapping[str, List[float]]) -> Dict[str, float]:
    """The median of each piece."""
    return {name: statistics.median(values) for name, values in seconds.items()}
