"""The numbers of tables 1 to 9 of the paper."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Optional

TABLES = tuple(str(number) for number in range(1, 10))


@lru_cache(maxsize=None)
def read_paper() -> Dict[str, Any]:
    """``paper.json``: for each table its title, columns with their units, rows and notes.

    Errors, accuracies and mIoU are in percent. Parameters and multiply-adds are counts. A value
    with a deviation is ``{"mean": …, "std": …}``; one that the paper does not give is None.
    """
    path = Path(__file__).with_name("paper.json")
    return json.loads(path.read_text(encoding="utf-8"))["tables"]


def experiment_of(number: str) -> str:
    """The name of the experiment that does rows of a table: of its file, and of its results."""
    return "imagenet" if number in ("2", "3", "5") else f"table{number}"


# Rows of the paper's tables, and the rows of their experiments that do the same. The share scope of
# table 2 is that of table 5 with adaptive latency; the experiment is without.
_PRETRAINING = {0: "none", 60: "half", 120: "usual", 150: "longer"}
EXPERIMENTS: Dict[str, Dict[str, str]] = {
    "1": {
        "DSO-NAS-share+cutout": "searched, share",
        "DSO-NAS-full+cutout": "searched, full",
        "random-share+cutout": "random, share",
        "random-full+cutout": "random, full",
        "full network+cutout": "full network",
    },
    "2": {"DSO-NAS-full": "full", "random-share": "random, share"},
    "3": {"DSO-NAS(GPU)": "mobile, GPU", "DSO-NAS(CPU)": "mobile, CPU"},
    "4": {
        "DSO-NAS-seg": "DSO-NAS-seg",
        "DSO-NAS-cls": "DSO-NAS-cls",
        "Mobilenet v2 [46]": "MobileNetV2",
    },
    "5": {"DSO-Nas-share": "share"},
    "6": {
        f"{epochs} epochs, {scope}": f"{name}, {scope}"
        for epochs, name in _PRETRAINING.items()
        for scope in ("full", "share")
    },
    "7": {
        f"{ratio}, {scope}": f"{ratio}, {scope}"
        for ratio in ("no split", "1:1", "3:1", "4:1")
        for scope in ("full", "share")
    },
    "8": {f"M = {levels}": f"M = {levels}" for levels in (2, 3, 4, 5)},
    "9": {f"N = {operations}": f"N = {operations}" for operations in (2, 3, 4, 5)},
}

# What the paper (in GB) and the authors' graphs say of their supernets; those were bound with
# MXNet 1.9.1 on a CPU, 64 samples on CIFAR-10 and 32 on ImageNet, by their plan of recomputation.
SUPERNETS: Dict[str, Dict[str, Any]] = {
    "CIFAR-10, share": {"paper_mb": 2300, "release_parameters": 10_031_130, "release_mb": 1338},
    "CIFAR-10, full": {"paper_mb": 2300, "release_parameters": 10_033_982, "release_mb": None},
    "ImageNet, share": {"paper_mb": 3200, "release_parameters": 12_459_688, "release_mb": 1053},
}


def paper_difference(experiment: str, reference: str, row: str) -> Optional[float]:
    """How much larger the paper's measure is in a row of an experiment than in its reference.

    A fraction, as results are; None where the paper has not both rows in one table.
    """
    for number in filter(lambda number: experiment_of(number) == experiment, TABLES):
        table = read_paper()[number]
        ours = EXPERIMENTS.get(number, {})
        values = {ours[r["name"]]: _measure(r) for r in table["rows"] if r["name"] in ours}
        if row in values and reference in values:
            return (values[row] - values[reference]) / 100
    return None


def _measure(row: Dict[str, Any]) -> float:
    """What the table of the row is about, in percent."""
    value = next(row[key] for key in ("error", "top1_error", "miou") if key in row)
    return float(value["mean"] if isinstance(value, dict) else value)
