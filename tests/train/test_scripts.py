"""The scripts, from the command line to the files: what they write, and how they refuse.

The images are those of the demo where a script runs in a process of its own, else a tiny CIFAR.
"""

import csv
import inspect
import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.cost.count import count
from dsonas_mx.cost.width import Target, fit_width, parameters
from dsonas_mx.data.loader import split
from dsonas_mx.deploy.export import import_symbol
from dsonas_mx.engine import device
from dsonas_mx.io.params_file import read_params
from dsonas_mx.latency import measure as latency
from dsonas_mx.search.budget import AdaptiveFLOPs, AdaptiveMAC, Constant
from dsonas_mx.search.options import SearchOptions
from dsonas_mx.search.search import Search
from dsonas_mx.space.scales import scale_names
from dsonas_mx.training.fit import Fit
from dsonas_mx.training.loss import cross_entropy
from dsonas_mx.training.options import FitOptions

import mxnet as mx
import numpy as np
import pytest

from symbols.drop_path import final_probability

ROOT = Path(__file__).resolve().parents[2]
SEARCH, TRAIN, EXPORT = "train/search_cifar.py", "train/train_cifar.py", "tools/export.py"

# One level, so that there is little to compile; two stages, so that there is a reduction.
NETWORK = ["--levels", 1, "--blocks", "1,1", "--width", 4, "--operations", "avg,sep3"]
SMALL_SEARCH = [*NETWORK, "--batch-size", 20, "--pretrain-epochs", 0, "--num-epochs", 1]
SMALL_TRAIN = ["--batch-size", 40, "--num-epochs", 1, "--auxiliary", 0]


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
TRAIN_COLUMNS = ["epoch", "learning_rate", "train_loss", "train_error", "test_loss", "test_error"]


def check_search(folder, epochs, split=True):
    """Everything a search has to leave; its architecture."""
    metrics, lambdas = table(folder / "metrics.csv"), table(folder / "lambdas.csv")
    files = ["architecture.json", "args.json", "checkpoint", "lambdas.csv", "log.txt"]
    files += ["metrics.csv", "model.params"]
    assert names(folder) == files + ["pretrained.params"] * (metrics[0]["phase"] == "pretrain")
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


# The whole way


def test_search_train_export(script, small_cifar, tmp_path):
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


# Options of the search


@pytest.mark.parametrize(
    "words",
    [
        ["--cpus", 2],
        ["--scope", "full", "--levels", 2],
        ["--split", "2:1", "--batch-size", 10],
        ["--pretrain-epochs", 1, "--momentum-schedule", "apg", "--fix-gamma", "none"],
    ],
    ids=lambda words: words[0],
)
def test_searches(search, tmp_path, words):
    status, _, err = search(*words)
    assert (status, err) == (0, "")
    found = check_search(tmp_path / "run", epochs=2 if "--pretrain-epochs" in words else 1)
    assert found.space.operations == ("sep3", "avg")  # in their order, whatever was asked for
    assert found.space.scope == ("full" if "--scope" in words else "share")


def test_a_search_without_a_split(search, tmp_path):
    status, _, err = search("--split", "none", "--operations", "max,sep5,avg")
    assert (status, err) == (0, "")
    found = check_search(tmp_path / "run", epochs=1, split=False)
    assert found.space.operations == ("sep5", "max", "avg")


def test_gpus(search, train, tmp_path, monkeypatch, architecture):
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


def test_explicit_options_win_over_the_demo(script_module):
    """What a script is told, without running it."""
    module = script_module(SEARCH)

    def read(*words):
        return module.arguments().read(words, module.DEMO).record()

    options = read("--demo", "--gamma", "0.5", "--width", "48", "--seed", "3")
    assert (options["gamma"], options["width"], options["seed"]) == (0.5, 48, 3)
    assert (options["blocks"], options["batch_size"]) == ("1", 64)
    assert options["data_set"] == "fashion_mnist"
    options = read()
    assert (options["width"], options["blocks"], options["levels"]) == (48, "8", 4)
    assert (options["pretrain_epochs"], options["num_epochs"]) == (120, 120)
    assert (options["batch_size"], options["split"], options["gamma"]) == (128, "1:1", 0.001)
    assert (options["shrink_every"], options["patience"]) == (5, 10)


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


def names_of(kind):
    return [one.name for one in fields(kind)]


def test_every_option_reaches_the_search(search, given, small_cifar):
    seen = given(Search)
    search(
        *["--pretrain-epochs", 2, "--num-epochs", 7, "--split", "3:1", "--shrink-every", 4],
        *["--patience", 6, "--lr", 0.2, "--momentum", 0.8, "--wd", 0.01, "--gamma", 0.3],
        *["--momentum-schedule", "apg", "--fix-gamma", "none", "--seed", 9, "--batch-size", 12],
        *["--cpus", 2],
    )
    assert {n: getattr(seen["options"], n) for n in names_of(SearchOptions)} == vars(
        SearchOptions(
            pretrain_epochs=2,
            num_epochs=7,
            split=(3, 1),
            shrink_every=4,
            patience=6,
            learning_rate=0.2,
            momentum=0.8,
            weight_decay=0.01,
            gamma=0.3,
            momentum_schedule="apg",
        )
    )
    assert seen["setup"].contexts == [mx.cpu(0), mx.cpu(1)]
    weights, lambdas = seen["weight_data"], seen["lambda_data"]
    parts = split(None, weights.images.labels, (3, 1), 9)
    for stream, (data, part) in enumerate(zip((weights, lambdas), parts)):
        np.testing.assert_array_equal(data.indices, part)
        assert (data.batch_size, data.seed, data.stream) == (12, 9, stream)
        assert data.shuffle and data.drop_last and data.augment.pad == 4
    assert (type(seen["budget"]), seen["budget"].gamma) == (Constant, 0.3)
    net = seen["build"](seen["architecture"])
    assert net.weighted
    gammas = [p for name, p in net.collect_params().items() if name.endswith("gamma")]
    assert {p.grad_req for p in gammas} == {"write"}
    complete = seen["architecture"]
    assert complete.kept == Architecture.complete(complete.space).kept
    assert (complete.origin["data"], complete.origin["gamma"]) == ("cifar10", 0.3)
    assert not {"save_dir", "data_dir", "gpus", "cpus"} & set(complete.origin)


@pytest.mark.parametrize(
    "words, budget",
    [
        ([], Constant),
        (["--scope", "full"], AdaptiveFLOPs),
        (["--scope", "full", "--budget", "none"], Constant),
        (["--budget", "flops"], AdaptiveFLOPs),
        (["--budget", "mac"], AdaptiveMAC),
    ],
)
def test_budgets(search, given, words, budget):
    seen = given(Search)
    search(*words, "--gamma", 0.25)
    assert (type(seen["budget"]), seen["budget"].gamma) == (budget, 0.25)
    assert seen["architecture"].origin["budget"] in ("none", "flops", "mac")


def test_a_search_for_multiply_adds_says_what_was_reached(search, tmp_path):
    status, out, _ = search("--num-epochs", 2, "--search-flops", "300K")
    assert status == 0
    found = count(Architecture.load(tmp_path / "run" / "architecture.json")).multiply_adds
    assert f"\n{found:,} of 300,000 multiply-adds (" in out


# Options of the training


def test_every_option_reaches_the_training(train, given):
    seen = given(Fit)
    words = [
        *["--num-epochs", 7, "--lr", 0.2, "--final-lr", 0.1, "--period", 3, "--factor", 4],
        *["--momentum", 0.8, "--wd", 0.01, "--cutout", 5, "--dropout", 0.25, "--batch-size", 30],
        *["--drop-path", 0.6],
    ]
    weights = []
    for seed in (9, 9, 8):
        train(*words, "--seed", seed)
        assert seen["train_data"].seed == seed
        weights.append(seen["net"].collect_params()["fc_weight"].data().asnumpy())
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).any()
    assert {n: getattr(seen["options"], n) for n in names_of(FitOptions)} == vars(
        FitOptions(
            num_epochs=7,
            learning_rate=0.2,
            final_learning_rate=0.1,
            period=3,
            factor=4,
            momentum=0.8,
            weight_decay=0.01,
        )
    )
    train_data, test_data = seen["train_data"], seen["test_data"]
    assert (len(train_data.images), len(test_data.images)) == (120, 20)
    assert train_data.shuffle and train_data.drop_last
    assert (train_data.augment.cutout, train_data.augment.pad) == (5, 4)
    assert not (test_data.shuffle or test_data.drop_last)
    assert test_data.augment == train_data.augment.plain()
    assert seen["loss"] is cross_entropy
    assert not seen["net"].weighted
    assert seen["net"]._dropout == 0.25
    architecture = seen["net"].architecture
    expected = final_probability(architecture.space, 1, 0.6)
    assert seen["net"]._drop_path._probabilities[1] == expected
    train(*words, "--auxiliary", 0.5, "--blocks", "1,1,1")
    one = mx.nd.array([[0.0, 0.0]])
    loss = seen["loss"](mx.nd, (one, one), mx.nd.zeros(1)).asscalar()
    assert loss == pytest.approx(1.5 * np.log(2), rel=1e-4)


def test_training_options(train, tmp_path):
    status, _, err = train(
        *["--width", 6, "--blocks", "1,2", "--num-epochs", 3, "--period", 1, "--factor", 2],
        *["--lr", 0.2, "--final-lr", 0.1, "--cpus", 2, "--dropout", 0.5],
    )
    assert (status, err) == (0, "")
    built = Architecture.load(tmp_path / "run" / "architecture.json").space
    assert (built.width, built.blocks) == (6, (1, 2))
    rates = [float(row["learning_rate"]) for row in table(tmp_path / "run" / "metrics.csv")]
    assert rates == pytest.approx([0.2, 0.2, 0.15])


def test_a_target_chooses_the_width(train, tmp_path):
    status, out, _ = train("--target-flops", "0.5M", "--divisor", 2)
    assert status == 0
    found = Architecture.load(tmp_path / "run" / "architecture.json")
    cost = count(found)
    width = found.space.width
    assert out.startswith(f"width {width}: {cost.multiply_adds:,} of 500,000 multiply-adds\n")
    assert width % 2 == 0 and cost.multiply_adds <= 500_000
    assert count(found.with_space(width=width + 2)).multiply_adds > 500_000


def test_json_is_all_that_is_printed(train):
    """Also of what is said before there is a run folder, such as the width that a target chose."""
    status, out, err = train("--target-flops", "0.5M", "--log-format", "json")
    assert (status, err) == (0, "")
    lines = [json.loads(line)["message"] for line in out.splitlines()]
    assert lines[0].startswith("width ") and "multiply-adds" in lines[0]


def test_a_target_of_latency(train, tmp_path, monkeypatch):
    """The network is measured as it is deployed, on the device that trains it."""
    measured = []

    def measure(self, architecture):
        measured.append(architecture.space.width)
        return architecture.space.width / 4

    monkeypatch.setattr(latency.NetworkLatency, "__call__", measure)
    status, out, _ = train("--target-latency", 1.6)
    assert status == 0 and out.startswith("width 6: 1.5 of 1.6 ms\n")
    assert Architecture.load(tmp_path / "run" / "architecture.json").space.width == 6
    assert len(measured) == len(set(measured))


@pytest.fixture
def baseline(script, small_cifar, tmp_path):
    """`baseline(*words)`: training of a baseline on the tiny CIFAR, and what was trained."""

    def run(*words):
        folder = tmp_path / "run"
        options = ["--data-dir", small_cifar, *SMALL_TRAIN, "--save-dir", folder]
        status, _, err = script(TRAIN, *options, *words)
        assert (status, err) == (0, "")
        return Architecture.load(folder / "architecture.json")

    return run


@pytest.mark.parametrize("scope", ["share", "full"])
def test_a_random_network_like_found(baseline, architecture, scope):
    """At least as large as the file's network would be with the same options."""
    file = Architecture.load(architecture).with_space(width=9)
    network = baseline("--random", scope, "--like", architecture, "--width", 9, "--seed", 4)
    assert network.space.scope == scope and network.space.blocks == (1, 1)
    assert network.origin == {"baseline": f"random {scope}", "seed": 4}
    assert count(network).parameters >= count(file).parameters


def test_a_full_network_within_a_target(baseline, architecture):
    """What is found has at most the target, and what it is compared with is not smaller."""
    target = 5000
    target_params = Target("parameters", target, parameters)
    found = fit_width(Architecture.load(architecture), target_params)
    network = baseline("--full-network", "--like", architecture, "--target-params", target)
    assert network.num_connections == network.space.num_connections
    assert count(found).parameters <= target
    assert count(network).parameters >= count(found).parameters


def test_validation_images_are_training_images(train, given):
    seen = given(Fit)
    train("--validation", 30)
    data = [seen[name].images.images for name in ("train_data", "test_data")]
    assert [len(images) for images in data] == [90, 30]
    labels = seen["test_data"].images.labels
    assert np.abs(np.bincount(labels, minlength=10) - 3).max() <= 1  # of each class alike
    both = {image.tobytes() for image in np.concatenate(data)}
    train()
    assert both == {image.tobytes() for image in seen["train_data"].images.images}


def test_training_with_the_tower(train, tmp_path, architecture):
    """It is there in training, and not in what is exported."""
    status, _, err = train("--auxiliary", 0.4, "--blocks", "1")
    assert status == 2  # the file has two stages
    assert "--auxiliary needs a network of more than 2 stages, got 2: give 0 for no tower" in err
    assert not (tmp_path / "run").exists()
    status, _, err = train("--auxiliary", 0.4, "--blocks", "1,1,1")
    assert (status, err) == (0, "")
    folder = tmp_path / "run"
    assert any("auxiliary" in name for name in mx.nd.load(str(folder / "model.params")))
    assert "auxiliary" not in (folder / "model-symbol.json").read_text()
    assert not any("auxiliary" in n for n in mx.nd.load(str(folder / "model-0000.params")))


# Bad input


@pytest.mark.parametrize(
    "words, message",
    [
        (["--unknown", 1], "unrecognized arguments: --unknown 1"),
        (["--levels", 0], "levels must be at least 1, got 0"),
        (["--levels", "two"], "argument --levels: invalid int value: 'two'"),
        (["--width", 0], "width must be at least 1, got 0"),
        (["--blocks", 0], "blocks[0] must be at least 1, got 0"),
        (["--blocks", "1,x"], "blocks must be a number or one a stage (2,2,13,6), got '1,x'"),
        (["--operations", "sep3,conv"], "operations has an unknown name 'conv'; known are sep3"),
        (["--operations", "sep3,sep3"], "operations names sep3 more than once"),
        (["--operations", ""], "operations has an unknown name ''"),
        (["--scope", "part"], "argument --scope: invalid choice: 'part'"),
        (["--split", "0:1"], "split must be two numbers of at least 1, as 4:1, got (0, 1)"),
        (["--split", "1:x"], "--split must be as 4:1, or none, got '1:x'"),
        (["--split", "1:121"], "split 1:121 leaves a part of 120 samples empty"),
        (
            ["--split", "3:2", "--batch-size", 30],
            "split 3:2 needs as many batches an epoch, got 2:1: use a smaller batch size",
        ),
        (["--num-epochs", -1], "--num-epochs must be at least 1, got -1"),
        (["--pretrain-epochs", -1], "--pretrain-epochs must be at least 0, got -1"),
        (["--shrink-every", 0], "--shrink-every must be at least 1, got 0"),
        (["--patience", 0], "patience must be at least 1, got 0"),
        (["--batch-size", 0], "--batch-size must be at least 1, got 0"),
        (["--batch-size", 61], "a part of 60 images is smaller than one batch of 61"),
        (["--batch-size", 2, "--cpus", 3], "a batch of 2 is too small for 3 devices"),
        (["--lr", "nan"], "--lr must be above 0 and finite, got nan"),
        (["--lr", 0], "--lr must be above 0 and finite, got 0"),
        (["--mirror", 0.1], "the smallest plan takes"),
        (["--momentum", 1], "--momentum must be in [0, 1), got 1.0"),
        (["--wd", -1], "--wd must be at least 0 and finite, got -1.0"),
        (["--gamma", -0.1], "--gamma must be at least 0 and finite, got -0.1"),
        (["--gamma", "inf"], "--gamma must be at least 0 and finite, got inf"),
        (["--budget", "power"], "argument --budget: invalid choice: 'power'"),
        (["--gamma0", 0.1], "gamma0 is of budget latency: budget none has none"),
        (["--scope", "full", "--gamma0", 0.1], "gamma0 is of budget latency: budget flops has"),
        (["--search-flops", "1K"], "a search for 1,000 multiply-adds cannot end there: this super"),
        (["--search-flops", 0], "a target must be above 0 and finite, got 0"),
        (["--latency-table", "t.json"], "--latency-table is of budget latency, not of none"),
        (["--budget", "latency", "--latency-table", "/nowhere/t.json"], "/nowhere/t.json"),
        (["--seed", -1], "seed must lie between 0 and 2**64 - 1, got -1"),
        (["--gpus", "0"], "--gpus 0: this MXNet was built without CUDA; install requirements-gpu"),
        (["--gpus", "a"], "--gpus must be numbers such as 0,1, got 'a'"),
        (["--cpus", 0], "--cpus must be at least 1, got 0"),
        (["--demo"], "fashion_mnist is embedded: leave out --data-dir, or give --data-set"),
        (["--data-set", "mnist"], "argument --data-set: invalid choice: 'mnist'"),
        (["--data-set", "cifar100"], "no train, train.bin or train.rec; get cifar-100-python"),
        (["--normalize", "mine"], "argument --normalize: invalid choice: 'mine'"),
        (["--split-files", "/nowhere"], "--split-files has all images of a search: leave out"),
        (["--data-dir", "/nowhere/at/all"], "/nowhere/at/all: no such folder; get"),
        (["--data-dir", "/nowhere/at/all"], "your own images are a folder with a folder a class"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_bad_options_of_the_search(search, tmp_path, words, message):
    status, out, err = search(*words)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("search_cifar.py: ")
    assert message in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--num-epochs", -1], "--num-epochs must be at least 1, got -1"),
        (["--width", 0], "width must be at least 1, got 0"),
        (["--width", 4, "--target-params", "1M"], "not allowed with argument --width"),
        (["--target-params", "3Q"], "--target-params: must be a number such as 500000, 600K"),
        (["--target-flops", "inf"], "--target-flops: must be a number such as 500000, 600K"),
        (["--target-flops", "1K"], "a target of 1,000 multiply-adds cannot be met: the narrowest"),
        (["--target-params", 0], "a target of parameters must be above 0 and finite, got 0"),
        (["--width", 4, "--divisor", 4], "--divisor is of the width that a target chooses: give"),
        (["--width", 4, "--divisor", 0], "--divisor is of the width that a target chooses: give"),
        (["--target-flops", "1M", "--divisor", 0], "divisor must be at least 1, got 0"),
        (["--blocks", "0"], "blocks[0] must be at least 1, got 0"),
        (["--dropout", 1], "dropout must be in [0, 1), got 1.0"),
        (["--drop-path", 1], "drop_path must be in [0, 1), got 1.0"),
        (["--auxiliary", -1], "auxiliary must be at least 0 and finite, got -1.0"),
        (["--auxiliary", "nan"], "auxiliary must be at least 0 and finite, got nan"),
        (["--cutout", -1], "cutout must be at least 0, got -1"),
        (
            ["--lr", 0.0001],
            "--lr must not be below --final-lr, nor that below 0, got 0.0001",
        ),
        (["--wd", "nan"], "--wd must be at least 0 and finite, got nan"),
        (["--period", 0], "period and factor must be at least 1, got 0 and 2"),
        (["--gpus", "0"], "--gpus 0: this MXNet was built without CUDA"),
        (
            ["--architecture", "/nowhere.json"],
            "/nowhere.json: No such file or directory; check",
        ),
        (["--batch-size", 500], "a part of 120 images is smaller than one batch of 500"),
        (["--random", "share"], "--random: not allowed with argument --architecture"),
        (["--full-network"], "--full-network: not allowed with argument --architecture"),
        (["--like", "x.json"], "--like is for --random and --full-network"),
        (
            ["--width", 4, "--target-params", 9],
            "--target-params: not allowed with argument --width",
        ),
        (
            ["--target-params", 9],
            "a target of 9 parameters cannot be met: the narrowest network, of width 1, has",
        ),
        (["--validation", 120], "--validation must be from 0 to 119, got 120"),
        (["--validation", -1], "--validation must be from 0 to 49999, got -1"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_bad_options_of_the_training(train, tmp_path, words, message):
    blocks = ["--blocks", "1,1,1"] if "--auxiliary" in words else []
    status, out, err = train(*blocks, *words)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not a JSON file"),
        (b'{"format": "dsonas-architecture", "version', "not a JSON file"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"[]", "an architecture must be an object"),
        (b"{}", "format must be 'dsonas-architecture', got None"),
    ],
)
def test_architectures_that_cannot_be_read(train, tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    status, _, err = train("--architecture", path)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert str(path) in err and message in err
    assert not (tmp_path / "run").exists()


def test_a_folder_is_no_architecture(train, tmp_path):
    status, _, err = train("--architecture", tmp_path)
    assert (status, len(err.splitlines())) == (2, 1)
    assert not (tmp_path / "run").exists()


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


# The demo


@pytest.mark.parametrize(
    "place, content",
    [
        ("thesis.txt", "mine"),
        ("search/notes.txt", "mine"),
        ("search/args.json", '{"options": {"demo": false}}'),  # somebody's own search
        ("train/args.json", "damaged"),
    ],
)
def test_the_demo_removes_nothing_but_a_demo(script, tmp_path, place, content):
    precious = tmp_path / "folder" / place
    precious.parent.mkdir(parents=True)
    precious.write_text(content)
    status, out, err = script("tools/demo.py", "--folder", tmp_path / "folder")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "is not from a demo: remove it, or give another --folder" in err
    assert precious.read_text() == content


@pytest.mark.parametrize("complete", [True, False])
def test_the_demo_goes_the_whole_way(script, tmp_path, monkeypatch, complete):
    """Which scripts it runs, in order, and its summary; what they do is tested above."""
    folder = tmp_path / "demo"
    (folder / "search").mkdir(parents=True)
    if complete:
        (folder / "result.json").write_text("{}")
    (folder / "search" / "args.json").write_text('{"options": {"demo": true}}')
    space = SearchSpace(blocks=(1, 1, 1), width=8, in_channels=1, image_size=28)
    found = Architecture.random(space, 0, connections=20)
    errors = iter([0.25, 0.5])
    called = []

    def run(command, check):
        name = Path(command[1]).relative_to(ROOT).as_posix()
        words = dict(zip(command[2:], command[3:]))
        called.append(name)
        target = Path(words["--save-dir"]) if "--save-dir" in words else None
        if name == SEARCH:
            assert folder.exists() != complete  # a complete demo is gone, another goes on
            assert "--resume" in command
            target.mkdir(parents=True, exist_ok=True)
            found.save(target / "architecture.json")
        elif name == TRAIN:
            target.mkdir()
            option = "--architecture" if target.name == "train" else "--like"
            assert Architecture.load(words[option]) == found
            assert words.get("--random") == (None if target.name == "train" else "share")
            result = {"test_error": next(errors), "parameters": 1, "multiply_adds": 2}
            result["connections"] = 20
            (target / "result.json").write_text(json.dumps(result))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    status, out, err = script("tools/demo.py", "--folder", folder)
    assert (status, err) == (0, "")
    assert called == [SEARCH, TRAIN, TRAIN, EXPORT, "tools/plot.py", "tools/plot.py"]
    assert json.loads((folder / "result.json").read_text()) == {
        "connections": 20,
        "parameters": 1,
        "multiply_adds": 2,
        "test_error": 0.25,
        "random_test_error": 0.5,
    }
    for shown in ("20 of 124", "25.00%", "50.00%"):
        assert shown in out


def test_the_demo_ends_with_the_script_that_failed(script, tmp_path, monkeypatch):
    monkeypatch.setattr(
        subprocess, "run", lambda command, check: subprocess.CompletedProcess([], 3)
    )
    status, _, _ = script("tools/demo.py", "--folder", tmp_path / "demo")
    assert status == 3
    assert not (tmp_path / "demo" / "result.json").exists()
