"""What scripts refuse before data are read, memory is planned or a dry run prints."""

import json
import sys

from dsonas_mx import data
from dsonas_mx.engine.recompute import Planner

import pytest

SEARCH, TRAIN = "train/search_cifar.py", "train/train_cifar.py"
SEARCH_IMAGENET, TRAIN_IMAGENET = "train/search_imagenet.py", "train/train_imagenet.py"
SEARCH_VOC, TRAIN_VOC = "train/search_voc.py", "train/train_voc.py"
SMALL = {
    SEARCH: "--levels 1 --blocks 1 --width 4",
    TRAIN: "--full-network --blocks 1 --auxiliary 0",
    SEARCH_IMAGENET: "--levels 1 --blocks 1 --width 4 --budget none --image-size 32",
    TRAIN_IMAGENET: "--full-network --blocks 1 --auxiliary 0 --image-size 32",
    SEARCH_VOC: "--levels 1 --blocks 1 --width 4 --crop 24 --pretrain-epochs 1",
    TRAIN_VOC: "--model mobilenet_v2 --crop 24",
}
SIZES = "a part of {} images is smaller than one batch of {}"

ALWAYS = [  # refused by a dry run and by a run
    (TRAIN, "--validation 999999", "--validation must be from 0 to 49999, got 999999"),
    (TRAIN, "--validation -5", "--validation must be from 0 to 49999, got -5"),
    (TRAIN, "--image-size 8", "give --image-size 16 to 96"),
    (TRAIN, "--cutout -1", "cutout must be at least 0, got -1"),
    (TRAIN, "--seed -1", "seed must lie between 0 and 2**64 - 1, got -1"),
    (TRAIN, "--auxiliary -1", "auxiliary must be at least 0 and finite, got -1.0"),
    (TRAIN, "--batch-size 0", "--batch-size must be at least 1, got 0"),
    (TRAIN, "--data-set fashion_mnist --normalize release", "--normalize release is for CIFAR"),
    (TRAIN, "--demo --data-dir d", "fashion_mnist is embedded: leave out --data-dir"),
    (SEARCH, "--data-set fashion_mnist --normalize release", "--normalize release is for CIFAR"),
    (SEARCH, "--split-files /nowhere", "/nowhere/train1.rec: not there"),
    (SEARCH, "--split-files /nowhere --split none", "--split none takes no --split-files"),
    (SEARCH, "--demo --split-files /nowhere", "fashion_mnist is embedded and has no files"),
    (SEARCH_IMAGENET, "--num-samples -5", "--num-samples must be at least 1, got -5"),
    (TRAIN_IMAGENET, "--threads 0", "--threads must be at least 1, got 0"),
    (TRAIN_VOC, "--momentum 2", "momentum must be in [0, 1), got 2.0"),
    (TRAIN_VOC, "--test-every 0", "--test-every must be at least 1, got 0"),
    (TRAIN_VOC, "--workers 0", "--workers must be at least 1, got 0"),
]
for script_name in SMALL:
    ALWAYS += [
        (script_name, "--seed -1", "seed must lie between"),
        (script_name, "--checkpoint-minutes -1", "--checkpoint-minutes must be at least 0, got -1"),
        (script_name, "--resume-from /nowhere", "--resume-from /nowhere: no checkpoint"),
    ]
DRY = [  # a run counts the images that there are
    (TRAIN, "--batch-size 100000", SIZES.format("50,000", "100,000")),
    (TRAIN, "--validation 49999", SIZES.format("1", "128")),
    (SEARCH, "--batch-size 100000", SIZES.format("25,000", "100,000")),
    (SEARCH, "--split 1000:1", SIZES.format("49", "128")),
    (SEARCH, "--split 3:2 --batch-size 20000", "split 3:2 needs as many batches an epoch, got 1:1"),
    (SEARCH_IMAGENET, "--num-samples 100", SIZES.format("80", "256")),
    (TRAIN_IMAGENET, "--num-samples 100", SIZES.format("100", "1,024")),
    (SEARCH_VOC, "--data sbd --batch-size 90000", "is smaller than one batch of 90,000"),
    (TRAIN_VOC, "--stages voc:1:0.1 --batch-size 90000", "is smaller than one batch of 90,000"),
]


@pytest.fixture
def refused(script, monkeypatch, tmp_path):
    """`refused(name, *words)`: its line; no data were read, no memory planned, nothing written."""

    def early(*given, **named):
        raise AssertionError("that is too late")

    for place, name in ((data, "load_cifar"), (Planner, "plan")):
        monkeypatch.setattr(place, name, early)
    monkeypatch.chdir(tmp_path)

    def run(name, *words):
        before = sorted(tmp_path.rglob("*"))
        status, out, err = script(name, *SMALL[name].split(), *words)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return run


@pytest.mark.parametrize("how", [[], ["--dry-run"]], ids=["run", "dry"])
@pytest.mark.parametrize("name, words, message", ALWAYS)
def test_options(refused, name, words, message, how):
    assert message in refused(name, *words.split(), *how)


@pytest.mark.parametrize("name, words, message", DRY)
def test_a_dry_run_without_a_step(refused, name, words, message):
    assert message in refused(name, *words.split(), "--dry-run")


@pytest.mark.parametrize("name", SMALL)
def test_a_folder_that_is_occupied(refused, tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("all of it")
    assert "holds a run or something else already" in refused(name, "--save-dir", "run")
    assert "but no run to go on with" in refused(name, "--save-dir", "run", "--resume")
    file = tmp_path / "run" / "thesis.txt"
    assert str(file) in refused(name, "--save-dir", file)


@pytest.mark.parametrize("name", SMALL)
def test_without_tensorboardx(refused, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert "--tensorboard needs tensorboardX" in refused(name, "--tensorboard")


@pytest.mark.parametrize("name", [SEARCH, TRAIN])
def test_a_dry_run_may_stand_beside_a_run(script, tmp_path, name):
    (tmp_path / "args.json").write_text(json.dumps({"options": {}}))
    words = (*SMALL[name].split(), "--width", 4, "--batch-size", 2, "--save-dir", tmp_path)
    assert script(name, *words, "--dry-run")[::2] == (0, "")
