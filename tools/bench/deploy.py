"""Forms of a deployed network of 3.0M parameters, in turn; or errors of those of a --run."""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict

from dsonas_mx import Predictor
from dsonas_mx.cost.count import count
from dsonas_mx.cost.width import Target, fit_width, parameters
from dsonas_mx.data import load_data_set
from dsonas_mx.deploy.card import FORMS, Card
from dsonas_mx.deploy.forms import deploy
from dsonas_mx.deploy.quantize import float_operators
from dsonas_mx.deploy.samples import sample_images
from dsonas_mx.deploy.trained import read_trained
from dsonas_mx.engine.timing import alternate, medians

import mxnet as mx
import numpy as np

from symbols import architectures, get_model, network_of
from symbols.segmentation import deeplab


def measure(options: argparse.Namespace) -> Dict[str, Any]:
    """Seconds as `Predictor` serves each form, the speed-up over the plain network, hybridized as
    Gluon does it by default, and the share of ONNX Runtime's time.
    """
    if options.run:
        return errors(options)
    found = architectures.load(options.architecture).with_space(
        blocks=(options.blocks,) * 3, num_classes=10, in_channels=3, image_size=32
    )
    found = fit_width(found, Target("parameters", options.target_params, parameters), 4)
    before = os.getloadavg()[0]
    net = get_model("dsonas", found)
    net.initialize()
    classes = tuple(map(str, range(10)))
    card = Card("", "classification", classes, (3, 32, 32), (0.5,) * 3, (0.25,) * 3)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (16, *card.shape), dtype=np.uint8)
    result: Dict[str, Any] = {"parameters": count(found).parameters, "width": found.space.width}
    with tempfile.TemporaryDirectory() as folder:
        forms = FORMS if has_onnx() else FORMS[:3]
        prefix = Path(folder) / "net"
        deploy(net, prefix, card, forms, [pixels[:8], pixels[8:]])
        quantized = mx.sym.load(f"{prefix}-int8-symbol.json")
        result["float in int8"] = float_operators(quantized) or "none"
        net.hybridize()
        runs: Dict[str, Callable[[np.ndarray], Any]] = {
            "plain": lambda data: net(mx.nd.array(data)).asnumpy()
        }
        for form in forms:
            runs[form] = Predictor(f"{prefix}.json", form).serving
        for size in (1, 16):
            data = card.prepare(pixels[:size])
            pieces = {form: partial(run, data) for form, run in runs.items()}
            seconds = medians(alternate(pieces, options.rounds, 3, pause=0.02))
            result[f"ms {size}"] = {form: 1e3 * value for form, value in seconds.items()}
            result[f"speed {size}"] = {k: seconds["plain"] / v for k, v in seconds.items()}
            if "onnx" in seconds:
                result[f"of onnx {size}"] = {k: v / seconds["onnx"] for k, v in seconds.items()}
        result["load before and after"] = [before, os.getloadavg()[0]]  # of others, if above 1
    return result


def has_onnx() -> bool:
    try:
        import onnx
        import onnxruntime
    except ImportError:
        return False
    return bool(onnx.__version__ and onnxruntime.__version__)


def errors(options: argparse.Namespace) -> Dict[str, Any]:
    """The test error of each form, on all test images."""
    trained = read_trained(options.run, network_of, deeplab)
    trained.options.setdefault("data_set", "cifar10")
    card = trained.card()
    calibration, _, real = sample_images(trained, card, options.data_dir, 128, 1)
    if not real:
        raise ValueError("the run's data set is not here: give --data-dir")
    folder = options.data_dir or trained.options.get("data_dir")
    test = load_data_set(trained.options["data_set"], folder, train=False)
    result: Dict[str, Any] = {"images": len(test)}
    with tempfile.TemporaryDirectory() as place:
        prefix = Path(place) / "net"
        parts = np.split(calibration, 16)
        deploy(trained.net, prefix, card, FORMS[:3], parts)
        for form in FORMS[:3]:
            predictor = Predictor(f"{prefix}.json", form)
            wrong = 0
            for start in range(0, len(test), 100):
                part = slice(start, start + 100)
                outputs = predictor.outputs(list(test.images[part]))
                wrong += int((outputs.argmax(1) != test.labels[part]).sum())
            result[f"error {form}"] = wrong / len(test)
    return result
