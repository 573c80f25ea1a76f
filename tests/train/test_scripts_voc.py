"""train/search_voc.py and train/train_voc.py on tiny scenes."""

import json
import re
from functools import partial

from dsonas_mx import Architecture
from dsonas_mx.cli.segmentation_options import parse_stages
from dsonas_mx.data import voc
from dsonas_mx.deploy.export import import_symbol
from dsonas_mx.engine import graph
from dsonas_mx.io.params_file import read_params
from dsonas_mx.training.segmentation import SCALES, Predictor, evaluate

import cv2
import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from symbols.mobile import proxyless
from symbols.segmentation import voc_space

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
def complete(tmp_path):
    """The file of a complete architecture, as small as they come."""
    space = {"levels": 1, "operations": ("sep3", "max"), "blocks": (1, 1), "width": 4}
    Architecture.complete(voc_space(**space)).save(tmp_path / "complete.json")
    return tmp_path / "complete.json"


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A folder for what several tests start from."""
    return tmp_path_factory.mktemp("once")


@pytest.fixture
def found(script, options, once):
    """A finished search, not to be changed."""
    folder = once / "search"
    if not folder.exists():
        status, _, err = script(*search_words(options, folder, "--pretrain-epochs", 1))
        assert (status, err) == (0, "")
    return folder


def test_search_train_and_test(found, script, options, scenes_folder, tmp_path):
    architecture = Architecture.load(found / "architecture.json")
    assert architecture.space.num_classes == 3
    assert architecture.origin["data"] == "garden"
    assert str(found.parent) not in (found / "architecture.json").read_text()
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
    # A test alone: network and data are those of the run.
    status, out, err = script(TRAIN, "--eval", run, "--pictures", 2)
    assert (status, err) == (0, "")
    assert json.loads((run / "eval" / "result.json").read_text()) == result
    names = sorted(path.name for path in (run / "eval" / "pictures").iterdir())
    assert names == ["val0.png", "val1.png"]
    words = ("--eval", run, "--multi-scale", "--flip", "--save-dir", tmp_path / "scales")
    status, out, err = script(TRAIN, *words)
    assert (status, err) == (0, "")
    net = import_symbol(run / "model-symbol.json", run / "model-0000.params")
    scenes = voc.load_scenes(scenes_folder, "val")
    expected = evaluate(Predictor(net, mx.cpu(), SCALES, flip=True), scenes)
    scaled = json.loads((tmp_path / "scales" / "result.json").read_text())
    assert scaled["mean_iou"] == pytest.approx(expected.mean_iou, abs=1e-3)
    assert scaled["pixel_accuracy"] == pytest.approx(expected.pixel_accuracy, abs=1e-3)
    status, out, err = script(TRAIN, "--eval", run, "--model", "mobilenet_v1")
    assert status == 2 and "--eval tests the network of its run: name no other" in err
    status, out, err = script(TRAIN, "--eval", found)
    assert status == 2 and "is not of a run of this script" in err


def test_a_backbone_is_taken_over(found, script, options, tmp_path):
    """Also its architecture; what does not fit is listed in the log."""
    run = tmp_path / "search2"
    status, out, err = script(*search_words(options, run, "--pretrained", found))
    assert (status, err) == (0, "")
    assert f"{found}/pretrained.params: " in out and "parameters taken over" in out
    words = ("--stages", "garden:1:0.05", "--save-dir", tmp_path / "train")
    status, out, err = script(TRAIN, *options, *words, "--backbone", found)
    assert (status, err) == (0, "")
    assert "not used (" in out
    names = json.loads((tmp_path / "train" / "backbone.json").read_text())
    assert "stem1_conv_weight" in names["taken"] and names["other"] == names["missing"] == []
    assert "lambdas" in names["left"]
    before = read_params(found / "model.params")
    assert set(before) == {*names["taken"], *names["left"]}
    status, _, err = script(TRAIN, *options, "--stages", "garden:1:0.05", "--save-dir", run / "x")
    assert status == 2 and "which network? Give --architecture FILE, --model" in err


def test_neither_search_nor_training_reads_vocs_val_in_sbd(script, voc_and_sbd, complete, tmp_path):
    options = ("--data-dir", voc_and_sbd, *TINY)
    words = search_words(options, tmp_path / "search", "--data", "sbd", "--pretrain-epochs", 1)
    assert script(*words)[::2] == (0, "")
    status, out, _ = script(*words, "--dry-run")
    assert status == 0 and re.search(r"^steps an epoch +2$", out, re.M)  # of 6 images, in halves
    words = ("--architecture", complete, "--stages", "sbd+voc:1:0.01,voc:1:0.01")
    status, out, err = script(TRAIN, *options, *words, "--save-dir", tmp_path / "train")
    assert (status, err) == (0, "")
    # Also if it is tested on something else.
    words = (*words, "--test-data", "sbd", "--save-dir", tmp_path / "other")
    lists = voc_and_sbd / "sbd/ImageSets/Segmentation"
    (lists / "val.txt").write_text("val2\n")
    assert script(TRAIN, *options, *words)[::2] == (0, "")


def test_dry_runs_need_no_data(script, tmp_path):
    words = ("--blocks", 1, "--width", 4, "--data-dir", tmp_path, "--dry-run", *TINY)
    status, out, err = script(SEARCH, *words)
    assert (status, err) == (0, "")
    assert re.search(r"^MB a device +\d+  \(the paper's search: 4.3G\)$", out, re.M)
    assert list(tmp_path.iterdir()) == []
    status, out, err = script(
        TRAIN, "--model", "mobilenet_v2", "--data-dir", tmp_path, "--dry-run", *TINY
    )
    assert (status, err) == (0, "")
    assert (
        "5,113,877  (4,523,541 without the 3×3 convolution of the head; table 4: 4.5M mobilenet_v2)"
    ) in out
    assert re.search(r"^steps an epoch +52,291, 5,291, 732$", out, re.M)  # 10,582 of SBD and VOC


def test_a_block_found_on_cifar_goes_into_the_backbone(script, tiny_space, tmp_path):
    path = tmp_path / "found.json"
    Architecture.complete(tiny_space(scope="share")).save(path)
    status, out, err = script(TRAIN, "--architecture", path, "--dry-run", *TINY)
    assert (status, err) == (0, "")
    assert "table 4: 6.7M DSO-NAS-seg, 6.5M DSO-NAS-cls)" in out


def test_a_baseline_is_trained_and_tested(script, options, tmp_path):
    run = tmp_path / "run"
    words = ("--model", "mobilenet_v2", "--stages", "garden:1:0.05", "--save-dir", run)
    status, _, err = script(TRAIN, *options, *words)
    assert (status, err) == (0, "")
    result = json.loads((run / "result.json").read_text())
    assert result["parameters"] == 5_113_877 - 18 * 257  # of three classes
    assert script(TRAIN, "--eval", run)[::2] == (0, "")
    assert json.loads((run / "eval" / "result.json").read_text()) == result


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_bad_mask_is_named_and_costs_nothing(
    script, make_scenes, tmp_path, complete, part, monkeypatch
):
    """Also one that is met in the test after an epoch: the run goes on when it is mended."""
    monkeypatch.setattr(voc, "classes_in", partial(voc.classes_in, most=1))  # as among thousands
    folder, run = make_scenes(tmp_path / "garden"), tmp_path / "run"
    mask = folder / f"SegmentationClass/{part}2.png"
    good = mask.read_bytes()
    Image.fromarray(np.full((48, 32), 7, np.uint8)).save(mask)
    words = ("--architecture", complete, "--stages", "garden:1:0.05", "--save-dir", run)
    words = ("--data-dir", tmp_path, *TINY, *words)
    status, _, err = script(TRAIN, *words)
    assert status == 2 and err.count("\n") == 1
    assert f"{part}2.png: class 7 is unknown, there are 3 (0 to 2" in err
    mask.write_bytes(good)
    status, out, err = script(TRAIN, *words, "--resume")
    assert (status, err) == (0, "")
    if part == "val":
        assert "epoch 1, step 5" in out  # the four of the epoch are not done again


def test_a_bad_mask_that_is_looked_at_is_named_before_the_run(
    script, make_scenes, tmp_path, complete
):
    folder, run = make_scenes(tmp_path / "garden"), tmp_path / "run"
    Image.fromarray(np.full((48, 32), 7, np.uint8)).save(folder / "SegmentationClass/val2.png")
    words = ("--architecture", complete, "--stages", "garden:1:0.05", "--save-dir", run)
    status, _, err = script(TRAIN, "--data-dir", tmp_path, *TINY, *words)
    assert status == 2 and err.count("\n") == 1
    assert "val2.png: class 7 is unknown, there are 3 (0 to 2" in err
    assert not run.exists()


def test_a_missing_file_is_named_before_the_run(script, make_scenes, tmp_path, complete):
    folder = make_scenes(tmp_path / "garden")
    (folder / "JPEGImages/train2.jpg").unlink()
    words = ("--architecture", complete, "--stages", "garden:1:0.05")
    words = (*words, "--save-dir", tmp_path / "run")
    status, _, err = script(TRAIN, "--data-dir", tmp_path, *TINY, *words)
    assert status == 2 and err.count("\n") == 1
    assert "train2.jpg: not there, though" in err
    assert not (tmp_path / "run").exists()


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


def test_training_refuses(script, options, tmp_path):
    path = tmp_path / "mobile.json"
    proxyless("mobile-gpu").save(path)
    words = ("--stages", "garden:1:0.1", "--save-dir", tmp_path / "run")
    status, _, err = script(TRAIN, *options, *words, "--architecture", path)
    assert status == 2 and "mobile.json is of the mobile setting: give one of the normal" in err
    status, _, err = script(TRAIN, *options, *words, "--model", "mobilenet_v1", "--crop", 0)
    assert status == 2 and err == "train_voc.py: --crop must be at least 1, got 0\n"
    assert not (tmp_path / "run").exists()


def test_stages_of_the_paper():
    stages = parse_stages("coco+sbd+voc:100:0.014,voc:350:0.008")
    assert stages == [(["coco", "sbd", "voc"], 100, 0.014), (["voc"], 350, 0.008)]
    for text in ("voc", "voc:0:1", "voc:1:0", ":1:1", "voc+:1:1", "voc:1:x", ""):
        with pytest.raises(ValueError, match="--stages must be as"):
            parse_stages(text)


def paint(folder, change):
    """Change the labels of all masks to train on."""
    for path in (folder / "SegmentationClass").glob("train*.png"):
        mask = change(np.array(Image.open(path))).astype(np.uint8)
        Image.fromarray(mask).save(path)


def test_classes_in_no_mask_are_said_at_the_start(script, make_scenes, complete, tmp_path):
    """And what cannot teach anything is refused, before there is a run."""
    garden = make_scenes(tmp_path / "garden", train=4, val=2)
    options = ("--data-dir", tmp_path, *TINY)
    train = (TRAIN, *options, "--stages", "garden:1:0.05", "--architecture", complete)
    paint(garden, lambda mask: np.where(mask == 2, 1, mask))
    status, out, err = script(*search_words(options, tmp_path / "search", "--pretrain-epochs", 1))
    assert (status, err) == (0, "")
    assert "1 of 3 classes (berry) occur in no training image" in out
    status, out, err = script(*train, "--save-dir", tmp_path / "train")
    assert (status, err) == (0, "")
    assert "1 of 3 classes (berry) occur in test images alone" in out
    for label, message in (
        (1, "all training images are of one class, leaf: a network needs two at least"),
        (255, "no pixel of the training masks is labelled"),
    ):
        paint(garden, lambda mask, label=label: np.full_like(mask, label))
        for words in (search_words(options, tmp_path / "x", "--pretrain-epochs", 1), train):
            status, _, err = script(*words, "--save-dir", tmp_path / "x")
            assert (status, err) == (2, f"{words[0][6:]}: {message}\n")
    assert not (tmp_path / "x").exists()


def test_joined_maps_of_any_width(script, options, monkeypatch, tmp_path):
    """Whose channels MKLDNN can divide into blocks only together."""
    monkeypatch.setattr(graph.native, "load", lambda: False)
    words = search_words(options, tmp_path / "run", "--pretrain-epochs", 1, "--auxiliary", 0)
    assert script(*words)[::2] == (0, "")
