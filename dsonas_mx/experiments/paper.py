"""The numbers of tables 1 to 9 of the paper."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Optional

TABLES = tuple(str(number) for number in range(1, 10))


@lru_cache(maxsize=None)
def _read() -> Dict[str, Any]:
    path = Path(__file__).with_name("paper.json")
    return json.loads(path.read_text(encoding="utf-8"))


def read_paper() -> Dict[str, Any]:
    """``paper.json``: for each table its title, columns with their units, rows and notes.

    Its `experiment` is the name of ours that does some of the rows, of its file and of its results,
    and `runs` says which: by the paper's name the row of ours. (The share scope of table 2 is that
    of table 5 with adaptive latency; the experiment is without.)

    Errors, accuracies and mIoU are in percent. Parameters and multiply-adds are counts. A value
    with a deviation is ``{"mean": …, "std": …}``; one that the paper does not give is None.
    """
    return _read()["tables"]


def read_supernets() -> Dict[str, Dict[str, Any]]:
    """What the paper (in GB) and the authors' graphs say of their supernets.

    Those were bound with MXNet 1.9.1 on a CPU, 64 samples on CIFAR-10 and 32 on ImageNet, by their
    plan of recomputation.
    """
    return _read()["supernets"]


def paper_difference(experiment: str, reference: str, row: str) -> Optional[float]:
    """How much larger the paper's measure is in a row of an experiment than in its reference.

    A fraction, as results are; None where the paper has not both rows in one table.
    """
    for table in read_paper().values():
        if table["experiment"] != experiment:
            continue
        ours = table["runs"]
        values = {ours[r["name"]]: _measure(r) for r in table["rows"] if r["name"] in ours}
        if row in values and reference in values:
            return (values[row] - values[reference]) / 100
    return None


def _measure(row: Dict[str, Any]) -> float:
    """What the table of the row is about, in percent."""
    value = next(row[key] for key in ("error", "top1_error", "miou") if key in row)
    return float(value["mean"] if isinstance(value, dict) else value)
