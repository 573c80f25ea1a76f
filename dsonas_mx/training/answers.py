"""What a classifier answers on all test samples: what it takes for what, and its worst mistakes."""

from dataclasses import dataclass
from typing import List, NamedTuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..data.loader import Loader
from .confusion import Confusion


class Mistake(NamedTuple):
    """A sample that was answered wrong: how surely, its classes, the data that were given."""

    probability: float
    true: int
    predicted: int
    data: np.ndarray


@dataclass(frozen=True)
class Answers:
    """Counts of true and predicted classes, and the mistakes that it was most sure of."""

    confusion: Confusion
    mistakes: List[Mistake]

    @property
    def class_errors(self) -> np.ndarray:
        """The error of each class, a fraction; nan for one without samples."""
        counts = self.confusion.counts
        total = counts.sum(1)
        right = np.diag(counts)
        return np.where(total > 0, 1 - right / np.maximum(total, 1), np.nan)


def answers(
    net: HybridBlock, data: Loader, context: mx.Context, num_classes: int, most: int = 24
) -> Answers:
    """Ask a network about all samples of `data`.

    Parameters
    ----------
    net : HybridBlock
        Its first output are the logits.
    data : Loader
        All samples, to test on.
    most : int
        Mistakes that are kept.
    """
    confusion = Confusion(num_classes)
    mistakes: List[Mistake] = []
    for batch in data.epoch(0):
        outputs = net(mx.nd.array(batch.data, ctx=context))
        logits = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
        probabilities = mx.nd.softmax(logits).asnumpy()
        predicted, true = probabilities.argmax(1), batch.labels.astype(np.int64)
        confusion.add(predicted, true)
        for index in np.flatnonzero(predicted != true):
            sure = float(probabilities[index, predicted[index]])
            one = Mistake(sure, int(true[index]), int(predicted[index]), batch.data[index])
            mistakes.append(one)
        mistakes = sorted(mistakes, key=lambda one: -one.probability)[:most]
    return Answers(confusion, mistakes)
