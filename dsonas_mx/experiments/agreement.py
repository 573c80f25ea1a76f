"""Agreement: how alike are the searches of several seeds, and how alike they would be by chance.

A search that chooses by signal finds much the same with every seed. Two measures say how far it
does, each a mean over all pairs of seeds and, in the full scope, over the blocks: the Jaccard index
of the kept connections, and the rank correlation (Spearman) of λ after each epoch. That is also
taken of the mean λ of each kind of connection, as sep3 → max: levels 2 to M are nearly alike, so
two seeds may find the same at other levels.
"""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from ..io.files import PathLike
from ..plots import draw_agreement, read_table
from ..space.architecture import Architecture
from ..space.mobile_architecture import AnyArchitecture, load_architecture
from ..space.normal import SearchSpace

DRAWS = 100  # blocks of each seed, for the level by chance
_LEAST_DRAWS = 10  # networks of each seed, where a network has many blocks
_NOTED = ("kept connections: Jaccard index", "λ: rank correlation")
_NORMAL = 1.96  # standard deviations of an interval of 95 %

Summary = Dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What a search found, and λ after each of its epochs.

    Attributes
    ----------
    architecture : Architecture
    lambdas : numpy.ndarray, epochs × structures × connections
    """

    architecture: Architecture
    lambdas: np.ndarray

    def after(self, epoch: int) -> np.ndarray:
        """λ after an epoch, counted from 0; a search that has ended changes no more."""
        return self.lambdas[min(epoch, len(self.lambdas) - 1)]


def read_search(folder: PathLike) -> Optional[Found]:
    """The search in a run folder; None if it is of the mobile setting, which has no connections.

    Raises
    ------
    ValueError
        A file is damaged, or λ are not those of the architecture; the message names it.
    OSError
        A file cannot be read.
    """
    architecture: AnyArchitecture = load_architecture(Path(folder) / "architecture.json")
    if not isinstance(architecture, Architecture):
        return None
    space = architecture.space
    path = Path(folder) / "lambdas.csv"
    columns = {name: values for name, values in read_table(path).items() if "->" in name}
    named = {name.split(":")[-1] for name in columns}
    if named != {c.name for c in space.connections} or len(columns) != space.num_connections:
        raise ValueError(f"{path}: its columns are not the connections of the architecture")
    lambdas = np.stack(list(columns.values()), axis=1)
    return Found(architecture, lambdas.reshape(len(lambdas), space.num_structures, -1))


def read_searches(folders: Sequence[PathLike]) -> List[Found]:
    """Of these run folders, the searches of the normal setting that have done an epoch."""
    found = map(read_search, folders)
    return [search for search in found if search is not None and len(search.lambdas)]


def agreement(searches: Sequence[Found]) -> Optional[Dict[str, Any]]:
    """How alike searches of one space are; None of fewer than two.

    Returns
    -------
    dict
        ``n``; ``jaccard`` with its mean and that of connected random blocks with the same numbers
        of connections (``chance``: mean, and the interval that has 95 % of them); ``spearman``
        after each epoch in which λ differ (``mean``; ``kinds`` of the mean λ of each kind;
        ``averaged`` of λ averaged over these epochs so far; and from the second of them on
        ``itself`` of λ of one seed and its own an epoch before, how far λ have settled), and
        ``spearman_chance``, that of λ put in random order; ``operations``, how much of its levels
        each operation is kept in.

    Raises
    ------
    ValueError
        The searches are of several spaces.
    """
    if len(searches) < 2:
        return None
    spaces = {search.architecture.space for search in searches}
    if len(spaces) > 1:
        raise ValueError("agreement is of searches of one space, these are of several")
    architectures = [search.architecture for search in searches]
    counts = tuple(tuple(map(sum, found.kept)) for found in architectures)
    space = spaces.pop()
    return {
        "n": len(searches),
        "jaccard": {
            "mean": mean_jaccard([found.kept for found in architectures]),
            "chance": chance_jaccard(space, counts),
        },
        "spearman": spearman_by_epoch(searches),
        "spearman_chance": {
            "mean": chance_spearman(len(space.connections), len(searches), space.num_structures),
            "kinds": chance_spearman(len(kinds_of(space)), len(searches), space.num_structures),
        },
        "operations": operations_kept(architectures),
    }


def jaccard(first: Sequence[bool], second: Sequence[bool]) -> float:
    """|A ∩ B| / |A ∪ B| of the connections that two blocks keep; 1 if neither keeps any."""
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """The rank correlation; NaN where one of the two is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(stats.rankdata(first), stats.rankdata(second))[0, 1])


def mean_jaccard(kept: Sequence[Sequence[Sequence[bool]]]) -> float:
    """Of seeds × structures × connections: the mean over pairs of seeds, structure by structure."""
    return _over_pairs(jaccard, kept)


def spearman_by_epoch(searches: Sequence[Found]) -> List[Summary]:
    """Of each epoch after which λ of two seeds differ, see `agreement`."""
    kinds = list(kinds_of(searches[0].architecture.space).values())
    rows: List[Summary] = []
    sums: Any = 0
    before: List[np.ndarray] = []
    for epoch in range(max(len(search.lambdas) for search in searches)):
        lambdas = [search.after(epoch) for search in searches]
        mean = _over_pairs(spearman, lambdas)
        if math.isnan(mean):
            continue
        of_kinds = [np.stack([one[:, k].mean(1) for k in kinds], 1) for one in lambdas]
        sums = sums + np.stack(lambdas)
        row = {"epoch": epoch + 1, "mean": mean, "kinds": _over_pairs(spearman, of_kinds)}
        row["averaged"] = _over_pairs(spearman, sums)
        if before:
            row["itself"] = _mean(map(spearman, np.concatenate(before), np.concatenate(lambdas)))
        rows.append(row)
        before = lambdas
    return rows


def kinds_of(space: SearchSpace) -> Dict[Tuple[str, str], List[int]]:
    """Which connections are from one operation (or the input) to another (or the output)."""
    kinds: Dict[Tuple[str, str], List[int]] = {}
    for index, connection in enumerate(space.connections):
        source, target = (node.split(".")[-1] for node in connection)
        kinds.setdefault((source, target), []).append(index)
    return kinds


def chance_spearman(values: int, seeds: int, structures: int) -> Summary:
    """The level of so many λ in random order: its variance is 1/(values − 1) for each pair."""
    pairs = math.comb(seeds, 2) * structures
    return _summary(0.0, 1 / math.sqrt(max(values - 1, 1) * pairs))


@lru_cache(maxsize=None)
def chance_jaccard(space: SearchSpace, counts: Tuple[Tuple[int, ...], ...]) -> Summary:
    """The level of connected random blocks: `counts` has the connections, seeds × structures."""
    draws = max(DRAWS // space.num_structures, _LEAST_DRAWS)
    seed = itertools.count()
    values = [
        mean_jaccard([Architecture.random(space, next(seed), each).kept for each in counts])
        for _ in range(draws)
    ]
    return _summary(float(np.mean(values)), float(np.std(values, ddof=1)))


def operations_kept(architectures: Sequence[Architecture]) -> Dict[str, float]:
    """For each operation, the share of its levels in which it is kept, over seeds and blocks."""
    space = architectures[0].space
    live = [
        node.split(".")[1]
        for found in architectures
        for structure in range(space.num_structures)
        for node in found.live_nodes(structure)
    ]
    most = len(architectures) * space.num_structures * space.levels
    return {name: live.count(name) / most for name in space.operations}


def _over_pairs(measure: Callable[[Any, Any], float], seeds: Sequence[Any]) -> float:
    """The mean of a measure over pairs of seeds and structures, without what has none (NaN)."""
    values = [
        measure(one, other)
        for first, second in itertools.combinations(seeds, 2)
        for one, other in zip(first, second)
    ]
    return _mean(values)


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _summary(mean: float, deviation: float) -> Summary:
    reach = _NORMAL * deviation
    return {"mean": mean, "low": mean - reach, "high": mean + reach}


def rows_of(agreements: Mapping[str, Mapping[str, Any]]) -> List[List[str]]:
    """A table of the agreement of some searches by name, its head first."""
    head = (
        "agreement of|n|kept connections (by chance)|λ, first epoch|λ, end (by chance)|"
        "kinds, end (by chance)|levels that keep an operation"
    )
    rows = [head.split("|")]
    for name, found in agreements.items():
        kept, ranks, level = found["jaccard"], found["spearman"], found["spearman_chance"]
        first, last = (ranks[0], ranks[-1]) if ranks else ({}, {})
        kept_in = ", ".join(f"{one} {share:.0%}" for one, share in found["operations"].items())
        rows.append(
            [
                name,
                str(found["n"]),
                _shown(kept["mean"], kept["chance"]),
                f"{first['mean']:.2f}" if ranks else "–",
                _shown(last["mean"], level["mean"]) if ranks else "–",
                *(f"{last[key]:.2f}" if key in last else "–" for key in ("averaged", "itself")),
                _shown(last["kinds"], level["kinds"]) if ranks else "–",
                kept_in,
            ]
        )
    return rows


def _shown(value: float, chance: Summary) -> str:
    return f"{value:.2f} ({chance['low']:.2f} to {chance['high']:.2f})"


def draw(searches: Sequence[Found]) -> Figure:
    """λ of each connection over searches that differ in their seeds alone, sorted.

    Raises
    ------
    ValueError
        Fewer than two, or of several spaces.
    """
    alike = agreement(searches)
    if alike is None:
        raise ValueError("agreement is of two searches or more, of the normal setting")
    (row,) = rows_of({"": alike})[1:]
    notes = [f"{title} {value[:-1]} by chance)" for title, value in zip(_NOTED, row[2:5:2])]
    lambdas = np.stack([search.lambdas[-1] for search in searches])
    return draw_agreement(searches[0].architecture.space, lambdas, notes)
