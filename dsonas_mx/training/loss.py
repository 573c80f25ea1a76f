"""Losses of a batch, for symbols and arrays."""

import math
from typing import Any, Callable

from ..engine.pixels import by_image, enlarged


def cross_entropy(F: Any, logits: Any, label: Any) -> Any:
    """−log p(label) of each sample, B, from logits B×classes."""
    return -F.pick(F.log_softmax(logits, axis=-1), label, axis=-1)


def smoothed(amount: float) -> Callable[..., Any]:
    """Cross-entropy with label smoothing: `amount` of the label, 0 to 1, is spread over the others.

    Each of the other K − 1 classes has amount/(K − 1) of it, as with MXNet's `smooth_alpha`.
    """
    if not 0 <= amount < 1:
        raise ValueError(f"label smoothing must be in [0, 1), got {amount}")

    def loss(F: Any, logits: Any, label: Any) -> Any:
        log = F.log_softmax(logits, axis=-1)
        right = F.pick(log, label, axis=-1)
        # Classes are counted by a sum of ones: a symbol does not know its shape.
        others = F.sum(F.ones_like(log), axis=-1) - 1
        wrong = F.sum(log, axis=-1) - right
        return -(1 - amount) * right - amount * wrong / others

    return loss


def pixel_cross_entropy(F: Any, logits: Any, label: Any) -> Any:
    """−log p(label) of pixels, summed over each image, over the labelled pixels of an image.

    What is ignored has a negative label, and neither loss nor gradient. The divisor is the mean
    over the batch, so that the mean of what this returns, B, is that over all labelled pixels of
    the batch (of one device). A batch without any has the loss 0.

    Parameters
    ----------
    logits : B×classes×h×w
        They are enlarged to the size of the label.
    label : B×H×W
    """

    def likelihood(logits: Any, label: Any) -> Any:
        return F.pick(F.log_softmax(enlarged(F, logits, label), axis=1), label, axis=1)

    labelled = label >= 0
    losses = -by_image(F, likelihood, logits, label) * labelled
    pixels = F.mean(F.sum(labelled, axis=(1, 2)), keepdims=True)
    return F.broadcast_div(F.sum(losses, axis=(1, 2)), F.maximum(pixels, 1))


def with_auxiliary(weight: float, loss: Callable[..., Any] = cross_entropy) -> Callable[..., Any]:
    """The loss of (logits, tower's logits): that of the first + `weight` · that of the second."""
    if not 0 <= weight < math.inf:
        raise ValueError(f"auxiliary must be at least 0 and finite, got {weight}")

    def both(F: Any, outputs: Any, label: Any) -> Any:
        logits, tower = outputs
        return loss(F, logits, label) + weight * loss(F, tower, label)

    return both
