"""Learning curves of a search or a training."""

from typing import List, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .style import TEXT, set_margins, style_axes, write_title
from .table import PHASES, Table, column_of

SEARCH_COLUMNS = (
    *("epoch", "phase", "weight_loss", "weight_accuracy", "lambda_loss", "lambda_accuracy"),
    *("connections", "learning_rate"),
)
TRAIN_COLUMNS = ("epoch", "learning_rate", "train_loss", "train_error", "test_loss", "test_error")
SEGMENTATION_COLUMNS = (
    *("epoch", "learning_rate", "train_loss", "train_accuracy", "test_accuracy", "test_miou"),
)


def draw_curves(table: Table) -> Figure:
    """Loss, accuracy and connections of a search, or loss and error of a training, or loss,
    accuracy and mean IoU of one in segmentation.

    Parameters
    ----------
    table : mapping of column to values
        As `read_table` gives it, with the columns `SEARCH_COLUMNS`, `TRAIN_COLUMNS` or
        `SEGMENTATION_COLUMNS`; others are ignored. Accuracies and errors are fractions.

    Raises
    ------
    ValueError
        No row, or a column is missing.
    """
    of, draw = "training", _draw_training
    columns: Sequence[str] = TRAIN_COLUMNS
    if "phase" in table:
        of, columns, draw = "search", SEARCH_COLUMNS, _draw_search
    elif "test_miou" in table:
        columns, draw = SEGMENTATION_COLUMNS, _draw_segmentation
    for name in columns:
        if name not in table:
            raise ValueError(f"no column {name!r}, which the metrics of a {of} have")
    if not len(column_of(table, "epoch")):
        raise ValueError("no epoch yet")
    return draw(table)


_ONE, _TWO, _THREE = "#0072B2", "#D55E00", "#009E73"


def _draw_search(table: Table) -> Figure:
    epochs = column_of(table, "epoch")
    pretrain = column_of(table, "phase") == PHASES[0]
    if pretrain.any() and not pretrain.all() and epochs[~pretrain][0] <= epochs[pretrain][-1]:
        # Both phases count from one: the search goes on where the pre-training ended.
        epochs = np.where(pretrain, epochs, epochs + epochs[pretrain][-1])
    figure = Figure(figsize=(11, 7.2), facecolor="white")
    panels = _panels(figure, 2, 2)
    halves = (("weight", "part for weights", _ONE), ("lambda", "part for λ", _TWO))
    for axes, what in ((panels[0], "loss"), (panels[1], "accuracy")):
        for half, label, colour in halves:
            _paint_curve(axes, table, epochs, f"{half}_{what}", colour, label)
    panels[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    connections = column_of(table, "connections")
    panels[2].plot(
        epochs,
        connections,
        drawstyle="steps-mid",
        color=TEXT,
        linewidth=1.6,
        marker="o" if len(epochs) == 1 else None,
        markersize=3.5,
        gid="connections",
    )
    panels[2].fill_between(epochs, connections, step="mid", color=TEXT, alpha=0.08, linewidth=0)
    _from_zero(panels[2])
    _paint_curve(panels[3], table, epochs, "learning_rate", TEXT)
    _from_zero(panels[3])
    titles = ("Loss", "Accuracy", "Connections with λ above zero", "Learning rate")
    for axes, title in zip(panels, titles):
        _finish(axes, epochs, title)
        if pretrain.any():
            # Half an epoch further: between the last of one phase and the first of the other.
            end = epochs[pretrain][-1] + 0.5
            start = axes.get_xlim()[0]
            axes.axvspan(start, end, color="#F3F3F3", zorder=0, linewidth=0)
            axes.set_xlim(left=start)
    first, last = connections[0], connections[-1]
    title = f"{first:.0f} to {last:.0f}" if first != last else f"{last:.0f}"
    phases = ((pretrain.sum(), "of pre-training (shaded)"), ((~pretrain).sum(), "of search"))
    notes = [_epochs(count, of) for count, of in phases if count]
    if (np.diff(connections) > 0).any():
        notes.append("a λ may leave zero again until its connection is removed, every few epochs")
    write_title(figure, f"Search: {title} connections kept", notes)
    return figure


def _draw_training(table: Table) -> Figure:
    parts = (("train", "training", _ONE), ("test", "test", _TWO))
    loss, error = (
        [(f"{part}_{what}", label, colour) for part, label, colour in parts]
        for what in ("loss", "error")
    )
    return _draw_fit(table, loss, "Error", error, "test error", "test_error")


def _draw_segmentation(table: Table) -> Figure:
    accuracy = [
        ("train_accuracy", "training", _ONE),
        ("test_accuracy", "test", _TWO),
        ("test_miou", "test, mean IoU", _THREE),
    ]
    loss = [("train_loss", "training", _ONE)]
    return _draw_fit(table, loss, "Accuracy of pixels", accuracy, "test mean IoU", "test_miou")


_Curves = Sequence[Tuple[str, str, str]]  # column, label, colour


def _draw_fit(
    table: Table, loss: _Curves, name: str, curves: _Curves, measure: str, column: str
) -> Figure:
    """Loss, what a training is measured by, learning rate; `column` of the last test on top."""
    epochs = column_of(table, "epoch")
    figure = Figure(figsize=(13, 4.3), facecolor="white")
    panels = _panels(figure, 1, 3)
    for axes, lines in zip(panels, (loss, curves, [("learning_rate", "", TEXT)])):
        for what, label, colour in lines:
            _paint_curve(axes, table, epochs, what, colour, label)
        _from_zero(axes)
    panels[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes, title in zip(panels, ("Loss", name, "Learning rate")):
        _finish(axes, epochs, title)
    values = column_of(table, column)
    measured = values[np.isfinite(values)]
    title = f"Training: {measure} {measured[-1]:.2%}" if len(measured) else "Training"
    write_title(figure, title, [_epochs(len(epochs), "of training")])
    return figure


def _epochs(count: int, of: str) -> str:
    return f"{count} epoch{'' if count == 1 else 's'} {of}"


def _panels(figure: Figure, rows: int, columns: int) -> List[Axes]:
    set_margins(figure, 0.75, 0.4, 0.6, 1.3, wspace=0.22, hspace=0.42)
    return [figure.add_subplot(rows, columns, at + 1) for at in range(rows * columns)]


def _paint_curve(
    axes: Axes, table: Table, epochs: np.ndarray, name: str, colour: str, label: str = ""
) -> None:
    values = column_of(table, name)
    measured = np.isfinite(values)
    axes.plot(
        epochs[measured],
        values[measured],
        color=colour,
        linewidth=1.6,
        marker="o" if measured.sum() <= 30 else None,
        markersize=3.5,
        label=label if label and measured.any() else None,
        gid=name,
    )


def _from_zero(axes: Axes) -> None:
    most = max(float(np.nanmax(line.get_ydata(), initial=0)) for line in axes.lines)
    axes.set_ylim(0, 1.07 * most or 1)


def _finish(axes: Axes, epochs: np.ndarray, title: str) -> None:
    style_axes(axes, epochs)
    axes.set_title(title, size=11.5, color=TEXT, loc="left", weight="bold")
    axes.set_xlabel("epoch")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9.5, labelcolor=TEXT)
