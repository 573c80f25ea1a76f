"""The scripts, from the command line to the files: what they write, and how they refuse.

The images are those of the demo where a script runs in a process of its own, else a tiny CIFAR.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from dsonas_mx import SearchSpace
from dsonas_mx.deploy.export import import_symbol
from dsonas_mx.engine import device
from dsonas_mx.io.params_file import read_params

import mxnet as mx
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SEARCH, TRAIN, EXPORT = "train/search_cifar.py", "train/train_cifar.py", "tools/export.py"

# One level, so that there is little to compile; two stages, so that there is a reduction.
NETWORK = ["--levels", 1, "--blocks", "1,1", "--width", 4, "--operations", "avg,sep3"]
SMALL_SEARCH = [*NETWORK, "--batch-size", 20, "--pretrain-epochs", 0, "--num-epochs", 1]
SMALL_TRAIN = ["--batch-size", 40, "--num-epochs", 1, "--auxiliary", 0]


def process(name, *words):
    """Run a script in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, str(ROOT / name), *map(str, words)],
        env={**environment, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


TRAIN_COLUMNS = ["epoch", "learning_rate", "train_loss", "train_error", "test_loss", "test_error"]


# The whole way


def test_search_train_export(script, check_search, small_cifar, tmp_path):
    """The search in a process of its own."""
    folder = tmp_path / "search"
    small = ["--data-dir", small_cifar, "--batch-size", 20, "--num-epochs", 1, "--gamma", 0.01]
    done = process(SEARCH, *small, *NETWORK, "--pretrain-epochs", 1, "--save-dir", folder)
    assert (done.returncode, done.stderr) == (0, "")
    found = check_search(folder, epochs=2)
    assert found.space == SearchSpace(levels=1, operations=("sep3", "avg"), blocks=(1, 1), width=4)
    assert found.origin["data"] == "cifar10"
    assert found.origin["seed"] == 0
    assert str(tmp_path) not in (folder / "architecture.json").read_text()
    assert [row["phase"] for row in table(folder / "metrics.csv")] == ["pretrain", "search"]
    first, second = table(folder / "lambdas.csv")
    assert set(list(first.values())[1:]) == {"1.0"}
    assert "1.0" not in list(second.values())[1:]
    log = (folder / "log.txt").read_text(encoding="utf-8")
    for line in (
        "pretrain epoch 1: weights: loss",
        "search epoch 2: ",
        "λ: loss",
        "2 of 2",
        "saved",
    ):
        assert line in log and line in done.stdout
    options = json.loads((folder / "args.json").read_text())["options"]
    assert (options["width"], options["gamma"], options["shrink_every"]) == (4, 0.01, 5)

    trained = tmp_path / "train"
    path = folder / "architecture.json"
    words = ["--data-dir", small_cifar, *SMALL_TRAIN, "--width", 4, "--lr", 0.05]
    status, out, err = script(TRAIN, "--architecture", path, *words, "--save-dir", trained)
    assert (status, err) == (0, "")
    files = ["architecture.json", "args.json", "checkpoint", "confusion.csv", "confusion.png"]
    files += ["log.txt", "metrics.csv", "mistakes.png"]
    files += ["model-0000.params", "model-symbol.json", "model.params", "result.json"]
    assert names(trained) == files
    (row,) = table(trained / "metrics.csv")
    assert list(row) == TRAIN_COLUMNS
    assert float(row["learning_rate"]) == 0.05
    result = json.loads((trained / "result.json").read_text())
    of_classes = result.pop("class_error")
    assert np.mean(list(of_classes.values())) == pytest.approx(result["test_error"])  # as many each
    assert set(result) == {"test_error", "parameters", "multiply_adds", "connections"}
    assert repr(result["test_error"]) == row["test_error"]
    assert result["connections"] == found.num_connections == 2
    assert "test error" in out.splitlines()[-1]

    before = read_params(trained / "model-0000.params")
    status, out, err = script(EXPORT, trained)
    assert (status, err) == (0, "")
    difference = float(out.split("difference")[-1].split()[0])
    assert 0 <= difference < 1e-5
    after = read_params(trained / "model-0000.params")
    assert set(after) == set(before)
    assert all((after[name] == before[name]).all() for name in before)
    net = import_symbol(trained / "model-symbol.json", trained / "model-0000.params")
    assert net(mx.nd.zeros((3, 3, 32, 32))).shape == (3, 10)


def test_the_same_seed_writes_the_same_files(search, tmp_path, monkeypatch):
    """No time, no path, nothing of the machine in the tables and the architecture."""
    seeds, seed_mxnet = [], mx.random.seed
    contents = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        status, _, _ = search("--save-dir", tmp_path / name, "--seed", seed)
        assert status == 0
        files = ("metrics.csv", "lambdas.csv", "architecture.json")
        contents.append([(tmp_path / name / file).read_bytes() for file in files])
    assert contents[0] == contents[1]
    assert all(a != c for a, c in zip(contents[0][:2], contents[2][:2]))

    # It decides what the weights start from, and which images are seen when.
    def always_the_same(seed):
        seeds.append(seed)
        seed_mxnet(1)

    monkeypatch.setattr(mx.random, "seed", always_the_same)
    assert search("--save-dir", tmp_path / "d", "--seed", 2)[0] == 0
    assert seeds == [2]
    assert (tmp_path / "d" / "metrics.csv").read_bytes() != contents[0][0]


def test_gpus(check_search, search, train, tmp_path, monkeypatch, architecture):
    """`--gpus 0,1`, with MXNet's device functions patched to CPU devices."""

    class Features:
        def is_enabled(self, name):
            return name == "CUDA"

    used = []

    def gpu(number):
        used.append(number)
        return mx.cpu(number)

    monkeypatch.setattr(device.mx.runtime, "Features", Features)
    monkeypatch.setattr(device.mx.context, "num_gpus", lambda: 2)
    monkeypatch.setattr(device.mx, "gpu", gpu)
    monkeypatch.setattr(device, "capability", lambda number: (8, 6))
    status, _, err = search("--gpus", "0,1")
    assert (status, err, used) == (0, "", [0, 1])
    check_search(tmp_path / "run", epochs=1)
    status, _, err = train("--gpus", "1,0", "--save-dir", tmp_path / "other")
    assert (status, err, used) == (0, "", [0, 1, 1, 0])
    assert (tmp_path / "other" / "result.json").exists()
    status, _, err = search("--gpus", "0,2", "--save-dir", tmp_path / "third")
    assert status == 2
    assert "there is no GPU 2, this machine has 2" in err
    assert not (tmp_path / "third").exists()


# Bad input


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "data_batch_3"),
        (lambda path: path.write_bytes(b""), "data_batch_3"),
        (lambda path: path.unlink(), "data_batch_3: not there, though files beside it are"),
    ],
    ids=["truncated", "empty", "missing"],
)
def test_damaged_data(script, small_cifar, tmp_path, damage, message):
    folder = tmp_path / "cifar"
    folder.mkdir()
    for path in small_cifar.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    damage(folder / "data_batch_3")
    words = ["--data-dir", folder, *SMALL_SEARCH, "--save-dir", tmp_path / "run"]
    status, _, err = script(SEARCH, *words)
    assert (status, len(err.splitlines())) == (2, 1)
    assert message in err
    assert not (tmp_path / "run").exists()


def test_no_data(script, tmp_path):
    status, _, err = script(SEARCH, "--save-dir", tmp_path / "run")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "CIFAR-10 needs --data-dir" in err
    assert not (tmp_path / "run").exists()


def test_an_existing_run(search, train, tmp_path):
    status, _, _ = search()
    assert status == 0
    before = contents(tmp_path / "run")
    for again in (search, train):
        status, out, err = again()
        assert (status, out, len(err.splitlines())) == (2, "", 1)
        assert "holds a run or something else already: remove it, or give another --save-dir" in err
        assert "--resume goes on with a run" in err
    assert before == contents(tmp_path / "run")


@pytest.mark.parametrize("below", ["", "run"])
def test_a_folder_that_cannot_be_made(search, train, tmp_path, below):
    (tmp_path / "file").write_text("")
    for script in (search, train):
        status, out, err = script("--save-dir", tmp_path / "file" / below)
        assert (status, out, len(err.splitlines())) == (2, "", 1)
        assert "file" in err


# Runs that fail on the way: what they did is left, what they did not find is not there


def test_a_gamma_that_prunes_everything(search, tmp_path):
    status, _, err = search("--pretrain-epochs", 1, "--gamma", 1e3)
    assert (status, len(err.splitlines())) == (1, 1)
    message = "epoch 2 removed every connection: use a gamma below 1000.0"
    assert message in err
    folder = tmp_path / "run"
    files = ["args.json", "checkpoint", "lambdas.csv", "log.txt", "metrics.csv"]
    assert names(folder) == [*files, "pretrained.params"]
    assert len(table(folder / "metrics.csv")) == 1
    assert f"ended early: {message}" in (folder / "log.txt").read_text()


def test_a_loss_that_is_not_finite(search, train, tmp_path):
    status, _, err = search("--lr", 1e30, "--num-epochs", 3)
    assert (status, len(err.splitlines())) == (1, 1)
    assert "in epoch 1, from step 2 of 6 on: use a learning rate below 1e+30" in err
    assert names(tmp_path / "run") == ["args.json", "checkpoint", "log.txt"]
    status, _, err = train("--lr", 1e30, "--save-dir", tmp_path / "other")
    assert (status, len(err.splitlines())) == (1, 1)
    assert "in epoch 1, from step 2 of 3 on: use a learning rate below 1e+30" in err
    files = ["architecture.json", "args.json", "checkpoint", "log.txt"]
    assert names(tmp_path / "other") == files


def test_in_a_process_of_its_own(tmp_path):
    """No traceback, and nothing of MXNet's on stderr either."""
    words = ["--demo", *NETWORK, "--batch-size", 1500, "--pretrain-epochs", 0, "--num-epochs", 1]
    done = process(SEARCH, *words, "--lr", 1e30, "--gamma", 1e30, "--save-dir", tmp_path / "run")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("search_cifar.py: ")
    assert not (tmp_path / "run" / "architecture.json").exists()
