#!/usr/bin/env python
"""What each budget does: search with and without it, at the same number of connections.

Each row of docs/results/budgets.json is a search on the embedded Fashion-MNIST, whose architecture
is taken where so many connections are left, trained from scratch, and its latency measured when all
else is done. Searches for latency share a table that is measured first. Rows that are there are not
run again. docs/results/budgets.md is the table of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.cost.count import count
from dsonas_mx.io.files import atomic, write_json
from dsonas_mx.search.budget import flops_by_block

ROOT = Path(__file__).resolve().parents[1]
ROWS = "full-none,full-flops,full-mac,share-none,share-latency"
SPACES = {"full": "--levels 2 --blocks 3", "share": "--levels 4 --blocks 1"}
CONNECTIONS = {"full": 60, "share": 30}
SEARCH = "--pretrain-epochs 2 --num-epochs 10 --patience 10"
# Those that make γ smaller for some need a larger one to be left with as many connections.
GAMMAS = {"none": 0.015, "flops": 0.015, "mac": 0.04, "latency": 0.025}
TRAIN = "--num-epochs 6 --period 6"
RUNS = 201  # of each network, for its latency
TABLE = SearchSpace.cifar10(blocks=(1, 1, 1), width=8, in_channels=1, image_size=28)  # of share
COLUMNS = {  # of the rows: heading, unit, format
    "connections": ("connections", 1, ".0f"),
    "flops_spread": ("spread of FLOPs over blocks", 1, ".3f"),
    "mac": ("MAC, 1,000", 1e-3, ".0f"),
    "latency_ms": ("latency, ms", 1, ".3f"),
    "latency_noise_ms": ("its noise, ms", 1, ".3f"),
    "test_error": ("test error, %", 100, ".2f"),
}

Key = Tuple[str, str, int]  # scope, budget, seed


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="so many, from 0")
    parser.add_argument("--jobs", type=int, default=2, help="rows at a time, a core each")
    parser.add_argument("--rows", default=ROWS, help="scopes and budgets")
    parser.add_argument("--runs", default="runs/budgets", help="where the run folders are kept")
    parser.add_argument("--results", default="docs/results", help="where the rows and table go")
    return parser


def script(name: str, log: Path, *words: str) -> None:
    """Run a script of the project on one core."""
    with open(log, "w", encoding="utf-8") as file:
        command = [sys.executable, str(ROOT / name), *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, stdout=file, stderr=file, env=environment, check=False)
    if done.returncode:
        raise ArithmeticError(f"{name} failed: {log.read_text(encoding='utf-8').splitlines()[-1]}")


def run_row(folder: Path, key: Key) -> str:
    """Search and train what a row needs, unless that was done; how long it took."""
    from dsonas_mx.experiments.search_path import with_connections

    scope, budget, seed = key
    start = time.time()
    if not (folder / "train" / "result.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        path, shared = folder / "architecture.json", ["--seed", str(seed), "--save-dir"]
        words = ["--scope", scope, "--budget", budget, *SPACES[scope].split()]
        words += [*SEARCH.split(), "--gamma", str(GAMMAS[budget]), *shared, f"{folder}/search"]
        if budget == "latency":
            words += ["--latency-table", str(folder.parent / "latency.json")]
        script("train/search_cifar.py", folder / "search.txt", "--demo", *words)
        with_connections(folder / "search", CONNECTIONS[scope]).save(path)
        words = ["--architecture", str(path), *TRAIN.split(), *shared, f"{folder}/train"]
        script("train/train_cifar.py", folder / "train.txt", "--demo", *words)
    return f"{folder}: {(time.time() - start) / 60:.1f} minutes"


def measure_table(runs: Path) -> None:
    """The latency table of the share scope's searches, unless it is there."""
    table = runs / "latency.json"
    if not table.exists():
        runs.mkdir(parents=True, exist_ok=True)
        Architecture.complete(TABLE).save(runs / "complete.json")
        words = [str(runs / "complete.json"), "--table", str(table), "--runs", "101"]
        script("tools/measure_latency.py", runs / "latency.txt", *words)


def rows_of(folders: Mapping[Key, Path]) -> Dict[Key, Dict[str, Any]]:
    """The rows of complete runs; their networks take turns in the measurement of latency."""
    from dsonas_mx.engine.timing import alternate
    from dsonas_mx.latency.measure import Latency, deploy, input_shape

    import mxnet as mx

    from symbols import get_model

    found = {
        key: Architecture.load(folder / "architecture.json") for key, folder in folders.items()
    }
    networks = {
        str(key): deploy(get_model("dsonas", one), input_shape(one, 1), mx.cpu())
        for key, one in found.items()
    }
    seconds = alternate(networks, RUNS, warm_up=10)
    rows = {}
    for key, architecture in found.items():
        latency = Latency.of([1e3 * value for value in seconds[str(key)]])
        flops = flops_by_block(architecture)
        rows[key] = {
            **dict(zip(("scope", "budget", "seed"), key)),
            "connections": architecture.num_connections,
            "flops_spread": float(flops.std() / flops.mean()),
            "mac": count(architecture).memory_access,
            "latency_ms": latency.median_ms,
            "latency_noise_ms": latency.noise_ms,
            "test_error": read_json(folders[key] / "train" / "result.json")["test_error"],
        }
    return rows


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: mean and standard deviation (n − 1) over the seeds of each scope and budget."""
    headings = ("scope", "budget", "seeds", *(heading for heading, _, _ in COLUMNS.values()))
    lines = [headings, ("-",) * len(headings)]
    for scope, budget in dict.fromkeys((row["scope"], row["budget"]) for row in rows):
        group = [row for row in rows if (row["scope"], row["budget"]) == (scope, budget)]
        cells = [scope, budget, str(len(group))]
        for name, (_, unit, form) in COLUMNS.items():
            values = [unit * row[name] for row in group]
            spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):{form}}{spread}")
        lines.append(tuple(cells))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(options: argparse.Namespace) -> None:
    wanted = options.rows.split(",")
    if not set(wanted) <= set(ROWS.split(",")):
        raise ValueError(f"--rows must be out of {ROWS}, got {options.rows}")
    names = [(*row.split("-"), seed) for seed in range(options.seeds) for row in wanted]
    results = Path(options.results)
    path = results / "budgets.json"
    rows = {
        (row["scope"], row["budget"], row["seed"]): row
        for row in (read_json(path) if path.exists() else [])
    }
    missing = [name for name in names if name not in rows]
    folders = {key: Path(options.runs) / "-".join(map(str, key)) for key in [*rows, *missing]}
    if any(budget == "latency" for _, budget, _ in missing):
        measure_table(Path(options.runs))
    with ThreadPoolExecutor(options.jobs) as pool:
        for line in pool.map(lambda key: run_row(folders[key], key), missing):
            print(line, flush=True)
    if missing:  # latencies are compared with each other: all that can be are measured again
        rows.update(rows_of({key: folders[key] for key in folders if folders[key].exists()}))
    ordered = [rows[key] for key in sorted(rows)]
    results.mkdir(parents=True, exist_ok=True)
    write_json(path, ordered)
    with atomic(results / "budgets.md") as temporary:
        temporary.write_text(table_of(ordered), encoding="utf-8")
    print(table_of(ordered), end="")


if __name__ == "__main__":
    run(main, arguments())
