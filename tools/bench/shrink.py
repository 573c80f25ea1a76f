"""Step time against the share of connections that are left, and of what they leave to compute."""

from __future__ import annotations

import argparse
from typing import Any, Dict, Mapping

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.cost.count import count
from dsonas_mx.engine.timing import alternate, medians

from .step import batch, both_steps, supernet

SHARES = (100, 75, 50, 25, 10)


def measure(options: argparse.Namespace) -> Dict[str, Any]:
    """A weight step and a λ step of supernets shrunk to random architectures, in turn.

    A connection costs little: its operation costs the step's time, and lives while one is left. So
    the shares of operations and of multiply-adds that are left stand beside the times.
    """
    space = SearchSpace.cifar10(width=options.width, blocks=(options.blocks,) * 3)
    data, label = batch(space, options.batch_size)
    pieces, operations, multiply_adds = {}, {}, {}
    for share in SHARES:
        connections = round(len(space.connections) * share / 100)
        left = Architecture.random(space, options.seed, connections=connections)
        operations[str(share)] = len(left.live_nodes(0))
        multiply_adds[str(share)] = count(left).multiply_adds
        graph, _ = supernet(space, options.batch_size, architecture=left)
        pieces[str(share)] = both_steps(graph, data, label)
    seconds = medians(alternate(pieces, options.rounds))
    return {
        "seconds": seconds,
        "ratio": of_complete(seconds),
        "operations": of_complete(operations),
        "multiply_adds": of_complete(multiply_adds),
        "width": options.width,
        "blocks": options.blocks,
        "batch_size": options.batch_size,
    }


def of_complete(values: Mapping[str, float]) -> Dict[str, float]:
    """Each as a share of that of the complete supernet."""
    return {share: value / values["100"] for share, value in values.items()}
