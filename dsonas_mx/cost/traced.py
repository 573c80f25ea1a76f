"""The cost of any traced network, operator by operator, by the rules of `dsonas_mx.cost.count`."""

import json
import math
from typing import Any, Dict, List, Sequence, Tuple

import mxnet as mx
from mxnet.gluon import HybridBlock

from .count import Cost

# Done where the map is written, or nothing at all in inference.
FREE = frozenset(
    "BatchNorm Activation relu clip LeakyReLU Dropout BlockGrad _copy Flatten Reshape".split()
)

Shape = Tuple[int, ...]


def count_traced(net: HybridBlock, side: int) -> Cost:
    """Of a network, for one RGB image of that side."""
    return count_symbol(net(mx.sym.Variable("data")), (1, 3, side, side))


def count_symbol(symbol: mx.sym.Symbol, data_shape: Sequence[int]) -> Cost:
    """Parameters, multiply-adds and memory access of a network for one image.

    Parameters are all arguments but the data: weights, biases, BN's gamma and beta, and λ of a
    weighted network. Convolutions and fully connected layers have multiply-adds. Memory access is
    what each operator reads and writes, BN, activations and changes of shape aside.

    Parameters
    ----------
    symbol : Symbol
        Of one input, `data`; of a HybridBlock, ``net(mx.sym.Variable("data"))``.
    data_shape : sequence of int
        B×C×H×W; B is taken to be 1.

    Raises
    ------
    ValueError
        The shapes do not follow from that of the data.
    """
    internals = symbol.get_internals()
    _, shapes, _ = internals.infer_shape_partial(data=(1, *data_shape[1:]))
    shape_of: Dict[str, Shape] = dict(zip(internals.list_outputs(), shapes))
    for name, shape in shape_of.items():
        if not all(shape):
            raise ValueError(f"{name} has no shape that follows from {tuple(data_shape)} of data")
    nodes: List[Dict[str, Any]] = json.loads(symbol.tojson())["nodes"]
    parameters = sum(
        math.prod(shape_of[name]) for name in symbol.list_arguments() if name != "data"
    )
    multiply_adds = memory_access = 0
    for node in nodes:
        if node["op"] == "null" or node["op"] in FREE:
            continue
        inputs = [_shape(nodes[source], index, shape_of) for source, index, *_ in node["inputs"]]
        outputs = [_shape(node, index, shape_of) for index in range(_num_outputs(node))]
        multiply_adds += _multiply_adds(node["op"], inputs, outputs[0])
        memory_access += sum(map(math.prod, inputs + outputs))
    return Cost(parameters, multiply_adds, memory_access=memory_access)


def _multiply_adds(operator: str, inputs: Sequence[Shape], output: Shape) -> int:
    if operator not in ("Convolution", "Deconvolution", "FullyConnected"):
        return 0
    positions = math.prod(inputs[0] if operator == "Deconvolution" else output)
    return positions * math.prod(inputs[1][1:])  # of the weight: of each of its outputs


def _num_outputs(node: Dict[str, Any]) -> int:
    return int(node.get("attrs", {}).get("num_outputs", 1))


def _shape(node: Dict[str, Any], index: int, shape_of: Dict[str, Shape]) -> Shape:
    name = node["name"]
    if node["op"] == "null":
        return shape_of[name]
    return shape_of[f"{name}_output{index}" if _num_outputs(node) > 1 else f"{name}_output"]
