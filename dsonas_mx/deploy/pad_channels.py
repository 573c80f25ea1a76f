"""Maps of whole blocks of channels: MKLDNN's fast float convolutions take 8 channels at a time.

On other numbers, such as the 36 of a first stage, its depthwise convolutions are a matrix product a
channel, an order of magnitude slower. So convolutions get filters of zeros up to the next multiple,
and what takes their maps has zeros for these channels: the function stays the same.
"""

from __future__ import annotations

import ast
import json
from typing import Any, List, NamedTuple, Optional, Set

import mxnet as mx
import numpy as np

from .fold import Arrays, Folded, Node, rebuild

BLOCK = 8

# Operators that treat each channel of their first input alike, and by itself.
_BY_CHANNEL = frozenset(
    "Activation Dropout Pooling _contrib_BilinearResize2D _copy broadcast_like clip relu".split()
)
_SUMS = frozenset("add_n elemwise_add _plus _Plus broadcast_add".split())


class Layout(NamedTuple):
    """Where the channels of a map are among all, of which the others mean nothing."""

    positions: np.ndarray
    total: int

    @property
    def is_plain(self) -> bool:
        return len(self.positions) == self.total


class _Unsupported(Exception):
    """A map that is padded goes into an operator that would see it."""


def pad_channels(network: Folded, block: int = BLOCK) -> Folded:
    """The same network with multiples of `block` channels, inside.

    Parameters
    ----------
    network : Folded
        Of `dsonas_mx.deploy.fold.fold`. One with operators that are not known to keep channels
        apart is returned as it is.
    """
    try:
        return _Pad(network, block).run()
    except _Unsupported:
        return network


class _Pad:
    def __init__(self, network: Folded, block: int) -> None:
        graph = json.loads(network.symbol.tojson())
        self._nodes: List[Node] = graph["nodes"]
        self._heads = [head for head, *_ in graph["heads"]]
        self._arrays: Arrays = {**network.arguments, **network.auxiliary}
        self._block = block
        self._built: List[Any] = []
        self._layouts: List[Optional[Layout]] = []  # None: plain, of an unknown number of channels
        self._kept = self._seen_outside()

    def _seen_outside(self) -> Set[int]:
        """Nodes whose channels are those of an output of the network."""
        found: Set[int] = set()
        waiting = list(self._heads)
        while waiting:
            index = waiting.pop()
            node = self._nodes[index]
            if index in found or node["op"] == "null":
                continue
            found.add(index)
            if node["op"] not in ("Convolution", "FullyConnected"):
                waiting += [source for source, *_ in node["inputs"]]
            elif _groups(node) > 1:
                waiting.append(node["inputs"][0][0])
        return found

    def run(self) -> Folded:
        for index, node in enumerate(self._nodes):
            layouts = [self._layouts[source] for source, *_ in node["inputs"]]
            if node["op"] == "Convolution":
                layout = self._convolution(index, node, layouts[0])
            else:
                layout = self._layout(node, layouts)
            if len(self._built) == index:
                self._built.append(self._rebuilt(node))
            self._layouts.append(layout)
        outputs = [self._built[head] for head in self._heads]
        symbol = outputs[0] if len(outputs) == 1 else mx.sym.Group(outputs)
        names = symbol.list_arguments(), symbol.list_auxiliary_states()
        arguments, auxiliary = ({k: self._arrays[k] for k in n if k in self._arrays} for n in names)
        return Folded(symbol, arguments, auxiliary)

    def _rebuilt(self, node: Node) -> mx.sym.Symbol:
        if node["op"] == "null":
            return mx.sym.Variable(node["name"])
        if any(output for _, output, *_ in node["inputs"]):
            raise _Unsupported  # not of the first output
        return rebuild(node, [self._built[source] for source, *_ in node["inputs"]])

    def _layout(self, node: Node, layouts: List[Optional[Layout]]) -> Optional[Layout]:
        """The layout of what a node gives; builds a node that takes others than before."""
        name = node["op"]
        if name in _BY_CHANNEL:
            return layouts[0]
        if name in _SUMS:
            return _same(layouts)
        if name == "Concat" and node["attrs"].get("dim", "1") == "1":
            return _joined(layouts)
        if name == "FullyConnected" and layouts[0] is not None:
            self._fully_connected(node, layouts[0])
            return None
        if name == "Flatten" and self._is_pooled(node["inputs"][0][0]):
            return layouts[0]
        if all(layout is None or layout.is_plain for layout in layouts):
            return None
        raise _Unsupported

    def _is_pooled(self, index: int) -> bool:
        node = self._nodes[index]
        attributes = node.get("attrs", {})
        return node["op"] == "Pooling" and attributes.get("global_pool", "False") == "True"

    def _convolution(self, index: int, node: Node, layout: Optional[Layout]) -> Optional[Layout]:
        name, groups = node["name"], _groups(node)
        weight, *bias = (self._array(source) for source, *_ in node["inputs"][1:])
        count, inputs = len(weight), weight.shape[1] * groups
        before = layout or Layout(np.arange(inputs), inputs)
        if groups == 1:
            total = count if index in self._kept else -(-count // self._block) * self._block
            after = Layout(np.arange(count), total)
            padded = np.zeros((total, before.total, *weight.shape[2:]), weight.dtype)
            padded[np.ix_(after.positions, before.positions)] = weight
        elif groups == count == inputs:
            after = before
            padded = np.zeros((after.total, *weight.shape[1:]), weight.dtype)
            padded[after.positions] = weight
        elif before.is_plain:
            return Layout(np.arange(count), count)
        else:
            raise _Unsupported
        if after.is_plain and before.is_plain:
            return after
        parameters = [self._parameter(f"{name}_padded_weight", padded)]
        for array in bias:
            padded = np.zeros(after.total, array.dtype)
            padded[after.positions] = array
            parameters.append(self._parameter(f"{name}_padded_bias", padded))
        attributes = {**node["attrs"], "num_filter": str(after.total)}
        attributes["num_group"] = "1" if groups == 1 else str(after.total)
        source = self._built[node["inputs"][0][0]]
        self._built.append(rebuild({**node, "attrs": attributes}, [source, *parameters]))
        return after

    def _fully_connected(self, node: Node, layout: Layout) -> None:
        source, index, *bias = (edge[0] for edge in node["inputs"])
        weight = self._array(index)
        if weight.shape[1] != len(layout.positions):
            raise _Unsupported
        padded = np.zeros((len(weight), layout.total), weight.dtype)
        padded[:, layout.positions] = weight
        parameter = self._parameter(f"{node['name']}_padded_weight", padded)
        rest = [self._built[number] for number in bias]
        self._built.append(rebuild(node, [self._built[source], parameter, *rest]))

    def _array(self, index: int) -> np.ndarray:
        name = self._nodes[index]["name"]
        if name not in self._arrays:
            raise _Unsupported
        return self._arrays[name]

    def _parameter(self, name: str, value: np.ndarray) -> mx.sym.Symbol:
        self._arrays[name] = value
        return mx.sym.Variable(name)


def _groups(node: Node) -> int:
    return ast.literal_eval(node["attrs"].get("num_group", "1")) if "attrs" in node else 1


def _same(layouts: List[Optional[Layout]]) -> Optional[Layout]:
    known = [layout for layout in layouts if layout is not None]
    if len(known) < len(layouts):
        if all(layout.is_plain for layout in known):
            return None
        raise _Unsupported
    first = known[0]
    for other in known[1:]:
        if other.total != first.total or not np.array_equal(other.positions, first.positions):
            raise _Unsupported
    return first


def _joined(layouts: List[Optional[Layout]]) -> Optional[Layout]:
    known = [layout for layout in layouts if layout is not None]
    if len(known) < len(layouts):
        return _same(layouts)
    starts = np.cumsum([0, *(layout.total for layout in known)])
    positions = [start + layout.positions for start, layout in zip(starts, known)]
    return Layout(np.concatenate(positions), int(starts[-1]))
