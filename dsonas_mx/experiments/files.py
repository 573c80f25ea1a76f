"""Experiments as files.

A file is JSON: ``name``, ``description``, ``data_set`` (whose scripts it runs), ``seeds``,
``reference`` (the row that others are compared with, if they name no other), ``measure`` (what the
table is about, one of `MEASURES`), ``columns`` (what else it has of the networks that were found,
out of `COLUMNS`), options ``search`` and ``train`` of all rows, ``rows`` by name, and ``scales`` by
name. A row has options ``search`` and ``train`` of its own; one without ``search`` takes what the
search of the row ``of`` found, or the ``architecture`` of a file (beside the experiment's), or
nothing. With ``candidates``, a ``number`` and options ``train``, so many trainings with other seeds
come first, and the one with the least error on its ``validation`` images gives its seed. A scale
overrides ``seeds``, ``search``, ``train``, and in ``rows`` the options of single rows; its
``transfer`` is the data set that what was found is trained on, if that is another, and its ``note``
says what the table shows, and what it cannot.
Options are those of the scripts, without the dashes; true is a flag that is set, false one that is
not.
"""

import re
from pathlib import Path
from typing import Any, Dict, Iterable, Mapping, Optional, Sequence, Tuple

from ..io.checks import (
    check_choice,
    check_fields,
    check_int,
    check_list,
    check_object,
    check_printable,
    shown,
)
from ..io.files import PathLike, read_json
from .experiment import (
    COLUMNS,
    MEASURES,
    MOST_CANDIDATES,
    STAGES,
    Experiment,
    Options,
    Row,
    slug,
)

_FIELDS = (
    *"name description data_set seeds reference measure columns".split(),
    *(*STAGES, "rows", "scales"),
)
_REQUIRED = ("name", "data_set", "seeds", "rows", "scales")
# What a file may not set: what is set for every run, and which devices and files are used.
_OWN = frozenset(
    "seed data-dir save-dir architecture like gpus dry-run cpus kv-store data-train data-val "
    "split-files test-data pretrained backbone latency-table resume resume-from eval workers "
    "help".split()
)


def read_experiment(path: PathLike, scale: str) -> Experiment:
    """Read the file of an experiment, at one of its scales.

    Raises
    ------
    ValueError
        The file is not an experiment, or has no such scale; the message has its name.
    OSError
        It cannot be read.
    """
    return read_json(path, lambda data: from_json(data, scale, Path(path).parent))


def from_json(data: Any, scale: str, folder: PathLike = ".") -> Experiment:
    """The experiment of a parsed file in a folder, at one of its scales."""
    check_fields("the experiment", data, _REQUIRED, _FIELDS)
    scales, rows = data["scales"], data["rows"]
    for name in ("name", "data_set"):
        _check_name(name, data[name])
    check_object("scales", scales)
    if scale not in scales:
        raise ValueError(f"there is no scale {shown(scale)}, only {', '.join(scales)}")
    here = scales[scale]
    check_fields(f"scale {scale!r}", here, (), ("seeds", "note", "transfer", *STAGES, "rows"))
    transfer = here.get("transfer", data["data_set"])
    _check_name("transfer", transfer)
    check_object("rows", rows)
    if not rows:
        raise ValueError("rows must name at least one row")
    changes = here.get("rows", {})
    check_fields(f"rows of scale {scale!r}", changes, (), tuple(rows))
    common = {
        stage: {**_options(stage, data, "all"), **_options(stage, here, f"scale {scale!r}")}
        for stage in STAGES
    }
    reference = _reference(data, rows, "")
    parsed = [
        _row(name, row, common, changes.get(name, {}), tuple(rows), Path(folder), reference)
        for name, row in rows.items()
    ]
    _check_rows(parsed)
    seeds = _seeds(data["seeds"])
    measure = data.get("measure", "test_error")
    if measure not in tuple(MEASURES):
        raise ValueError(f"measure must be {' or '.join(MEASURES)}, got {shown(measure)}")
    columns = tuple(check_list("columns", data.get("columns", [])))
    for name in columns:
        check_choice("columns", name, tuple(COLUMNS))
    return Experiment(
        data["name"],
        scale,
        check_printable("description", data.get("description", "")),
        {"search": data["data_set"], "train": transfer},
        _seeds(here["seeds"]) if "seeds" in here else seeds,
        tuple(parsed),
        measure,
        here.get("note", ""),
        columns,
    )


def _check_name(field: str, name: Any) -> None:
    if not isinstance(name, str) or name != slug(name):
        raise ValueError(f"{field} must be of small letters, digits, _ and -, got {shown(name)}")


def _row(
    name: str,
    row: Any,
    common: Mapping[str, Options],
    changes: Any,
    names: Sequence[str],
    folder: Path,
    reference: Optional[str],
) -> Row:
    where = f"row {name!r}"
    check_fields(where, row, (), (*STAGES, "of", "architecture", "reference", "candidates"))
    check_fields(f"{where} of the scale", changes, (), (*STAGES, "candidates"))
    options = {
        stage: {**common[stage], **_options(stage, row, where), **_options(stage, changes, where)}
        for stage in STAGES
    }
    if "search" in row and "of" in row:
        raise ValueError(f"{where} has a search of its own: leave out 'of'")
    of = name if "search" in row else row.get("of")
    if of is not None and of not in names:
        raise ValueError(f"{where} is of {shown(of)}, which is no row")
    file = row.get("architecture")
    if file is not None:
        if of is not None or not isinstance(file, str) or not (folder / file).is_file():
            raise ValueError(
                f"{where}: architecture must be a file, and there be neither search nor 'of', "
                f"got {shown(file)}"
            )
        file = str(folder / file)
    reference = _reference(row, names, f"{where}: ") or reference
    number, candidate = _choice({**row, **changes}, where)
    compared = reference if reference != name else None
    return Row(name, of, options, file, compared, number, candidate)


def _choice(row: Mapping[str, Any], where: str) -> Tuple[int, Options]:
    """How many candidates a row has, and their options beside its own."""
    if "candidates" not in row:
        return 0, {}
    where = f"candidates of {where}"
    check_fields(where, row["candidates"], ("number",), ("number", "train"))
    number = check_int(f"{where}: number", row["candidates"]["number"], 1, MOST_CANDIDATES)
    options = _options("train", row["candidates"], where)
    if not options.get("validation"):
        raise ValueError(f"{where}: train must set validation: they must not see test images")
    return number, options


def _reference(data: Mapping[str, Any], rows: Iterable[str], where: str) -> Optional[str]:
    reference = data.get("reference")
    if reference is not None and reference not in list(rows):
        raise ValueError(f"{where}reference must be one of the rows, got {shown(reference)}")
    return reference


def _check_rows(rows: Sequence[Row]) -> None:
    folders: Dict[str, str] = {}
    for row in rows:
        check_printable("a row", row.name)
        other = folders.setdefault(slug(row.name), row.name)
        if not slug(row.name) or other != row.name:
            raise ValueError(
                f"row {row.name!r} needs another name: its folder would be that of "
                f"{other!r}, or none"
            )
    searched = {row.name for row in rows if row.of == row.name}
    for row in rows:
        if row.of is not None and row.of not in searched:
            raise ValueError(f"row {row.name!r} is of {row.of!r}, which has no search")


def _options(stage: str, data: Mapping[str, Any], where: str) -> Options:
    options = data.get(stage, {})
    check_object(f"{stage} of {where}", options)
    for name, value in options.items():
        if name in _OWN:
            raise ValueError(f"{stage} of {where} sets {name}, which is set for every run")
        if not re.fullmatch("[a-z][a-z0-9-]*", name):  # "gpus=7" would be --gpus
            raise ValueError(f"{stage} of {where}: {shown(name)} is no name of an option")
        if not isinstance(value, (bool, int, float, str)):
            raise ValueError(
                f"{stage} of {where}: {name} must be a number, text, true or false, "
                f"got {shown(value)}"
            )
    return options


def _seeds(value: Any) -> Tuple[int, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"seeds must be a list of at least one, got {shown(value)}")
    for seed in value:
        if type(seed) is not int or seed < 0:
            raise ValueError(f"seeds must be whole numbers of at least 0, got {shown(seed)}")
    if len(set(value)) < len(value):
        raise ValueError("seeds names one more than once")
    return tuple(value)
