"""Loss and accuracy, summed up where they are computed."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Sequence

import mxnet as mx
import numpy as np

from ..engine.graph import Outputs
from ..engine.workers import Workers


class Score(NamedTuple):
    """Means over the samples counted; `top5` is how often the label is among five, if counted."""

    loss: float
    accuracy: float
    top5: Optional[float] = None


class Tally:
    """Sums of loss and right answers on each device; nothing but reading them waits for them.

    What is read is of all `workers`, each of which has so many `devices`, and all have to read it.
    """

    def __init__(self, workers: Optional[Workers] = None, devices: int = 1) -> None:
        self._workers = workers or Workers()
        self._devices = devices
        # By device: loss, right answers, in how many batches the sum of losses was finite, and
        # how many images had no labelled pixel, where labels are of pixels.
        self._sums: Dict[mx.Context, List[mx.nd.NDArray]] = {}
        self.samples = 0  # that were counted

    def add(self, outputs: Sequence[Outputs], samples: Optional[int] = None) -> None:
        """Count a batch, of so many samples with those that other workers have."""
        own = sum(len(label) for _, _, label in outputs)
        self.samples += own if samples is None else samples
        for loss, answers, label in outputs:
            if answers.ndim > label.ndim:
                answers = mx.nd.argmax(answers, axis=1)
            right = answers == label
            unlabelled = []
            if label.ndim > 1:  # of an image, the share of its labelled pixels
                pixels = tuple(range(1, label.ndim))
                labelled = mx.nd.sum(label >= 0, axis=pixels)
                right = mx.nd.sum(right, axis=pixels) / mx.nd.maximum(labelled, 1)
                unlabelled = [mx.nd.sum(labelled == 0)]
            context = loss.context
            before = self._sums.get(context)
            total = loss.sum() + before[0] if before else loss.sum()
            counts = [right.sum(), mx.nd.contrib.isfinite(total), *unlabelled]
            if before:
                counts = [old + new for old, new in zip(before[1:], counts)]
            self._sums[context] = [total, *counts]

    def score(self) -> Score:
        """Mean loss and accuracy of all that was counted."""
        if not self.samples:
            raise ValueError("no batch was counted")
        losses, answers, _, unlabelled = self.sums().T.tolist()
        answered = max(1.0, self.samples - sum(unlabelled))
        return Score(sum(losses) / self.samples, sum(answers) / answered)

    def losses(self) -> List[mx.nd.NDArray]:
        """The sum of losses on each device so far: arrays that later batches do not change."""
        return [sums[0] for sums in self._sums.values()]

    def finite_batches(self) -> int:
        """How many batches were counted before the first whose loss was not finite."""
        return int(self.sums()[:, 2].min(initial=np.inf if self.samples else 0))

    # What a checkpoint holds

    def sums(self) -> np.ndarray:
        """The sums, devices×4, bit for bit."""
        if not self.samples:
            return np.zeros((0, 4), np.float32)
        rows = [[array.asscalar() for array in sums] for sums in self._sums.values()]
        rows = [row + [0.0] * (4 - len(row)) for row in rows]
        if self._workers.size > 1:  # all have as many, though some may have had no sample
            rows += [[0.0] * 4] * (self._devices - len(rows))
        return self._workers.gather(np.array(rows, np.float32)).reshape(-1, 4)

    @classmethod
    def of(
        cls,
        samples: int,
        sums: np.ndarray,
        contexts: Sequence[mx.Context],
        workers: Optional[Workers] = None,
    ) -> Tally:
        """The tally that had these; on fewer devices than it had, the last one takes the rest."""
        tally = cls(workers, len(contexts))
        if sums.shape[1] == 3:  # of before images without labels were told apart
            sums = np.pad(sums, ((0, 0), (0, 1)))
        tally.samples = samples
        last = tally._workers.size * len(contexts) - 1
        if len(sums) > last + 1:
            sums = np.concatenate([sums[:last], sums[last:].sum(0, keepdims=True)])
        for context, row in zip(contexts, sums[tally._workers.rank * len(contexts) :]):
            tally._sums[context] = [mx.nd.array([value], ctx=context) for value in row]
        return tally
