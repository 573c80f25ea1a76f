"""What a training in segmentation leaves behind, and tests of what another one left."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
from mxnet.gluon import HybridBlock

from ..confusion import Confusion
from ..data.voc import Scenes
from ..device import contexts
from ..export import load_parameters
from ..files import write_json
from ..params_file import read_params
from ..segment import SCALES, Predictor, evaluate, save_picture
from ..symbol_cost import Cost
from .run_folder import open_run


def take_from_run(options: argparse.Namespace, save_dir: str) -> None:
    """Complete the options of a test from the run of `--eval`: its network, and its data if no
    other are given. What the test writes goes into its folder ``eval``, if not elsewhere than to
    the default `save_dir`.

    Raises
    ------
    ValueError, OSError
        It is no run that came to its end.
    """
    run = Path(options.eval)
    for name in ("args.json", "model.params"):
        if not (run / name).is_file():
            raise FileNotFoundError(f"{run / name}: not there; --eval needs a run that has ended")
    if options.architecture or options.model or options.backbone:
        raise ValueError("--eval tests the network of its run: name no other")
    try:
        recorded = json.loads((run / "args.json").read_text(encoding="utf-8"))["options"]
        options.model, options.stages = recorded["model"], recorded["stages"]
        options.crop = recorded["crop"]  # that multiply-adds are counted at
        options.data_dir = options.data_dir or recorded["data_dir"]
        options.test_data = options.test_data or recorded["test_data"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{run / 'args.json'} is not of a run of this script: {error!r}") from None
    if options.model is None:
        options.architecture = str(run / "architecture.json")
    if options.save_dir == save_dir:
        options.save_dir = str(run / "eval")


def test_of_run(
    options: argparse.Namespace, net: HybridBlock, scenes: Scenes, count: Dict[str, Any]
) -> None:
    """Test what the run of `--eval` trained, in a run folder of its own."""
    load_parameters(net, read_params(Path(options.eval) / "model.params"))
    net.collect_params().reset_ctx(contexts(options.gpus, options.cpus))
    with open_run(options) as run:
        confusion = test_scenes(options, net, scenes, run.folder, count)
        run.log(describe(confusion))


def describe(confusion: Confusion) -> str:
    """The outcome of a test, for the log."""
    return (
        f"test mIoU {confusion.mean_iou:.2%}, pixels {confusion.pixel_accuracy:.2%}; a constant "
        f"prediction gets {confusion.of_constant():.2%}"
    )


def counts(cost: Cost, network: Any) -> Dict[str, Any]:
    """What a result tells of the size of a network: of an architecture also its connections."""
    found = {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds}
    connections = getattr(network, "num_connections", None)
    return found if connections is None else {**found, "connections": connections}


def test_scenes(
    options: argparse.Namespace,
    net: HybridBlock,
    scenes: Scenes,
    folder: Path,
    count: Dict[str, Any],
) -> Confusion:
    """Test a network on whole images; write result.json, of which `count` is a part, and pictures.

    `options` say at which scales, whether mirrored too, and how many pictures.
    """
    (folder / "pictures").mkdir(exist_ok=True)

    def picture(index: int, *arrays: np.ndarray) -> None:
        if index < options.pictures:
            name = scenes.files[index].name
            save_picture(folder / "pictures" / f"{name}.png", *arrays)

    context = contexts(options.gpus, options.cpus)[0]
    scales = SCALES if options.multi_scale else (1.0,)
    confusion = evaluate(Predictor(net, context, scales, options.flip), scenes, picture)
    class_iou = {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(scenes.classes, confusion.iou)
    }
    result = {
        "mean_iou": confusion.mean_iou,
        "pixel_accuracy": confusion.pixel_accuracy,
        "constant_iou": confusion.of_constant(),
        "class_iou": class_iou,
        **count,
    }
    write_json(folder / "result.json", result)
    return confusion
