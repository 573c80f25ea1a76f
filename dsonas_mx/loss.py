"""Losses of a batch, for symbols and arrays."""

from __future__ import annotations

import math
from typing import Any, Callable


def cross_entropy(F: Any, logits: Any, label: Any) -> Any:
    """−log p(label) of each sample, B, from logits B×classes."""
    return -F.pick(F.log_softmax(logits, axis=-1), label, axis=-1)


def with_auxiliary(weight: float, loss: Callable[..., Any] = cross_entropy) -> Callable[..., Any]:
    """The loss of (logits, tower's logits): that of the first + `weight` · that of the second."""
    if not 0 <= weight < math.inf:
        raise ValueError(f"auxiliary must be at least 0 and finite, got {weight}")

    def both(F: Any, outputs: Any, label: Any) -> Any:
        logits, tower = outputs
        return loss(F, logits, label) + weight * loss(F, tower, label)

    return both
