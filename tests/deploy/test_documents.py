"""What docs/deployment.md shows to other programs works as it stands there."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from dsonas_mx.deploy.card import Card
from dsonas_mx.deploy.forms import deploy
from dsonas_mx.deploy.predictor import Predictor

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

TEXT = Path(__file__).resolve().parents[2] / "docs" / "deployment.md"
SHAPE = (3, 32, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_space, randomised, some_architecture):
    """Where the files are that the text names, in each form; and what Gluon gives for zeros."""
    space = tiny_space(in_channels=3, width=8, num_classes=10, image_size=32)
    net = randomised(some_architecture(space))
    place = tmp_path_factory.mktemp("program")
    (place / "runs" / "train").mkdir(parents=True)
    card = Card("", "classification", tuple("0123456789"), SHAPE, (0.5,) * 3, (0.25,) * 3)
    pixels = np.random.RandomState(0).randint(0, 256, (4, *SHAPE)).astype(np.uint8)
    prefix = place / "runs" / "train" / "model"
    onnx = ("onnx",) if find_spec("onnx") and find_spec("onnxruntime") else ()
    deploy(net, prefix, card, ("mxnet", "fused", "int8", *onnx), [pixels])
    return place, net(mx.nd.zeros((1, *SHAPE))).asnumpy()


def block(start):
    """The block of Python of the text that begins so."""
    blocks = re.findall(r"```python\n(.*?)```", TEXT.read_text(encoding="utf-8"), re.S)
    (found,) = (text for text in blocks if text.startswith(start))
    return found


def run(program, folder):
    """What a program prints that is run by itself."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return np.array(done.stdout.split(), dtype=float)


SHOW = "\nprint(*logits.ravel())\nassert 'mxnet' not in __import__('sys').modules"


def test_the_library_alone(folder):
    place, expected = folder
    logits = run(block("import ctypes") + SHOW, place)
    np.testing.assert_allclose(logits, expected[0], atol=1e-4)


def test_onnx_runtime_alone(folder):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    place, _ = folder
    pixels = np.random.RandomState(1).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(place / "new.png")
    name, *logits = run(block("import json") + SHOW, place)
    with Predictor(place / "runs" / "train" / "model.json", "onnx") as predictor:
        (expected,) = predictor.outputs([place / "new.png"])
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert name == expected.argmax()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="plain mxnet does not import here")
def test_any_mxnet_program(folder):
    place, expected = folder
    show = "\nprint(*net(mx.nd.zeros((1, 3, 32, 32))).asnumpy().ravel())"
    logits = run(block("import mxnet") + show, place)
    assert np.corrcoef(logits, expected[0])[0, 1] > 0.9  # it is the form of bytes
