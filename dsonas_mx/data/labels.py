"""The one rule for a label: one a picture, a whole number from 0, below the number of classes."""

from typing import Any, Callable, List, Optional, Sequence

import numpy as np

_MOST_CLASSES = 1_000_000
_NAMED = 5  # examples in a message


def check_labels(
    labels: np.ndarray, num_classes: Optional[int], name: Callable[[int], Any]
) -> np.ndarray:
    """Labels as int32.

    Parameters
    ----------
    labels : numpy.ndarray
        Any numbers.
    num_classes : int or None
        None for as many as the labels say.
    name : callable
        What a message calls the picture at an index.

    Raises
    ------
    ValueError
        One is no class; the message is which.
    """
    most = _MOST_CLASSES if num_classes is None else num_classes
    wrong = ~((labels >= 0) & (labels < most) & (labels == np.floor(labels)))
    if wrong.any():
        index = int(wrong.argmax())
        allowed = "a whole number from 0" if num_classes is None else f"0 to {num_classes - 1}"
        raise ValueError(f"{name(index)} has label {labels[index]:g}, not {allowed}")
    return labels.astype(np.int32)


def count_classes(labels: np.ndarray) -> int:
    """How many classes there are by the labels alone."""
    return int(labels.max(initial=-1)) + 1


def coverage(train: np.ndarray, test: Optional[np.ndarray], classes: Sequence[str]) -> List[str]:
    """What should be said of classes that occur in no training, or in no test picture.

    Raises
    ------
    ValueError
        All training pictures are of one class: nothing can be learned.
    """
    trained = np.bincount(train, minlength=len(classes)) > 0
    if trained.sum() < 2:
        raise ValueError(
            f"all training images are of one class, {classes[int(trained.argmax())]}: "
            "a network needs two at least"
        )
    notes = []
    if not trained.all():
        notes.append(f"{_listed(~trained, classes)} in no training image")
    if test is not None:
        tested = np.bincount(test, minlength=len(classes)) > 0
        if (tested & ~trained).any():
            notes.append(f"{_listed(tested & ~trained, classes)} in test images alone")
        if (trained & ~tested).any():
            notes.append(f"{_listed(trained & ~tested, classes)} in no test image")
    return notes


def _listed(chosen: np.ndarray, classes: Sequence[str]) -> str:
    names = [classes[index] for index in np.flatnonzero(chosen)]
    shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    return f"{len(names):,} of {len(classes):,} classes ({shown}) occur"
