"""train/search_voc.py and train/train_voc.py on tiny scenes."""

import json

from dsonas_mx import Architecture
from dsonas_mx.cli import parse_stages

import cv2
import numpy as np
import pytest

SEARCH, TRAIN = "train/search_voc.py", "train/train_voc.py"
TINY = ("--crop", 24, "--batch-size", 2)


@pytest.fixture
def options(scenes_folder):
    return ("--data-dir", scenes_folder.parent, *TINY)


def search_words(options, folder, *words):
    space = ("--data", "garden", "--blocks", 1, "--levels", 2, "--operations", "sep3,max")
    width = ("--width", 4, "--split", "1:1", "--num-epochs", 1, "--mirror", "off")
    return (SEARCH, *options, *space, *width, "--save-dir", folder, *words)


@pytest.fixture
def found(script, options, tmp_path):
    """A finished search."""
    folder = tmp_path / "search"
    status, _, err = script(*search_words(options, folder, "--pretrain-epochs", 1))
    assert (status, err) == (0, "")
    return folder


def test_search_train_and_test(found, script, options, tmp_path):
    architecture = Architecture.load(found / "architecture.json")
    assert architecture.space.num_classes == 3
    assert architecture.origin["data"] == "garden"
    assert str(tmp_path) not in (found / "architecture.json").read_text()
    rows = (found / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows] == ["phase", "pretrain", "search"]

    run = tmp_path / "train"
    stages = ("--stages", "garden:1:0.05,garden:1:0.02")
    words = ("--architecture", found / "architecture.json", *stages)
    status, out, err = script(TRAIN, *options, *words, "--save-dir", run)
    assert (status, err) == (0, "")
    assert "a constant prediction gets" in out
    result = json.loads((run / "result.json").read_text())
    assert result["connections"] == architecture.num_connections
    ious = [iou for iou in result["class_iou"].values() if iou is not None]
    assert result["mean_iou"] == pytest.approx(np.mean(ious))
    picture = cv2.imread(str(run / "pictures/val1.png"))
    assert picture.shape == (48, 3 * 48, 3)
    assert (run / "model-symbol.json").exists()

    status, out, err = script(TRAIN, *options, *words, "--save-dir", run, "--resume")
    assert status == 0 and "is finished: nothing to do" in out
    again = tmp_path / "eval"
    words = ("--eval", run, "--stages", "garden:1:1", "--pictures", 0)
    status, out, err = script(TRAIN, *options, *words, "--save-dir", again)
    assert (status, err) == (0, "")
    assert json.loads((again / "result.json").read_text()) == result
    words = (*words, "--multi-scale", "--flip")
    status, out, err = script(TRAIN, *options, *words, "--save-dir", tmp_path / "scales")
    assert (status, err) == (0, "") and out.startswith("test mIoU ")


def test_a_backbone_is_taken_over(found, script, options, tmp_path):
    """Also its architecture; what does not fit is listed in the log."""
    run = tmp_path / "search2"
    status, out, err = script(*search_words(options, run, "--pretrained", found))
    assert (status, err) == (0, "")
    assert f"{found}: " in out and "parameters taken over" in out
    words = ("--stages", "garden:1:0.05", "--save-dir", tmp_path / "train")
    status, out, err = script(TRAIN, *options, *words, "--backbone", found)
    assert (status, err) == (0, "")
    assert "not used (" in out
    status, _, err = script(TRAIN, *options, "--stages", "garden:1:0.05", "--save-dir", run / "x")
    assert status == 2 and "which network? Give --architecture FILE, --model" in err


def test_dry_runs_need_no_data(script, tmp_path):
    words = ("--blocks", 1, "--width", 4, "--data-dir", tmp_path, "--dry-run", *TINY)
    status, out, err = script(SEARCH, *words)
    assert (status, err) == (0, "")
    assert "MB a device" in out and "the search took 4.3G a device" in out
    assert list(tmp_path.iterdir()) == []
    status, out, err = script(
        TRAIN, "--model", "mobilenet_v2", "--data-dir", tmp_path, "--dry-run", *TINY
    )
    assert (status, err) == (0, "")
    assert "5,113,877  (table 4: 4.5M mobilenet_v2)" in out


@pytest.mark.parametrize(
    "words, message",
    [
        (("--data", "garden"), "the supernet needs a start: give --pretrained RUN"),
        (("--data", "sea", "--pretrain-epochs", 1), "not a folder in VOC layout"),
        (("--data", "garden", "--pretrain-epochs", 1, "--batch-size", 9), "use a smaller batch"),
        (("--data", "garden", "--pretrained", "no", "--split", "1:1"), "neither model.params"),
        (("--data", "garden", "--crop", 0), "crop must be at least 1"),
    ],
)
def test_search_refuses(script, options, tmp_path, words, message):
    folder = tmp_path / "run"
    words = ("--blocks", 1, "--width", 2, *words, "--save-dir", folder)
    status, _, err = script(SEARCH, *options, *words)
    assert status == 2 and message in err and err.count("\n") == 1
    assert not folder.exists()


def test_stages_of_the_paper():
    stages = parse_stages("coco+sbd+voc:100:0.014,voc:350:0.008")
    assert stages == [(["coco", "sbd", "voc"], 100, 0.014), (["voc"], 350, 0.008)]
    for text in ("voc", "voc:0:1", "voc:1:0", ":1:1", "voc+:1:1", "voc:1:x", ""):
        with pytest.raises(ValueError, match="--stages must be as"):
            parse_stages(text)
