"""Runs of every kind through tools/export.py: read, on images of their own, and used again."""

import json
import re
import shutil
from pathlib import Path

from dsonas_mx import Architecture, Predictor, SearchSpace
from dsonas_mx.data import voc
from dsonas_mx.deploy.card import Card
from dsonas_mx.deploy.export import load_parameters
from dsonas_mx.deploy.samples import sample_images
from dsonas_mx.deploy.trained import read_trained
from dsonas_mx.io.params_file import read_params
from dsonas_mx.training.segmentation import evaluate

import cv2
import mxnet as mx
import numpy as np
import pytest

from symbols import network_of
from symbols.segmentation import deeplab

EXPORT, PREDICT = "tools/export.py", "tools/predict.py"
FORMS = ("--fuse", "--int8", "--images", 4)


def onnx_if_there():
    try:
        import onnx
        import onnxruntime
    except ImportError:
        return ()
    return ("--onnx",) if onnx and onnxruntime else ()


def read(folder):
    return read_trained(folder, network_of, deeplab)


@pytest.fixture(scope="module")
def space():
    return SearchSpace.imagenet(
        levels=1, operations=("sep3", "max"), blocks=(1, 1, 1, 1), width=4, image_size=24
    )


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A folder for what several tests start from."""
    return tmp_path_factory.mktemp("once")


@pytest.fixture
def segmenter(script, scenes_folder, space, once, tmp_path):
    """A trained segmentation run: a copy of its folder."""
    if not (once / "pixels").exists():
        Architecture.complete(space).save(once / "found.json")
        words = ("--data-dir", scenes_folder.parent, "--crop", 24, "--batch-size", 2)
        words += ("--architecture", once / "found.json", "--stages", "garden:3:0.1")
        status, _, err = script("train/train_voc.py", *words, "--save-dir", once / "pixels")
        assert (status, err) == (0, "")
    return shutil.copytree(once / "pixels", tmp_path / "pixels", symlinks=True)


def test_segmentation(segmenter, script, scenes_folder, tmp_path):
    status, out, err = script(EXPORT, segmenter, *FORMS, *onnx_if_there())
    assert (status, err) == (0, "")
    assert "on 3 test images" in out
    card = Card.load(segmenter / "model.json")
    assert card.task == "segmentation" and card.classes == ("ground", "leaf", "berry")
    result = json.loads((segmenter / "result.json").read_text())
    assert (card.parameters, card.multiply_adds) == (result["parameters"], result["multiply_adds"])
    assert card.mean_iou == result["mean_iou"] and card.test_error is None
    scenes = voc.load_scenes(scenes_folder, "val")
    for form in set(card.forms) - {"int8"}:  # each on whole images, as in the test of the training
        predictor = Predictor(segmenter / "model.json", form)
        confusion = evaluate(lambda image, p=predictor: p.segment([image])[0], scenes)
        assert confusion.mean_iou == pytest.approx(result["mean_iou"], abs=0.002)
    image = scenes.files[0].image
    words = (image, "--form", "int8", "--out", tmp_path / "maps")
    status, out, err = script(PREDICT, segmenter / "model.json", *words)
    assert (status, err) == (0, "")
    assert re.match(rf"{re.escape(str(image))}: (ground|leaf|berry) \d+\.\d%", out)
    shape = cv2.imread(str(image)).shape
    assert cv2.imread(str(tmp_path / "maps" / "val0.png")).shape == shape


def test_a_checkpoint_has_no_scores_of_the_run(segmenter):
    assert read(segmenter).card().mean_iou is not None
    card = read(segmenter / "checkpoint" / "best").card()
    assert card.mean_iou is None and card.classes == ("ground", "leaf", "berry")


def test_onnx_of_any_size(segmenter, script):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    status, _, err = script(EXPORT, segmenter, "--onnx", "--batch", 2)
    assert (status, err) == (0, "")
    session = onnxruntime.InferenceSession(str(segmenter / "model.onnx"))
    assert session.get_inputs()[0].shape == [2, 3, "height", "width"]
    net = read(segmenter).net
    data = np.random.RandomState(0).randn(2, 3, 33, 50).astype(np.float32)
    expected = net(mx.nd.array(data)).asnumpy()
    (actual,) = session.run(None, {"data": data})
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())


def test_over_a_mobilenet(tmp_path):
    """Its run has no architecture, and here no data and no result either."""
    net = deeplab("mobilenet_v2", 21)
    net.initialize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    net.collect_params().save(str(tmp_path / "model.params"))
    (tmp_path / "args.json").write_text('{"options": {"model": "mobilenet_v2", "crop": 32}}')
    trained = read(tmp_path)
    card = trained.card()
    assert card.classes == tuple(voc.CLASSES) and card.architecture is None
    assert card.shape == (3, 32, 32) and card.parameters == 5_113_877
    again = deeplab("mobilenet_v2", 21)
    load_parameters(again, read_params(tmp_path / "model.params"))
    data = mx.nd.random.normal(shape=(1, 3, 32, 32))
    np.testing.assert_array_equal(trained.net(data).asnumpy(), again(data).asnumpy())
    with pytest.raises(ValueError, match="there must be 21 classes, got 1"):
        trained.card(classes=("cat",))


@pytest.fixture(scope="module")
def records(tmp_path_factory, striped_records):
    """30 wide images to train and 12 to test, and these as files."""
    folder = tmp_path_factory.mktemp("records")
    return striped_records(folder, {"train": 30, "val": 12}, width=60, files=True)


def train_imagenet(script, records, folder, architecture):
    words = ("--small", "--data-dir", records, "--num-classes", 3, "--num-samples", 30)
    words += ("--image-size", 32, "--batch-size", 6, "--num-epochs", 2)
    words += ("--architecture", architecture, "--save-dir", folder)
    status, _, err = script("train/train_imagenet.py", *words)
    assert (status, err) == (0, "")


def test_imagenet_is_seen_as_in_its_test(script, records, space, tmp_path):
    """The error of each form is that of the training's test, as its images are."""
    Architecture.complete(space).save(tmp_path / "found.json")
    folder = tmp_path / "run"
    train_imagenet(script, records, folder, tmp_path / "found.json")
    (tmp_path / "names").write_text("flat\nsteep\nboth\n")
    words = ("--fuse", *onnx_if_there(), "--classes", tmp_path / "names")
    status, out, err = script(EXPORT, folder, *words)
    assert (status, err) == (0, "")
    assert "on 12 test images" in out
    card = Card.load(folder / "model.json")
    assert card.resize == "centre" and card.classes == ("flat", "steep", "both")
    files = [records / "files" / f"val{key}.png" for key in range(12)]
    for form in card.forms:
        guesses = Predictor(folder / "model.json", form).classify(files, top=1)
        wrong = [row[0].name != card.classes[key % 3] for key, row in enumerate(guesses)]
        assert np.mean(wrong) == pytest.approx(card.test_error)


def test_mobile_networks(script, records, tmp_path):
    small = ("--small", "--data-dir", records, "--num-classes", 3, "--num-samples", 30)
    small += ("--image-size", 32, "--batch-size", 6, "--num-epochs", 1)
    mobile = ("--space", "mobile-gpu", "--blocks", 1, "--width-multiplier", 0.02)
    search = tmp_path / "search"
    assert script("train/search_imagenet.py", *small, *mobile, "--save-dir", search)[0] == 0
    folder = tmp_path / "run"
    train_imagenet(script, records, folder, search / "architecture.json")
    status, out, err = script(EXPORT, folder, *FORMS, *onnx_if_there(), "--uint8-input")
    assert (status, err) == (0, "")
    for form in ("mxnet", "fused", *(["onnx"] if onnx_if_there() else [])):
        row = next(line.split() for line in out.splitlines() if line.startswith(f"{form} "))
        assert float(row[2]) < 1e-4 and row[3] == "100.00%"
    image = records / "files" / "val0.png"
    status, out, err = script(PREDICT, folder / "model.json", image, "--form", "int8")
    assert (status, err) == (0, "")
    assert sorted(re.findall(r"(\d) \d+\.\d%", out)) == ["0", "1", "2"]


def test_images_of_a_folder(segmenter, records, scenes_folder):
    trained = read(segmenter)
    card = trained.card()
    calibration, compared, real = sample_images(trained, card, str(records / "files"), 5, 3)
    assert real and calibration.shape == (5, 3, 24, 24) and compared.shape == (3, 3, 24, 24)
    own = sample_images(trained, card, None, 5, 3)
    for folder in (scenes_folder, scenes_folder.parent):
        given = sample_images(trained, card, str(folder), 5, 3)
        np.testing.assert_array_equal(given[0], own[0])
    with pytest.raises(OSError, match="nowhere: no such folder"):
        sample_images(trained, card, str(Path(records) / "nowhere"), 5, 3)
    trained.options["data_dir"] = "nowhere"
    assert not sample_images(trained, card, None, 5, 3)[2]
