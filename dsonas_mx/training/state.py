"""The state of a loop: all that it has to know to go on, as numbers, names and arrays."""

from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np


class State(NamedTuple):
    """What a loop is made of: numbers and names, ready for JSON, and arrays by name."""

    values: Dict[str, Any]
    arrays: Dict[str, np.ndarray]


def not_finite(arrays: Dict[str, np.ndarray]) -> List[str]:
    """The names of arrays that hold anything but numbers."""
    return [name for name, array in arrays.items() if not np.isfinite(array).all()]


def take(arrays: Dict[str, np.ndarray], name: str, shape: Tuple[int, ...]) -> np.ndarray:
    """Remove an array of a checkpoint from `arrays`, and check its shape."""
    if name not in arrays:
        raise ValueError(f"{name} is missing")
    array = arrays.pop(name)
    if array.shape != tuple(shape):
        raise ValueError(f"{name} has the shape {array.shape}, not {tuple(shape)}")
    return array
