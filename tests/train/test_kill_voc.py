"""Search and training in segmentation that are killed in mid-epoch, and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dsonas_mx import Architecture

import pytest

from symbols.segmentation import voc_space

ROOT = Path(__file__).resolve().parents[2]
SPACE = {"levels": 1, "operations": ("sep3", "max"), "blocks": (1, 1), "width": 4}
SEARCH = ["train/search_voc.py", "--data", "garden", "--levels", 1, "--operations", "sep3,max"]
SEARCH += ["--blocks", 1, "--width", 4, "--split", "1:1", "--pretrain-epochs", 1]
SEARCH += ["--num-epochs", 6, "--mirror", "off"]
TRAIN = ["train/train_voc.py", "--stages", "garden:2:0.05,garden:5:0.02", "--test-every", 3]


def start(words, scenes_folder, folder, *more, launch=()):
    """A process, or those of a launcher, with a checkpoint after every step."""
    data = ["--data-dir", scenes_folder.parent, "--crop", 24, "--batch-size", 2]
    run = ["--checkpoint-minutes", 1e-6, "--save-dir", folder]
    return subprocess.Popen(
        [*launch, sys.executable, *map(str, [*words, *data, *run, *more])],
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


def until(process, folder, epoch):
    """In the middle of an epoch, which counts from 0."""
    while not (place(folder)[0] == epoch and place(folder)[1] > 0):
        assert process.poll() is None and place(folder)[0] <= epoch
        time.sleep(0.005)


def place(folder):
    """Epoch and step of the newest checkpoint."""
    for path in sorted((folder / "checkpoint").glob("0*"), reverse=True):
        try:
            loop = json.loads((path / "state.json").read_text())["state"]["loop"]
        except FileNotFoundError:  # just removed
            continue
        return loop["epoch"], loop["position"]
    return 0, 0


@pytest.fixture(params=["search", "train"])
def work(request, tmp_path):
    """The words of a script, and the files that it leaves."""
    if request.param == "search":
        return SEARCH, ["metrics.csv", "lambdas.csv", "architecture.json", "model.params"]
    path = tmp_path / "found.json"
    Architecture.complete(voc_space(**SPACE)).save(path)
    tables = ["metrics.csv", "architecture.json", "model.params", "result.json"]
    tables += ["model-symbol.json", "model-0000.params", "pictures/val1.png"]
    return [*TRAIN, "--architecture", path], tables


@pytest.mark.slow
def test_a_kill_in_mid_epoch_changes_nothing(work, scenes_folder, tmp_path):
    """Of the search in its second epoch of λ, of the training in the first of its second stage."""
    words, tables = work
    whole, run = tmp_path / "whole", tmp_path / "run"
    finish(start(words, scenes_folder, whole))
    process = start(words, scenes_folder, run)
    until(process, run, 2)
    process.kill()
    process.communicate()
    assert not (run / "model.params").exists()
    epoch, step = place(run)
    assert 2 <= epoch < 4
    out = finish(start(words, scenes_folder, run, "--resume"))
    assert f"epoch {epoch + 1}, step {step + 1}\n" in out
    for name in tables:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed_find_what_two_devices_do(
    work, scenes_folder, tmp_path, pid_of_worker
):
    """With a test set of three scenes, of which the workers take two and one."""
    words, tables = work
    launch = [sys.executable, "tools/launch.py", "-n", "2", "-s", "1"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    finish(start(words, scenes_folder, whole, "--cpus", 2))
    several = ["--kv-store", "dist_sync"]
    process = start(words, scenes_folder, run, *several, launch=launch)
    until(process, run, 2)
    os.kill(pid_of_worker(1, run), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert "launch.py: worker 1 was ended by SIGKILL: go on with --resume" in err
    assert not (run / "model.params").exists()
    out = finish(start(words, scenes_folder, run, *several, "--resume", launch=launch))
    assert "going on from" in out
    for name in tables:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
