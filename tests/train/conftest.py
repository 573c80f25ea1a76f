"""Small searches and trainings of CIFAR, and what they hand over."""

import csv
import inspect
import os

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.space.scales import scale_names

import numpy as np
import pytest

SEARCH, TRAIN = "train/search_cifar.py", "train/train_cifar.py"

# One level, so that there is little to compile; two stages, so that there is a reduction.
NETWORK = ["--levels", 1, "--blocks", "1,1", "--width", 4, "--operations", "avg,sep3"]

SMALL_SEARCH = [*NETWORK, "--batch-size", 20, "--pretrain-epochs", 0, "--num-epochs", 1]

SMALL_TRAIN = ["--batch-size", 40, "--num-epochs", 1, "--auxiliary", 0]


SEARCH_COLUMNS = [
    "epoch",
    "phase",
    "weight_loss",
    "weight_accuracy",
    "lambda_loss",
    "lambda_accuracy",
    "connections",
    "learning_rate",
]


@pytest.fixture
def search(script, small_cifar, tmp_path):
    """`search(*words)`: a search on the tiny CIFAR into `tmp_path/'run'`."""

    def run(*words, data=True):
        source = ["--data-dir", small_cifar] if data else []
        return script(SEARCH, *source, *SMALL_SEARCH, "--save-dir", tmp_path / "run", *words)

    return run


@pytest.fixture
def architecture(tmp_path):
    """The file of a found architecture."""
    space = SearchSpace(levels=1, operations=("sep3", "avg"), blocks=(1, 1), width=4)
    path = tmp_path / "found.json"
    Architecture.complete(space).save(path)
    return path


@pytest.fixture
def train(script, small_cifar, tmp_path, architecture):
    """`train(*words)`: a training on the tiny CIFAR into `tmp_path/'run'`, of width 4 if `words`
    have no size.
    """

    def run(*words):
        source = ["--data-dir", small_cifar, "--architecture", architecture]
        sized = any(str(word).startswith(("--width", "--target", "--like")) for word in words)
        source += [] if sized else ["--width", 4]
        return script(TRAIN, *source, *SMALL_TRAIN, "--save-dir", tmp_path / "run", *words)

    return run


@pytest.fixture
def given(monkeypatch):
    """What a script gives to `Search` or `Fit`, by name; the run ends there."""
    seen = {}

    def patch(kind):
        signature = inspect.signature(kind)

        def stop(self, *arguments, **options):
            seen.update(signature.bind(*arguments, **options).arguments)
            raise ValueError("enough")

        monkeypatch.setattr(kind, "__init__", stop)
        return seen

    return patch


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def check_search():
    """`check_search(folder, epochs)`: the architecture of a search that has left all it has to."""

    def check(folder, epochs, split=True):
        """Everything a search has to leave; its architecture."""
        metrics, lambdas = rows(folder / "metrics.csv"), rows(folder / "lambdas.csv")
        files = ["architecture.json", "args.json", "checkpoint", "lambdas.csv", "log.txt"]
        files += ["metrics.csv", "model.params"]
        assert sorted(os.listdir(folder)) == files + ["pretrained.params"] * (
            metrics[0]["phase"] == "pretrain"
        )
        found = Architecture.load(folder / "architecture.json")
        assert list(metrics[0]) == SEARCH_COLUMNS
        assert list(lambdas[0]) == ["epoch", *scale_names(found.space)]
        assert [int(row["epoch"]) for row in metrics] == list(range(1, epochs + 1))
        assert [int(row["epoch"]) for row in lambdas] == list(range(1, epochs + 1))
        for row in metrics:
            assert 0 <= float(row["weight_accuracy"]) <= 1
            assert float(row["weight_loss"]) > 0
            has_lambdas = split and row["phase"] == "search"
            assert (row["lambda_loss"] != "") == (row["lambda_accuracy"] != "") == has_lambdas
        for row in lambdas:
            for value in list(row.values())[1:]:
                # All digits of a float32: what it was comes back.
                assert value == repr(float(np.float32(value)))
        assert int(metrics[-1]["connections"]) == found.num_connections
        return found

    return check
