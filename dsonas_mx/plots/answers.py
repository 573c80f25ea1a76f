"""What a classifier takes for what, as a map; and mistakes, as a sheet of pictures."""

from typing import Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure

from .style import FAINT, TEXT, write_title

_MOST_NUMBERS = 25  # classes of a map whose cells have numbers
_COLUMNS = 6  # of a sheet
_MOST_LETTERS = 18


def draw_confusion(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Counts of test samples, true class by predicted class; colours are shares of the true one.

    Parameters
    ----------
    counts : numpy.ndarray
        Whole numbers, true × predicted.
    classes : sequence of str
        Their names.
    """
    number = len(classes)
    if counts.shape != (number, number):
        raise ValueError(f"counts must be {number}×{number}, got {counts.shape}")
    names = [_short(name) for name in classes]
    side = max(0.5 if number <= _MOST_NUMBERS else 0.2, 3 / number) * number
    left, top = 0.5 + 0.085 * max(map(len, names)), 1.3 + 0.085 * max(map(len, names))
    width, height = max(left + side + 1.2, 6.5), side + top + 0.3
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((left / width, 0.3 / height, side / width, side / height))
    total = counts.sum(1, keepdims=True)
    axes.imshow(counts / np.maximum(total, 1), cmap="Blues", vmin=0, vmax=1, gid="confusion")
    shares = counts / np.maximum(total, 1)
    if number <= _MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.6 else TEXT if count else FAINT
            axes.text(column, row, f"{count}", size=8, color=colour, ha="center", va="center")
        for row, share in enumerate(np.diag(shares)):
            error = f"{1 - share:.0%} wrong" if total[row] else "no sample"
            axes.text(number - 0.35, row, error, size=8, color=FAINT, va="center")
    axes.set_xticks(range(number), names, rotation=90)
    axes.set_yticks(range(number), names)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=9 if number <= _MOST_NUMBERS else 6, labelcolor=TEXT)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("is", color=FAINT)
    axes.set_xlabel("is taken for", color=FAINT)
    axes.xaxis.set_label_position("top")
    wrong = int(counts.sum() - np.trace(counts))
    samples = f"{wrong:,} of {int(counts.sum()):,} test samples wrong"
    write_title(figure, "What is taken for what", [samples])
    return figure


def draw_mistakes(
    pictures: Sequence[np.ndarray], captions: Sequence[Tuple[str, float, str]]
) -> Figure:
    """A sheet of samples that were answered wrong.

    Parameters
    ----------
    pictures : sequence of numpy.ndarray
        uint8, H×W×3, or H×W×1 for grey.
    captions : sequence of (str, float, str)
        What it was taken for, how surely, and what it is.
    """
    rows = max(1, -(-len(pictures) // _COLUMNS))
    width, height = 1.55 * _COLUMNS + 0.6, 1.95 * rows + 1.1
    figure = Figure(figsize=(width, height), facecolor="white")
    for place, (picture, (taken, sure, true)) in enumerate(zip(pictures, captions)):
        row, column = divmod(place, _COLUMNS)
        x, y = 0.3 + 1.55 * column, height - 1.0 - 1.95 * row - 1.3
        axes = figure.add_axes((x / width, y / height, 1.3 / width, 1.3 / height))
        grey = picture.shape[2] == 1
        axes.imshow(picture[..., 0] if grey else picture, cmap="gray", vmin=0, vmax=255)
        axes.axis("off")
        text = f"{_short(taken)} {sure:.0%}\nis {_short(true)}"
        axes.text(
            0.5, -0.06, text, size=8, color=TEXT, transform=axes.transAxes, ha="center", va="top"
        )
    notes = ["what each was taken for, how surely, and what it is"]
    write_title(figure, "The most confident mistakes" if pictures else "No mistakes", notes)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"
