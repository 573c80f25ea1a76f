"""Pictures of a run: the block's graph, λ over the epochs of a search, learning curves; of many
runs: error against cost.

The drawing functions take data and return a matplotlib Figure; `draw_run` reads a run folder, and
`draw_runs` many, and writes PNG files. No display is needed, and pyplot is left alone.
"""

import io
import math
from dataclasses import asdict
from functools import singledispatch
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from matplotlib.figure import Figure

from ..cost.count import count
from ..io.checks import shown
from ..io.files import PathLike, atomic, in_file, read_json, unique_names
from ..space.architecture import Architecture
from ..space.mobile_architecture import MobileArchitecture, load_architecture
from .agreement import draw_agreement
from .answers import draw_confusion, draw_mistakes
from .block import draw_block, draw_blocks
from .curves import draw_curves
from .lambdas import draw_lambdas
from .mobile import draw_mobile
from .pareto import BUDGETS, Point, draw_pareto
from .seeds import draw_seeds
from .table import read_table

__all__ = [
    "draw_agreement",
    "draw_architecture",
    "draw_block",
    "draw_blocks",
    "draw_confusion",
    "draw_curves",
    "draw_lambdas",
    "draw_mistakes",
    "draw_mobile",
    "draw_pareto",
    "draw_run",
    "draw_runs",
    "draw_seeds",
    "png",
    "read_table",
    "save",
]

_DPI = 150
_MOST_PIXELS = 10_000  # of a side, whatever is drawn


@singledispatch
def draw_architecture(architecture: Any) -> Figure:
    """What was found: the block that all share, each block of the full scope, or the network."""
    draw = draw_block if architecture.space.scope == "share" else draw_blocks
    return draw(architecture)


draw_architecture.register(MobileArchitecture, draw_mobile)


def draw_run(folder: PathLike, out: Optional[PathLike] = None) -> List[Path]:
    """Draw what a run folder has: ``block.png``, ``lambdas.png``, ``curves.png``.

    Of the mobile setting the first is ``blocks.png``.

    Parameters
    ----------
    folder : path
        With any of ``architecture.json``, ``lambdas.csv`` and ``metrics.csv``.
    out : path, optional
        Where the pictures go: made if it is not there; the run folder by default.

    Returns
    -------
    list of Path
        The files written. Nothing is written unless all can be drawn.

    Raises
    ------
    ValueError
        There is nothing to draw, or a file is damaged; the message names it.
    OSError
        A file cannot be read or written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    figures: Dict[str, Figure] = {}
    if (folder / "architecture.json").exists():
        architecture = load_architecture(folder / "architecture.json")
        several = architecture.network == "mobile"
        figures["blocks.png" if several else "block.png"] = draw_architecture(architecture)
    waiting = False
    for name, picture, draw_table in (
        ("lambdas.csv", "lambdas.png", draw_lambdas),
        ("metrics.csv", "curves.png", draw_curves),
    ):
        path = folder / name
        if path.exists():
            table = read_table(path)
            if not len(table["epoch"]):
                waiting = True  # a run that has only begun
                continue
            with in_file(path):
                figures[picture] = draw_table(table)
    if not figures:
        if waiting:
            raise ValueError(f"{folder}: the run has not finished an epoch yet")
        raise ValueError(
            f"{folder}: nothing to draw: no architecture.json, lambdas.csv or metrics.csv"
        )
    out = folder if out is None else Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: not a folder")
    out.mkdir(parents=True, exist_ok=True)
    return [save(figure, out / picture) for picture, figure in figures.items()]


def draw_runs(folders: Sequence[PathLike], out: PathLike = ".") -> Path:
    """Draw the error of trained networks against their costs: ``pareto.png``.

    Parameters
    ----------
    folders : sequence of path
        Run folders of trainings, with ``architecture.json``, whose origin has the budget, and
        ``result.json``.
    out : path
        Where the picture goes: made if it is not there.

    Raises
    ------
    ValueError
        A file is damaged, or not of a training; the message names it.
    OSError
        A file cannot be read or written.
    """
    paths = [Path(folder) for folder in folders]
    named = zip(paths, unique_names(paths))
    figure = draw_pareto([_point(folder, name) for folder, name in named])
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    return save(figure, out / "pareto.png")


def _point(folder: Path, name: str) -> Point:
    architecture = Architecture.load(folder / "architecture.json")
    path = folder / "result.json"
    try:
        error = read_json(path)["test_error"]
        if isinstance(error, bool) or not math.isfinite(error):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path}: no test_error that is a number") from None
    budget = architecture.origin.get("budget", "none")
    if budget not in BUDGETS:
        raise ValueError(f"{folder}: the architecture is of an unknown budget {shown(budget)}")
    return Point(budget, architecture.space.scope, error, asdict(count(architecture)), name)


def png(figure: Figure) -> bytes:
    """A figure for a screen."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=70, metadata={"Software": None})
    return content.getvalue()


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG; the same data give the same file, whatever version drew it."""
    dpi = min(_DPI, _MOST_PIXELS / max(figure.get_size_inches()))
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png", metadata={"Software": None})
    return path
