"""A checkpoint of the authors: its architecture, parameters, multiply-adds, error on data."""

import argparse
from pathlib import Path
from typing import Any, Dict

from dsonas_mx.cli.data import load_images
from dsonas_mx.cli.options import ImageOptions
from dsonas_mx.cli.parser import taken
from dsonas_mx.cost.count import count
from dsonas_mx.data.loader import Loader
from dsonas_mx.release.checkpoint import FIXED
from dsonas_mx.training.fit import evaluate

import import_checkpoint
import mxnet as mx

from symbols import get_model


def measure(options: argparse.Namespace) -> Dict[str, Any]:
    """What is in the file; with data, the error on the test images too."""
    architecture, parameters, weighted = import_checkpoint.read(options)
    cost = count(architecture)
    result: Dict[str, Any] = {
        "file": Path(import_checkpoint.path_of(options)).name,
        "architecture": architecture.to_json(),
        "text": str(architecture),
        "supernet": weighted,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "connections": cost.connections,
        "test_error": None,
    }
    given = taken(ImageOptions(), options)
    asked = given.data_dir is not None or given.data_set == "fashion_mnist"
    if parameters is None or not asked:
        return result
    _, images, augmentation = load_images(given)
    space, classes = architecture.space, len(images.classes)
    if (space.stem, space.num_classes) != ("cifar", classes):
        raise ValueError(
            f"the network is for {space.num_classes} classes on the {space.stem} stem, the data "
            f"have {classes} and are small images: leave out --data-dir, or name its --data-set"
        )
    fixed = FIXED if weighted else "none"
    net = get_model("dsonas", architecture, weighted=weighted, fix_gamma=fixed)
    for name, parameter in net.collect_params().items():
        parameter.initialize(ctx=mx.cpu())
        parameter.set_data(mx.nd.array(parameters[name]))
    plain = augmentation.plain()
    data = Loader(images, None, given.batch_size, plain, shuffle=False, drop_last=False)
    result["test_error"] = 1 - evaluate(net, data, [mx.cpu()]).accuracy
    return result


def text(result: Dict[str, Any], options: argparse.Namespace) -> str:
    error = result["test_error"]
    lines = [
        result["text"],
        f"of {'a supernet, with λ' if result['supernet'] else 'a derived network'}",
        f"parameters     {result['parameters']:>14,}",
        f"multiply-adds  {result['multiply_adds']:>14,}",
        f"connections    {result['connections']:>14,}",
        f"test error     {'not measured' if error is None else f'{error:.2%}':>14}",
    ]
    return "\n".join(lines)
