"""Search and training in segmentation that are killed in mid-epoch, and resumed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from dsonas_mx import Architecture

import pytest

from symbols.segmentation import voc_space

ROOT = Path(__file__).resolve().parents[1]
SPACE = {"levels": 1, "operations": ("sep3", "max"), "blocks": (1, 1), "width": 4}
SEARCH = ["train/search_voc.py", "--data", "garden", "--levels", 1, "--operations", "sep3,max"]
SEARCH += ["--blocks", 1, "--width", 4, "--split", "1:1", "--pretrain-epochs", 1]
SEARCH += ["--num-epochs", 6, "--mirror", "off"]
TRAIN = ["train/train_voc.py", "--stages", "garden:2:0.05,garden:5:0.02", "--test-every", 3]


def start(words, scenes_folder, folder, *more):
    """A process with a checkpoint after every step."""
    data = ["--data-dir", scenes_folder.parent, "--crop", 24, "--batch-size", 2]
    run = ["--checkpoint-minutes", 1e-6, "--save-dir", folder]
    return subprocess.Popen(
        [sys.executable, *map(str, [*words, *data, *run, *more])],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    return out


def place(folder):
    """Epoch and step of the newest checkpoint."""
    for path in sorted((folder / "checkpoint").glob("0*"), reverse=True):
        try:
            loop = json.loads((path / "state.json").read_text())["state"]["loop"]
        except FileNotFoundError:  # just removed
            continue
        return loop["epoch"], loop["position"]
    return 0, 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["search", "train"])
def test_a_kill_in_mid_epoch_changes_nothing(kind, scenes_folder, tmp_path):
    """Of the search in its second epoch of λ, of the training in the first of its second stage."""
    words = SEARCH
    tables = ["metrics.csv", "lambdas.csv", "architecture.json", "model.params"]
    if kind == "train":
        path = tmp_path / "found.json"
        Architecture.complete(voc_space(**SPACE)).save(path)
        words = [*TRAIN, "--architecture", path]
        tables = ["metrics.csv", "architecture.json", "model.params", "result.json"]
        tables += ["model-symbol.json", "model-0000.params", "pictures/val1.png"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    finish(start(words, scenes_folder, whole))
    process = start(words, scenes_folder, run)
    while not (place(run)[0] == 2 and place(run)[1] > 0):
        assert process.poll() is None and place(run)[0] <= 2
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert not (run / "model.params").exists()
    epoch, step = place(run)
    assert 2 <= epoch < 4
    out = finish(start(words, scenes_folder, run, "--resume"))
    assert f"epoch {epoch + 1}, step {step + 1}\n" in out
    for name in tables:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
