"""Runs that were stopped before the code was rebuilt go on: files keep their meaning."""

import csv
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SEARCH = (
    "train/search_cifar.py --demo --width 2 --levels 2 --operations sep3,max --batch-size 300 "
    "--pretrain-epochs 1 --num-epochs 3 --gamma 0.05 --shrink-every 1"
).split()
TRAIN = "train/train_cifar.py --demo --width 2 --batch-size 300 --num-epochs 3".split()


@pytest.mark.slow
@pytest.mark.parametrize("name, words", [("search", SEARCH), ("train", TRAIN)])
def test_a_run_of_before_goes_on(name, words, script, golden, tmp_path, plain):
    folder = shutil.copytree(golden / "before" / name, tmp_path / name, symlinks=True)
    begun = (folder / "metrics.csv").read_text()
    options = ["--save-dir", folder, "--resume"]
    if name == "train":
        options += [
            "--architecture",
            ROOT / "symbols/architectures/dsonas_share_fashion_mnist.json",
        ]
    status, _, error = script(*words, *options)
    assert status == 0, error
    table = (folder / "metrics.csv").read_text()
    assert table.startswith(begun)
    rows = list(csv.DictReader(table.splitlines()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) > len(begun.splitlines()) - 1
