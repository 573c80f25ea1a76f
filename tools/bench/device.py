"""What a training graph gives a GPU to do: calls, bytes and multiply-adds of all its operators.

Forward is read from a symbol, backward from what MXNet makes of each operator. The calls are those
of kernels, cuDNN and cuBLAS in MXNet 1.9.1 without pointwise fusion; `tests/nullgpu` compares them
with what the null GPU counts.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any, Callable, Collection, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import mxnet as mx

FLOAT = 4  # bytes
VIEWS = ("Reshape", "Flatten", "BlockGrad", "_copy", "MakeLoss", "expand_dims")
_FEW = 2  # elements that a sum is divided over several blocks for, and needs a second call
_WITH_STATES = ("BatchNorm", "Dropout")
_MOST_OUTPUTS = 64  # of an operator
MOST_SUMMED = 4  # arrays that MXNet adds up by one call; more of them it adds one by one

Shape = Tuple[int, ...]


@dataclass(frozen=True)
class Work:
    """Calls, bytes that are read and written, and multiply-adds; and seconds of them."""

    calls: float = 0
    size: float = 0
    multiply_adds: float = 0
    seconds: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(_fields(self), _fields(other))))

    def __mul__(self, times: float) -> Work:
        return Work(*(times * a for a in _fields(self)))


def _fields(work: Work) -> Tuple[float, ...]:
    return work.calls, work.size, work.multiply_adds, work.seconds


class Node(NamedTuple):
    """An operator, with the elements of its inputs and outputs."""

    operator: str
    attributes: Mapping[str, str]
    inputs: Tuple[Shape, ...]
    outputs: Tuple[Shape, ...]
    learns: Tuple[bool, ...]  # of each input, whether a gradient is wanted

    @property
    def read(self) -> int:
        return sum(map(math.prod, self.inputs))

    @property
    def written(self) -> int:
        return sum(map(math.prod, self.outputs))

    def is_set(self, attribute: str, default: str) -> bool:
        return self.attributes.get(attribute, default) in ("True", "1")


Cost = Tuple[float, float, float]  # calls, elements, multiply-adds


def forward(node: Node) -> Cost:
    """Of an operator."""
    name = node.operator
    if name in VIEWS:
        return 0, 0, 0
    moved = node.read + node.written
    if name == "Convolution":
        return 1, moved, _products(node)
    if name == "BatchNorm":  # reads what it normalises twice
        return 1 + node.is_set("fix_gamma", "True"), 3 * math.prod(node.inputs[0]), 0
    if name == "Concat":
        return len(node.inputs), moved, 0
    if name == "add_n":
        return _sum(len(node.inputs), node.written)
    if name == "FullyConnected":  # and adds the bias
        return 2, moved, _products(node)
    if name == "slice_axis":
        return 1, 2 * node.written, 0
    return 1, moved, 0


def backward(node: Node) -> Cost:
    """Of the gradients of an operator that are wanted."""
    name, out = node.operator, node.written
    first = math.prod(node.inputs[0])
    if name == "MakeLoss":
        return 1, out, 0
    if name in VIEWS or name in ("add_n", "elemwise_add"):
        return 0, 0, 0
    if name == "Convolution":
        wanted = sum(node.learns[:2])
        return wanted, wanted * (node.read + out), wanted * _products(node)
    if name == "BatchNorm":
        return 1 + 2 * node.is_set("fix_gamma", "True"), 5 * first, 0
    if name == "Activation" or name == "relu":
        return 1, 3 * out, 0
    if name == "Pooling":
        # MXNet makes a gradient of a second output of max pools, which only MKLDNN has.
        is_max = node.attributes.get("pool_type", "max") == "max"
        return 1 + is_max, 2 * (first + out) + is_max * out, 0
    if name == "Concat":
        sizes = [math.prod(s) for s, learns in zip(node.inputs, node.learns) if learns]
        return len(sizes), 2 * sum(sizes), 0
    if name == "slice_axis":  # zeros, and the part
        return 2, first + 2 * out, 0
    if name == "broadcast_mul":
        calls, moved = 0, 0
        for shape, learns in zip(node.inputs, node.learns):
            calls += learns * (2 if math.prod(shape) < _FEW else 1)
            moved += learns * 2 * out
        return calls, moved, 0
    if name == "FullyConnected":
        wanted = sum(node.learns[:2])
        return 4 if node.learns[1] else 1, wanted * (node.read + out), wanted * _products(node)
    if name == "pick":
        return 2, 2 * first, 0
    return 1, node.read + out, 0


def _products(node: Node) -> float:
    """Every weight is used once a pixel of the output, or once a sample."""
    weight, out = node.inputs[1], node.outputs[0]
    return math.prod(weight) * out[0] * math.prod(out[2:])


def _sum(count: int, size: float) -> Cost:
    if count <= MOST_SUMMED:
        return 1, (count + 1) * size, 0
    return count, (2 + 3 * (count - 1)) * size, 0


def work(
    symbol: mx.sym.Symbol,
    shapes: Mapping[str, Shape],
    wanted: Collection[str],
    again: Collection[str] = (),
    twice: Collection[str] = (),
    time: Callable[[Work], float] = lambda work: 0.0,
) -> Work:
    """Of a forward and a backward pass.

    Parameters
    ----------
    symbol : Symbol
        With its losses.
    shapes : mapping
        Of the inputs.
    wanted : collection of str
        Variables whose gradients are computed.
    again, twice : collection of str
        Nodes that run forward once more each: within an executor; because of a chain.
    time : callable
        Seconds of an operator.
    """
    nodes = _distinct(json.loads(symbol.tojson())["nodes"])
    sizes = _shapes(symbol, shapes, nodes)
    learns, reached, gradients = _backward_pass(nodes, wanted)

    def of(cost: Cost) -> Work:
        calls, elements, products = cost
        one = Work(calls, FLOAT * elements, products)
        return replace(one, seconds=time(one))

    total = Work()
    for index, node in enumerate(nodes):
        if node["op"] == "null":
            continue
        inputs = tuple(sizes[s[0]][s[1]] for s in node["inputs"])
        wants = tuple(learns[s[0]] for s in node["inputs"])
        one = Node(node["op"], node.get("attrs", {}), inputs, tuple(sizes[index]), wants)
        times = 1 + (node["name"] in again) + (node["name"] in twice)
        total = total + of(forward(one)) * times
        if reached[index]:
            total = total + of(backward(one))
    for (index, output), count in gradients.items():
        if count > 1:
            total = total + of(_sum(count, math.prod(sizes[index][output])))
    return total


def _backward_pass(
    nodes: Sequence[Mapping[str, Any]], wanted: Collection[str]
) -> Tuple[List[bool], List[bool], Dict[Tuple[int, int], int]]:
    """Of each node, whether it depends on what is learned, and whether a gradient reaches it; and
    how many gradients of each output are added up.
    """
    learns: List[bool] = []
    for node in nodes:
        given = node["op"] == "null" and node["name"] in wanted
        passes = node["op"] not in ("null", "BlockGrad")
        learns.append(given or (passes and any(learns[s[0]] for s in node["inputs"])))
    reached = [False] * len(nodes)
    gradients: Dict[Tuple[int, int], int] = {}
    for index in reversed(range(len(nodes))):
        node = nodes[index]
        if node["op"] in ("MakeLoss", "SoftmaxOutput") and learns[index]:
            reached[index] = True
        if not reached[index]:
            continue
        for source, output, *_ in node["inputs"]:
            if learns[source]:
                reached[source] = True
                gradients[source, output] = gradients.get((source, output), 0) + 1
    return learns, reached, gradients


def _distinct(nodes: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """The nodes, each taking the first of those that compute the same, as MXNet does it."""
    first: Dict[str, int] = {}
    stands: List[int] = []
    found = []
    for index, node in enumerate(nodes):
        inputs = [[stands[s[0]], *s[1:]] for s in node["inputs"]]
        key = json.dumps([node["op"], node.get("attrs"), inputs], sort_keys=True)
        if node["op"] in ("null", *_WITH_STATES):
            key = node["name"]
        stands.append(first.setdefault(key, index))
        is_first = stands[-1] == index
        found.append({**node, "inputs": inputs} if is_first else {**node, "op": "null"})
    return found


def _shapes(
    symbol: mx.sym.Symbol, shapes: Mapping[str, Shape], nodes: Sequence[Mapping[str, Any]]
) -> List[List[Shape]]:
    """Of the outputs of each node that others can take."""
    internals = symbol.get_internals()
    known = dict(zip(internals.list_outputs(), internals.infer_shape(**shapes)[1]))
    found: List[List[Shape]] = []
    for node in nodes:
        name = node["name"]
        several = [f"{name}_output{number}" for number in range(_MOST_OUTPUTS)]
        names = [name, f"{name}_output", *several]
        found.append([known[one] for one in names if one in known])
    return found
