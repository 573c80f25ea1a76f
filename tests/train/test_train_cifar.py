"""The training on CIFAR: every option, its baselines, and what it refuses."""

import json
from dataclasses import fields

from dsonas_mx import Architecture
from dsonas_mx.cost.count import count
from dsonas_mx.cost.width import Target, fit_width, parameters
from dsonas_mx.latency import measure as latency
from dsonas_mx.training.fit import Fit
from dsonas_mx.training.loss import cross_entropy
from dsonas_mx.training.options import FitOptions

import mxnet as mx
import numpy as np
import pytest

from symbols.drop_path import final_probability

SEARCH, TRAIN, EXPORT = "train/search_cifar.py", "train/train_cifar.py", "tools/export.py"

SMALL_TRAIN = ["--batch-size", 40, "--num-epochs", 1, "--auxiliary", 0]


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
    assert {one.name: getattr(seen["options"], one.name) for one in fields(FitOptions)} == vars(
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
    rows = np.genfromtxt(tmp_path / "run" / "metrics.csv", delimiter=",", names=True)
    assert rows["learning_rate"].tolist() == pytest.approx([0.2, 0.2, 0.15])


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
