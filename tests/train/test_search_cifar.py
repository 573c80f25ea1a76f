"""The search on CIFAR: every option, what it leaves, and what it refuses."""

from dataclasses import fields

from dsonas_mx import Architecture
from dsonas_mx.cost.count import count
from dsonas_mx.data.loader import split
from dsonas_mx.search.budget import AdaptiveFLOPs, AdaptiveMAC, Budget
from dsonas_mx.search.options import SearchOptions
from dsonas_mx.search.search import Search

import mxnet as mx
import numpy as np
import pytest

SEARCH, TRAIN, EXPORT = "train/search_cifar.py", "train/train_cifar.py", "tools/export.py"


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
def test_searches(search, check_search, tmp_path, words):
    status, _, err = search(*words)
    assert (status, err) == (0, "")
    found = check_search(tmp_path / "run", epochs=2 if "--pretrain-epochs" in words else 1)
    assert found.space.operations == ("sep3", "avg")  # in their order, whatever was asked for
    assert found.space.scope == ("full" if "--scope" in words else "share")


def test_a_search_without_a_split(search, check_search, tmp_path):
    status, _, err = search("--split", "none", "--operations", "max,sep5,avg")
    assert (status, err) == (0, "")
    found = check_search(tmp_path / "run", epochs=1, split=False)
    assert found.space.operations == ("sep5", "max", "avg")


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


def test_every_option_reaches_the_search(search, given, small_cifar):
    seen = given(Search)
    search(
        *["--pretrain-epochs", 2, "--num-epochs", 7, "--split", "3:1", "--shrink-every", 4],
        *["--patience", 6, "--lr", 0.2, "--momentum", 0.8, "--wd", 0.01, "--gamma", 0.3],
        *["--momentum-schedule", "apg", "--fix-gamma", "none", "--seed", 9, "--batch-size", 12],
        *["--cpus", 2],
    )
    assert {one.name: getattr(seen["options"], one.name) for one in fields(SearchOptions)} == vars(
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
    assert (type(seen["budget"]), seen["budget"].gamma) == (Budget, 0.3)
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
        ([], Budget),
        (["--scope", "full"], AdaptiveFLOPs),
        (["--scope", "full", "--budget", "none"], Budget),
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
