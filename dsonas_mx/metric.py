"""Loss and accuracy, summed up where they are computed."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Sequence

import mxnet as mx
import numpy as np

from .graph import Outputs


class Score(NamedTuple):
    """Means over the samples counted."""

    loss: float
    accuracy: float


class Tally:
    """Sums of loss and right answers on each device; nothing but reading them waits for them."""

    def __init__(self) -> None:
        # By device: loss, right answers, and in how many batches the sum of losses was finite.
        self._sums: Dict[mx.Context, List[mx.nd.NDArray]] = {}
        self._samples = 0

    def add(self, outputs: Sequence[Outputs]) -> None:
        """Count a batch."""
        for loss, logits, label in outputs:
            right = mx.nd.argmax(logits, axis=1) == label
            if label.ndim > 1:  # of an image, the share of its labelled pixels
                pixels = tuple(range(1, label.ndim))
                labelled = mx.nd.sum(label >= 0, axis=pixels)
                right = mx.nd.sum(right, axis=pixels) / mx.nd.maximum(labelled, 1)
            context = loss.context
            sums, before = [loss.sum(), right.sum()], self._sums.get(context)
            if before:
                sums = [old + new for old, new in zip(before, sums)]
            finite = mx.nd.contrib.isfinite(sums[0])
            self._sums[context] = [*sums, finite + before[2] if before else finite]
            self._samples += len(label)

    def score(self) -> Score:
        """Mean loss and accuracy of all that was counted."""
        if not self._samples:
            raise ValueError("no batch was counted")
        totals = [
            sum(float(array.asscalar()) for array in arrays) for arrays in zip(*self._sums.values())
        ]
        return Score(*(total / self._samples for total in totals[:2]))

    def losses(self) -> List[mx.nd.NDArray]:
        """The sum of losses on each device so far: arrays that later batches do not change."""
        return [sums[0] for sums in self._sums.values()]

    def finite_batches(self) -> int:
        """How many batches were counted before the first whose loss was not finite."""
        return min((int(sums[2].asscalar()) for sums in self._sums.values()), default=0)

    # What a checkpoint holds

    @property
    def samples(self) -> int:
        """How many were counted."""
        return self._samples

    def sums(self) -> np.ndarray:
        """The sums, devices×3, bit for bit."""
        rows = [[array.asscalar() for array in sums] for sums in self._sums.values()]
        return np.array(rows, np.float32).reshape(-1, 3)

    @classmethod
    def of(cls, samples: int, sums: np.ndarray, contexts: Sequence[mx.Context]) -> Tally:
        """The tally that had these; on fewer devices than it had, the last one takes the rest."""
        tally = cls()
        tally._samples = samples
        if len(sums) > len(contexts):
            rest = len(contexts) - 1
            sums = np.concatenate([sums[:rest], sums[rest:].sum(0, keepdims=True)])
        for context, row in zip(contexts, sums):
            tally._sums[context] = [mx.nd.array([value], ctx=context) for value in row]
        return tally
