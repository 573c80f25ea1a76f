"""Experiments: rows of a table, each a search and a training, over several seeds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..cost.count import count
from ..io.checks import shown
from ..io.files import PathLike, read_json
from ..search.budget import flops_by_block
from ..space.architecture import Architecture

STAGES = ("search", "train")
RESULT = {"search": "architecture.json", "train": "result.json"}  # what a finished run has

MEASURES = {"test_error": "test error", "mean_iou": "mIoU"}  # fractions in result.json; for people

MOST_CANDIDATES = 1000  # of a row; none has a seed of another row's


class Column(NamedTuple):
    """A figure of what was found: its heading, how it is shown, and what it is."""

    heading: str
    factor: float
    digits: int
    of: Callable[[Architecture], float]


def _flops_spread(architecture: Architecture) -> float:
    """Standard deviation of the multiply-adds of blocks, over their mean."""
    flops = flops_by_block(architecture)
    return float(flops.std() / flops.mean())


COLUMNS = {
    "multiply_adds": Column("multiply-adds, M", 1e-6, 2, lambda found: count(found).multiply_adds),
    "memory_access": Column("MAC, M", 1e-6, 3, lambda found: count(found).memory_access),
    "flops_spread": Column("spread of FLOPs over blocks", 1, 3, _flops_spread),
}

Options = Dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A row of the table: whose search it uses (its own, another row's, none's), its options.

    Instead of a search it may have the file of an architecture. `reference` is the row that it is
    compared with. `candidates` are so many trainings, of these options, to choose its seed from.
    """

    name: str
    of: Optional[str]
    options: Mapping[str, Options]
    architecture: Optional[str] = None
    reference: Optional[str] = None
    candidates: int = 0
    candidate: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One run of a script.

    Attributes
    ----------
    stage : {'search', 'train'}
    row : str
    seed : int
    options : dict
        Of the script, without folders and devices: the same options, the same run.
    folder : Path
        The run folder; beside it lie its log and its record.
    search : Task, optional
        What found the architecture.
    architecture : str, optional
        The file that it is in, if no task finds it.
    candidates : tuple of Task
        The trainings that choose its seed: that of the least error.
    chooses : bool
        It is one of these.
    """

    stage: str
    row: str
    seed: int
    options: Options = field(hash=False)
    folder: Path
    search: Optional[Task] = None
    architecture: Optional[str] = None
    candidates: Tuple[Task, ...] = ()
    chooses: bool = False

    @property
    def name(self) -> str:
        """The task, for people."""
        return f"seed {self.seed}, {self.row}, {self.folder.name}"

    @property
    def needs(self) -> Tuple[Task, ...]:
        """What has to be done before it."""
        return (*self.candidates, *([] if self.search is None else [self.search]))

    @property
    def is_embedded(self) -> bool:
        """Whether it runs on the images that come with the project."""
        return bool(self.options.get("demo")) or self.options.get("data-set") == "fashion_mnist"

    def words(self) -> List[str]:
        """The options of its command line, without data and devices."""
        options = dict(self.options)
        if self.candidates:
            options["seed"] = min(self.candidates, key=_error).options["seed"]
        found: Any = self.architecture
        if self.search is not None:
            found = self.search.folder / RESULT["search"]
        if found is not None:
            baseline = options.get("random") or options.get("full-network")
            options["like" if baseline else "architecture"] = str(found)
        return words({**options, "save-dir": str(self.folder)})


@dataclass(frozen=True)
class Experiment:
    """An experiment at one scale; `data_sets` has that of each stage."""

    name: str
    scale: str
    description: str
    data_sets: Mapping[str, str]
    seeds: Tuple[int, ...]
    rows: Tuple[Row, ...]
    measure: str = "test_error"
    note: str = ""
    columns: Tuple[str, ...] = ()

    def tasks(self, out: PathLike, seeds: Optional[Sequence[int]] = None) -> List[Task]:
        """All runs, seed by seed; each comes after the search that it needs."""
        tasks: List[Task] = []
        for seed in self.seeds if seeds is None else seeds:
            searches: Dict[str, Task] = {}
            for stage in STAGES:
                for row in self.rows:
                    if stage == "search" and row.of != row.name:
                        continue
                    folder = Path(out) / slug(row.name) / f"seed{seed}" / stage
                    options = {**row.options[stage], "seed": seed}
                    search = searches.get(row.of or "")
                    task = Task(stage, row.name, seed, options, folder, search, row.architecture)
                    if stage == "train" and row.candidates:
                        task = replace(task, candidates=_candidates(task, row))
                        tasks += task.candidates
                    tasks.append(task)
                    if stage == "search":
                        searches[row.name] = task
        return tasks

    def check(self, scripts: Mapping[str, Callable[[List[str]], None]]) -> None:
        """Let the parser of each stage's script refuse what it does not know.

        Parameters
        ----------
        scripts : mapping of stage to callable
            It gets the words of a command line, and raises ValueError.
        """
        for task in self.tasks("out", self.seeds[:1]):
            try:
                scripts[task.stage](task.words())
            except ValueError as error:
                raise ValueError(f"row {task.row!r}, {task.stage}: {error}") from None


def _candidates(task: Task, row: Row) -> Tuple[Task, ...]:
    """What chooses the seed of a training."""
    return tuple(
        replace(
            task,
            options={
                **task.options,
                **row.candidate,
                "seed": (task.seed + 1) * MOST_CANDIDATES + number,
            },
            folder=task.folder.with_name(f"candidate{number}"),
            chooses=True,
        )
        for number in range(row.candidates)
    )


def _error(candidate: Task) -> float:
    """Of a training that is done, else infinite."""
    path = candidate.folder / RESULT["train"]
    return float(read_json(path, lambda data: data["test_error"])) if path.is_file() else math.inf


def of_rows(tasks: Sequence[Task], rows: Sequence[str]) -> List[Task]:
    """The tasks of some rows, and the searches that they need."""
    known = {task.row for task in tasks}
    for row in rows:
        if row not in known:
            raise ValueError(f"there is no row {shown(row)}, only {', '.join(sorted(known))}")
    chosen = [task for task in tasks if task.row in rows]
    needed = [need for task in chosen for need in task.needs]
    return [task for task in tasks if task in chosen or task in needed]


def words(options: Mapping[str, Any]) -> List[str]:
    """``{'gamma': 0.01, 'full-network': True}`` as ``--gamma 0.01 --full-network``."""
    found: List[str] = []
    for name, value in options.items():
        if value is True:
            found.append(f"--{name}")
        elif value is not False:
            found += [f"--{name}", str(value)]
    return found


def slug(name: str) -> str:
    """A name for a folder: ``'Random, full'`` gives ``random-full``."""
    return re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-")
