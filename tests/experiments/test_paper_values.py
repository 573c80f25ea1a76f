"""The defaults of the scripts for CIFAR, and the sizes of networks, are the paper's."""

import json
import re

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.cli.options import ImageOptions
from dsonas_mx.cost.count import count

import pytest

from symbols.mobile import proxyless

TRAIN, IMAGENET = "train/train_cifar.py", "train/train_imagenet.py"
SPACE = SearchSpace(levels=1, operations=("sep3", "avg"), blocks=(1, 1, 1), width=4)


SEARCH_VALUES = {  # section 4.2
    "batch_size": 128,
    "pretrain_epochs": 120,
    "num_epochs": 120,
    "split": "1:1",  # 25K and 25K
    "lr": 0.1,
    "wd": 3e-4,
    "momentum": 0.9,
    "levels": 4,
    "operations": "sep3,sep5,max,avg",
    "blocks": "8",  # of three stages
    "normalize": "own",
    "data_set": None,
}
TRAIN_VALUES = {
    "num_epochs": 630,
    "lr": 0.05,
    "final_lr": 0.001,
    "period": 10,
    "factor": 2,
    "momentum": 0.9,
    "wd": 3e-4,
    "dropout": 0.4,  # 0.6 is kept
    "drop_path": 0.5,
    "auxiliary": 0.4,
    "cutout": 16,
    "batch_size": 128,
    "validation": 0,
    "data_set": None,
}


@pytest.mark.parametrize(
    "name, words, expected",
    [("train/search_cifar.py", (), SEARCH_VALUES), (TRAIN, ("--full-network",), TRAIN_VALUES)],
)
def test_defaults(script_module, name, words, expected):
    found = script_module(name).arguments().read(words).record()
    assert {option: found[option] for option in expected} == expected


def test_without_a_folder_the_data_set_is_cifar10():
    assert ImageOptions().name == "cifar10"


@pytest.fixture
def small(tmp_path):
    """The file of a found network."""
    path = tmp_path / "found.json"
    Architecture.complete(SPACE).save(path)
    return path


@pytest.fixture
def size(script, tmp_path):
    """`size(name, *words)`: parameters, without the tower, and multiply-adds by a dry run."""

    def run(name, *words):
        words = (*words, "--batch-size", 1, "--auxiliary", 0, "--save-dir", tmp_path / "run")
        status, out, err = script(name, "--dry-run", *words)
        assert (status, err) == (0, "")
        figures = (re.search(rf"^{name} +([\d,]+)$", out, re.M) for name in FIGURES)
        return tuple(int(figure[1].replace(",", "")) for figure in figures)

    return run


FIGURES = ("parameters", "multiply-adds")


@pytest.mark.parametrize("which", ["file", "--full-network", "--random share", "--random full"])
def test_networks_for_cifar_have_3_million_parameters(size, small, which):
    words = ["--architecture", small] if which == "file" else which.split()
    found, _ = size(TRAIN, *words, "--blocks", "1,1,1")
    assert 0.95 * 3e6 < found <= 3e6


@pytest.mark.parametrize("which", ["file", "--full-network", "--random share"])
def test_networks_for_imagenet_have_600_million_multiply_adds(size, small, which):
    words = ["--architecture", small] if which == "file" else which.split()
    _, found = size(IMAGENET, *words, "--blocks", "1,1,1,1")
    assert 0.9 * 600e6 < found <= 600e6


def test_other_sizes_win(size, small):
    own = count(Architecture.complete(SPACE)).parameters
    assert size(TRAIN, "--architecture", small, "--width", 4)[0] == own
    assert size(TRAIN, "--full-network", "--like", small)[0] == own
    grey = count(Architecture.complete(SPACE).with_space(in_channels=1, image_size=28))
    assert size(TRAIN, "--architecture", small, "--demo")[0] == grey.parameters
    assert size(TRAIN, "--architecture", small, "--target-flops", "9M")[1] <= 9e6


@pytest.mark.parametrize(
    "name, width, message",
    [
        ("train/search_cifar.py", 100_000, "width must be at most 4096, got 100000"),
        ("train/search_cifar.py", 4096, "an array of MXNet 2,147,483,647 at most: use a smaller"),
        (TRAIN, 100_000, "width must be at most 4096, got 100000"),
    ],
)
def test_widths_that_no_array_has(script, name, width, message):
    which = ["--full-network"] if name == TRAIN else []
    words = (*which, "--width", width, "--mirror", "off", "--dry-run")
    status, out, err = script(name, *words)
    assert (status, out, err.count("\n")) == (2, "", 1) and message in err


@pytest.mark.parametrize("words", [["--width", 4], [], ["--target-params", "1M"]])
@pytest.mark.parametrize("which", ["--full-network", "--random share"])
def test_the_divisor_is_checked(script, which, words):
    status, _, err = script(TRAIN, "--dry-run", *which.split(), *words, "--divisor", 0)
    assert status == 2 and "divisor" in err and err.count("\n") == 1


def test_mobile_networks_keep_their_size(size, tmp_path):
    path = tmp_path / "mobile.json"
    network = proxyless("mobile-gpu")
    network.save(path)
    assert 300e6 < size(IMAGENET, "--architecture", path)[1] < 500e6


@pytest.mark.parametrize("recorded, expected", [(None, "own"), (3_000_000, "paper")])
def test_a_run_that_goes_on_keeps_its_size(size, small, tmp_path, recorded, expected):
    (tmp_path / "run").mkdir()
    options = {"target_params": recorded, "width": None}
    (tmp_path / "run" / "args.json").write_text(json.dumps({"options": options}))
    own = count(Architecture.complete(SPACE)).parameters
    checkpoint = tmp_path / "run" / "checkpoint" / "000003"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text("")  # what a dry run looks for
    for how in (["--resume"], ["--resume-from", checkpoint]):
        found, _ = size(TRAIN, "--architecture", small, *how)
        assert found == own if expected == "own" else 0.95 * 3e6 < found <= 3e6


@pytest.mark.parametrize(
    "name, words", [(TRAIN, "as 3.0M: .*; 3.0M if no size"), (IMAGENET, "600M; 600M if no size")]
)
def test_the_help_says_so(script, name, words):
    status, out, _ = script(name, "--help")
    assert status == 0 and re.search(words, " ".join(out.split()))
