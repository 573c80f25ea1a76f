"""What operators on a CPU work in: one piece of memory that all use in turn, so the largest."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Dict, List, Mapping, Tuple

import mxnet as mx

from .forward import Shapes
from .memory import FLOAT, MB

# The project's operators divide a batch into so many parts at most, each of which has gradients of
# the weights of its own (kMostParts in native/operands.h).
PARTS = 16

# Of each operation of a level a thread has two maps of an image: its sum, and what comes of it.
MAPS = 2

# MB of MXNet's generators of random numbers: 1,024 Mersenne twisters of 5,000 bytes.
GENERATORS = 1024 * 5000 / MB

NATIVE = ("dsonas_level", "dsonas_collect")


def workspace(symbol: mx.sym.Symbol, shapes: Shapes, threads: int) -> float:
    """MB of it, in forward and backward without MKLDNN.

    Parameters
    ----------
    symbol : Symbol
    shapes : mapping
        Of its inputs.
    threads : int
        That compute an operator.
    """
    internals = symbol.get_internals()
    first: Dict[str, Tuple[int, ...]] = {}  # outputs, by the names of nodes
    for name, shape in zip(internals.list_outputs(), internals.infer_shape(**shapes)[1]):
        first.setdefault(re.sub(r"_output\d*$", "", name), shape)
    nodes: List[Dict[str, Any]] = json.loads(symbol.tojson())["nodes"]
    sizes = [0]
    for node in nodes:
        given = [nodes[source[0]] for source in node["inputs"]]
        if node["op"] == "Convolution":
            weight, out = first[given[1]["name"]], first[node["name"]]
            sizes.append(_unfolded(node["attrs"], weight, out))
        elif node["op"] in NATIVE:
            images, *image = first[node["name"]]
            learned = (first[one["name"]] for one in given if one["op"] == "null")
            weights = sum(map(math.prod, learned))
            maps = threads * MAPS * math.prod(image)
            sizes.append(maps + (min(PARTS, images) + 1) * weights)
    return FLOAT * max(sizes) / MB


def _unfolded(attributes: Mapping[str, str], weight: Tuple[int, ...], out: Tuple[int, ...]) -> int:
    """Elements of an image that MXNet unfolds: those that each pixel of the output is made of."""
    plain = {"kernel": "(1, 1)", "stride": "(1, 1)", "pad": "(0, 0)"}
    if all(attributes.get(name, value) == value for name, value in plain.items()):
        return 0
    groups = int(attributes.get("num_group", 1))
    return groups * math.prod(weight[1:]) * math.prod(out[2:])
