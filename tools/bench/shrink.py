"""Step time against the share of connections that are left."""

from __future__ import annotations

import argparse
from typing import Any, Dict

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.timing import alternate, medians

from .step import batch, both_steps, supernet

SHARES = (100, 75, 50, 25, 10)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--blocks", type=int, default=1, help="a stage")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is taken")
    parser.add_argument("--seed", type=int, default=0, help="of the random architectures")


def measure(options: argparse.Namespace) -> Dict[str, Any]:
    """A weight step and a λ step of supernets shrunk to random architectures, in turn."""
    space = SearchSpace.cifar10(width=options.width, blocks=(options.blocks,) * 3)
    data, label = batch(space, options.batch_size)
    pieces = {}
    for share in SHARES:
        connections = round(len(space.connections) * share / 100)
        left = Architecture.random(space, options.seed, connections=connections)
        graph, _ = supernet(space, options.batch_size, architecture=left)
        pieces[str(share)] = both_steps(graph, data, label)
    seconds = medians(alternate(pieces, options.rounds))
    return {
        "seconds": seconds,
        "ratio": {share: value / seconds["100"] for share, value in seconds.items()},
        "width": options.width,
        "blocks": options.blocks,
        "batch_size": options.batch_size,
    }
