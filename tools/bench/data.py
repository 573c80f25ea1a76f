"""Batches that are augmented as in training from scratch, against a step of a found network."""

from __future__ import annotations

import argparse
from typing import Any, Dict

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.data import DATA_SETS, Images
from dsonas_mx.data.augment import Augmentation
from dsonas_mx.data.loader import Loader
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.engine.timing import alternate, medians
from dsonas_mx.training.loss import cross_entropy

import mxnet as mx
import numpy as np

from symbols import get_model


def measure(options: argparse.Namespace) -> Dict[str, Any]:
    """An epoch of batches without a thread, and as many steps on one batch, in turn."""
    size, steps = options.batch_size, 4
    data = DATA_SETS["cifar10"]
    space = SearchSpace.cifar10(width=options.width, blocks=(options.blocks,) * 3)
    architecture = Architecture.random(space, 0, connections=options.connections)
    net = get_model("dsonas", architecture, dropout=0.4, drop_path=0.5)
    net.initialize()
    shape = (size, data.channels, data.image_size, data.image_size)
    graph = TrainGraph(net, cross_entropy, shape, shape[:1], [mx.cpu()])
    generator = np.random.RandomState(0)
    pixels = generator.randint(0, 256, (steps * size, *shape[2:], shape[1])).astype(np.uint8)
    labels = generator.randint(0, len(data.classes), len(pixels)).astype(np.int32)
    augment = Augmentation(data.mean, data.std, data.pad, data.fill, cutout=16)
    loader = Loader(Images(pixels, labels, data.classes), None, size, augment, prefetch=0)
    batch = next(loader.epoch(0))

    def read() -> None:
        for _ in loader.epoch(0):
            pass

    def train() -> None:
        for _ in range(steps):
            graph.step("all", batch.data, batch.labels)

    seconds = medians(alternate({"data": read, "step": train}, options.rounds))
    samples = steps * size
    return {
        "ratio": seconds["data"] / seconds["step"],
        "samples_s": samples / seconds["data"],
        "step_samples_s": samples / seconds["step"],
        "width": options.width,
        "blocks": options.blocks,
        "batch_size": size,
    }
