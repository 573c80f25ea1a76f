"""Loss and accuracy, summed up where they are computed."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Sequence

import mxnet as mx

from .graph import Outputs


class Score(NamedTuple):
    """Means over the samples counted."""

    loss: float
    accuracy: float


class Tally:
    """Sums of loss and right answers on each device; only `score` waits for them."""

    def __init__(self) -> None:
        self._sums: Dict[mx.Context, List[mx.nd.NDArray]] = {}
        self._samples = 0

    def add(self, outputs: Sequence[Outputs]) -> None:
        """Count a batch."""
        for loss, logits, label in outputs:
            right = mx.nd.argmax(logits, axis=1) == label
            sums = [loss.sum(), right.sum()]
            context = loss.context
            if context in self._sums:
                sums = [old + new for old, new in zip(self._sums[context], sums)]
            self._sums[context] = sums
            self._samples += label.size

    def score(self) -> Score:
        """Mean loss and accuracy of all that was counted."""
        if not self._samples:
            raise ValueError("no batch was counted")
        totals = [
            sum(float(array.asscalar()) for array in arrays) for arrays in zip(*self._sums.values())
        ]
        return Score(*(total / self._samples for total in totals))
