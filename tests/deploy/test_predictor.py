"""Predictor and tools/predict.py: what a deployed network says of images."""

import json
import re
from dataclasses import replace

from dsonas_mx import Predictor
from dsonas_mx.data.imagenet import centre
from dsonas_mx.data.voc import palette
from dsonas_mx.deploy.card import Card
from dsonas_mx.deploy.forms import deploy

import cv2
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import HybridBlock
from PIL import Image


class Brightness(HybridBlock):
    """Logits: minus, and plus, ten times the mean of the image."""

    def __init__(self, task):
        super().__init__(prefix="")
        self.task = task

    def hybrid_forward(self, F, x):
        if self.task == "classification":
            x = F.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg")
        x = F.mean(x, axis=1, keepdims=True)
        x = F.concat(-10 * x, 10 * x, dim=1)
        return F.flatten(x) if self.task == "classification" else x


@pytest.fixture
def deployed(tmp_path):
    def write(task="classification", forms=("mxnet",), channels=3, **changes):
        card = Card("", task, ("dark", "bright"), (channels, 8, 8), *[(0.5,) * channels] * 2)
        deploy(Brightness(task), tmp_path / "net", replace(card, **changes), forms)
        return tmp_path / "net.json"

    return write


@pytest.fixture
def images(tmp_path):
    paths = []
    for name, value in (("night", 20), ("day", 230)):
        paths.append(tmp_path / f"{name}.png")
        cv2.imwrite(str(paths[-1]), np.full((20, 14, 3), value, np.uint8))
    return paths


@pytest.mark.parametrize("form", ["mxnet", "onnx"])
@pytest.mark.parametrize("uint8_input", [False, True])
def test_classify(deployed, images, form, uint8_input):
    if form == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    card = deployed(forms=[form], uint8_input=uint8_input, batch=3 if form == "onnx" else None)
    predictor = Predictor(card)
    night, day = predictor.classify(images)
    assert [guess.name for guess in night] == ["dark", "bright"]
    assert [guess.name for guess in day] == ["bright", "dark"]
    logit = 10 * (230 / 255 - 0.5) / 0.5
    assert day[0].probability == pytest.approx(1 / (1 + np.exp(-2 * logit)), abs=1e-6)
    assert [[g.name for g in row] for row in predictor.classify(images, top=1)] == [
        ["dark"],
        ["bright"],
    ]


def test_arrays_of_any_kind(deployed, images):
    predictor = Predictor(deployed())
    grey = np.full((8, 8), 230, np.uint8)
    colour = np.full((5, 9, 3), 230, np.uint8)
    expected = predictor.outputs([images[1]])
    np.testing.assert_allclose(predictor.outputs([grey, colour]), expected.repeat(2, 0), rtol=1e-5)
    single = Predictor(deployed(channels=1))
    np.testing.assert_allclose(
        single.outputs([colour, images[1]]), expected.repeat(2, 0), rtol=1e-5
    )
    for wrong in (grey.astype(np.float32), np.zeros((2, 8, 8, 3), np.uint8)):
        with pytest.raises(ValueError, match="an image must be uint8"):
            predictor.outputs([wrong])
    with pytest.raises(ValueError, match="at least one image"):
        predictor.outputs([])


def test_segment_at_the_size_of_the_image(deployed):
    image = np.full((16, 24, 3), 20, np.uint8)
    image[:, 12:] = 230
    predictor = Predictor(deployed("segmentation"))
    (labels,) = predictor.segment([image])
    assert labels.shape == (16, 24)
    assert (labels[:, :11] == 0).all() and (labels[:, 13:] == 1).all()
    with pytest.raises(ValueError, match="this network is for segmentation, not for class"):
        predictor.classify([image])


def test_images_of_imagenet_lose_their_margin(deployed):
    """As in the test of a training: no image is squeezed."""
    image = np.random.RandomState(0).randint(0, 256, (30, 40, 3)).astype(np.uint8)
    predictor = Predictor(deployed(resize="centre"))
    mean = centre(image, 8).mean() / 255
    expected = 10 * (mean - 0.5) / 0.5
    np.testing.assert_allclose(predictor.outputs([image]), [[-expected, expected]], rtol=1e-4)


def test_a_network_of_any_size_sees_every_pixel(deployed):
    predictor = Predictor(deployed("segmentation", resize="none"))
    for height, width in ((5, 9), (16, 3)):
        image = np.where(np.arange(width) % 2, 230, 20).astype(np.uint8)
        image = np.broadcast_to(image[:, None], (height, width, 3)).copy()
        (labels,) = predictor.segment([image])
        assert (labels == np.arange(width) % 2).all() and labels.shape == (height, width)


def test_many_images_go_in_parts(deployed, monkeypatch):
    monkeypatch.setattr("dsonas_mx.deploy.predictor.MOST", 2)
    values = (20, 60, 120, 200, 230)
    images = [np.full((8, 8, 3), value, np.uint8) for value in values]
    expected = [10 * (value / 255 - 0.5) / 0.5 for value in values]
    np.testing.assert_allclose(Predictor(deployed()).outputs(images)[:, 1], expected, rtol=1e-4)


def test_the_tool(deployed, images, script, tmp_path):
    status, out, err = script("tools/predict.py", deployed(), *images, "--top", 1)
    assert (status, err) == (0, "")
    assert out.splitlines() == [f"{images[0]}: dark 100.0%", f"{images[1]}: bright 100.0%"]
    status, out, _ = script("tools/predict.py", deployed(), images[0].parent, "--top", 1)
    assert out.splitlines() == [f"{images[1]}: bright 100.0%", f"{images[0]}: dark 100.0%"]
    card = deployed("segmentation")
    status, out, _ = script("tools/predict.py", card, images[0], "--out", tmp_path / "maps")
    assert (status, out) == (0, f"{images[0]}: dark 100.0%\n")
    status, out, _ = script("tools/predict.py", card, images[1], "--out", tmp_path / "maps")
    assert (status, out) == (0, f"{images[1]}: bright 100.0%\n")
    for number, name in enumerate(("night", "day")):
        with Image.open(tmp_path / "maps" / f"{name}.png") as labels:
            assert (np.asarray(labels) == number).all()
            colours = np.asarray(labels.convert("RGB"))
        assert colours.shape == (20, 14, 3) and (colours == palette()[number]).all()


def test_one_broken_file_hides_no_answer(deployed, images, script):
    folder = images[0].parent / "photos"
    folder.mkdir()
    for name, source in (("a.png", images[0]), ("c.webp", images[1]), ("d.TIF", images[0])):
        Image.open(source).save(folder / name)
    (folder / "b.jpg").write_bytes(b"nothing")
    for card in (deployed(), deployed("segmentation")):
        status, out, err = script("tools/predict.py", card, folder, "--top", 1)
        answers = [line.rsplit("/", 1)[1].rsplit(" ", 1)[0] for line in out.splitlines()]
        assert (status, answers) == (2, ["a.png: dark", "c.webp: bright", "d.TIF: dark"])
        assert err == f"predict.py: {folder / 'b.jpg'}: not an image that can be read\n"


def test_the_tool_refuses(deployed, images, script, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no image")
    (tmp_path / "empty").mkdir()
    for words, message in (
        ((deployed(), text), "text.png: not an image that can be read"),
        ((deployed(), images[0], "--form", "onnx"), "form must be mxnet, got 'onnx'"),
        ((deployed(), images[0], "--out", "x"), "--out is for maps of classes"),
        ((images[0], images[0]), "night.png"),
        (
            (deployed(), tmp_path / "empty"),
            "no images (.bmp, .jpeg, .jpg, .png, .tif, ",
        ),
        ((tmp_path, images[0]), "is a folder: give a file"),
    ):
        status, out, err = script("tools/predict.py", *words)
        assert (status, out, len(err.splitlines())) == (2, "", 1)
        assert message in err


def test_the_tool_overwrites_nothing(deployed, images, script, tmp_path):
    card, before = deployed("segmentation"), images[0].read_bytes()
    for words, message in (
        ((images[0], images[0], "--out", tmp_path / "maps"), "would both be"),
        ((images[0], "--out", tmp_path), "would be overwritten: give another --out"),
    ):
        status, out, err = script("tools/predict.py", card, *words)
        assert (status, out) == (2, "") and message in err
    assert images[0].read_bytes() == before


def test_nothing_but_the_card_is_needed(deployed, images):
    """The project's operators are not in a deployed network."""
    symbol = mx.sym.load(str(deployed()).replace(".json", "-symbol.json"))
    assert symbol.list_arguments() == ["data"]


def test_a_network_that_is_not_that_of_its_card(deployed, images):
    """Its answers would be of other classes, or of none."""
    card = deployed()
    content = json.loads(card.read_text(encoding="utf-8"))
    for change, message in (
        ({"classes": ["a", "b", "c"]}, "2 images into 3 classes gave \\(2, 2\\)"),
        ({"task": "segmentation"}, "segmentation of 1 images into 2 classes gave \\(1, 2\\)"),
    ):
        card.write_text(json.dumps({**content, **change}), encoding="utf-8")
        predictor = Predictor(card)
        ask = predictor.segment if "task" in change else predictor.classify
        with pytest.raises(ValueError, match=f"is not that of its card: .*{message}"):
            ask(images)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"classes": ["a", "\x1b[31m"]}, "classes must be text without control characters"),
        ({"classes": "ab"}, "classes must be a list"),
        ({"classes": []}, "classes must be 1 to"),
        ({"shape": [2, 8, 8]}, "shape must have 1 or 3 channels"),
        ({"shape": [3, 8, 10**9]}, "shape must be at most"),
        ({"shape": [3, 8, 9], "resize": "centre"}, "shape must be square"),
        ({"mean": [0.5, 1e300, 0.5]}, "mean must be from"),
        ({"std": [0.5, 0, 0.5]}, "std must be from"),
        ({"std": [0.5, 0.5]}, "std must have 3 entries"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"batch": True}, "batch must be a whole number"),
        ({"uint8_input": 1}, "uint8_input must be true or false"),
        ({"test_error": 2}, "test_error must be from 0 to 1"),
        ({"architecture": []}, "architecture must be an object"),
        ({"forms": {"mxnet": {}}}, "mxnet must have files named"),
        ({"forms": {"tensorrt": {}}}, "forms must be mxnet or fused"),
        ({"version": True}, "version must be 1"),
        ({"extra": 1}, "unknown field 'extra'"),
    ],
)
def test_cards_of_other_kinds_of_content(deployed, change, message):
    card = deployed()
    content = json.loads(card.read_text(encoding="utf-8"))
    card.write_text(json.dumps({**content, **change}), encoding="utf-8")
    with pytest.raises(ValueError, match=f"^{re.escape(str(card))}: {re.escape(message)}"):
        Predictor(card)
