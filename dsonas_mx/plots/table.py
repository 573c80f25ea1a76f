"""The CSV files of a run, as columns."""

import csv
import io
import math
import os
from typing import Any, Dict, List, Mapping, Union

import numpy as np

from ..io.checks import shown
from ..io.files import PathLike, read_regular

Table = Mapping[str, Any]  # name of a column to its values

_MAY_BE_EMPTY = (
    *("lambda_loss", "lambda_accuracy", "test_loss", "test_error"),
    *("test_accuracy", "test_miou"),
)
PHASES = ("pretrain", "search")

_MOST_BYTES = 2**28


def column_of(table: Table, name: str) -> np.ndarray:
    """A column as an array: of text if it is the phase, or else of float64."""
    if name not in table:
        raise ValueError(f"no column {name!r}")
    return np.asarray(table[name], dtype=str if name == "phase" else np.float64)


def read_table(path: PathLike) -> Dict[str, np.ndarray]:
    """The columns of a run's CSV file, which starts with ``epoch``.

    Returns
    -------
    dict of name to array
        float64, NaN where nothing was measured; ``phase`` is text.

    Raises
    ------
    ValueError
        The file is damaged; the message has its name, and the line.
    OSError
        It cannot be read.
    """
    name = os.fspath(path)
    try:
        text = read_regular(path, _MOST_BYTES).decode("utf-8")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except UnicodeDecodeError:
        raise ValueError(f"{name}: not a CSV file: not UTF-8 text") from None
    except csv.Error as error:
        raise ValueError(f"{name}: not a CSV file: {error}") from None
    if not rows:
        raise ValueError(f"{name}: the file is empty")
    header = rows.pop(0)
    if "epoch" not in header:
        raise ValueError(f"{name}: no column 'epoch' in the first line")
    values: Dict[str, List[Any]] = {}
    for column in header:
        if column in values:
            raise ValueError(f"{name}: column {shown(column)} is there more than once")
        values[column] = []
    for line, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise ValueError(f"{name}, line {line}: {len(row)} fields, not {len(header)}")
        for column, field in zip(header, row):
            try:
                values[column].append(_parse_field(column, field))
            except ValueError as error:
                raise ValueError(f"{name}, line {line}: {error}") from None
        _check_order(values, f"{name}, line {line}")
    return {column: column_of(values, column) for column in header}


def _parse_field(column: str, field: str) -> Union[str, float]:
    if column == "phase":
        if field not in PHASES:
            raise ValueError(f"phase must be {' or '.join(PHASES)}, got {shown(field)}")
        return field
    if not field and column in _MAY_BE_EMPTY:
        return math.nan
    try:
        value = float(field)
    except ValueError:
        raise ValueError(f"{column} must be a number, got {shown(field)}") from None
    if not math.isfinite(value):
        raise ValueError(f"{column} must be finite, got {field}")
    return value


def _check_order(values: Dict[str, List[Any]], where: str) -> None:
    # The phases may count from one each.
    before = values["epoch"][-2:]
    phases = values.get("phase", [""] * 2)[-2:]
    if len(before) == 2 and before[0] >= before[1] and phases[0] == phases[1]:
        raise ValueError(f"{where}: epoch {before[1]:g} comes after epoch {before[0]:g}")
