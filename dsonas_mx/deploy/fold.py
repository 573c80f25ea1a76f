"""What a deployed network need not do: BN goes into convolutions, average pools become some.

In inference BN is a scale and a shift a channel. Behind a convolution both go into its weight and
bias. An average pool of stride 1 that counts its padding is a depthwise convolution of constant
weights, which takes BN in and is several times faster on a CPU. What is left (BN behind a max pool)
becomes a 1×1 depthwise convolution, which fuses with its ReLU. Dropout goes. The function stays the
same up to rounding.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import mxnet as mx
import numpy as np

Arrays = Dict[str, np.ndarray]
Node = Dict[str, Any]


class Folded(NamedTuple):
    """A symbol with its parameters: all arguments, and what is left of moving statistics."""

    symbol: mx.sym.Symbol
    arguments: Arrays
    auxiliary: Arrays


def rebuild(node: Node, inputs: List[mx.sym.Symbol]) -> mx.sym.Symbol:
    """The operator of a node of a symbol's JSON over other inputs."""
    return _operator(node["op"])(*inputs, name=node["name"], **node.get("attrs", {}))


def _operator(name: str) -> Callable[..., mx.sym.Symbol]:
    if name.startswith("_contrib_"):
        return getattr(mx.sym.contrib, name[len("_contrib_") :])
    return getattr(mx.sym, name, None) or getattr(mx.sym._internal, name)


def fold(symbol: mx.sym.Symbol, arguments: Arrays, auxiliary: Arrays, pairs: bool = True) -> Folded:
    """The same network without BN.

    Parameters
    ----------
    symbol : Symbol
        Of inference, with the input ``'data'``.
    arguments, auxiliary : mapping of name to array
        Parameters and moving statistics.
    pairs : bool
        Sums of several maps become sums of two, which MKLDNN has in int8, too.
    """
    return _Fold(symbol, arguments, auxiliary, pairs).run()


class _Fold:
    def __init__(
        self, symbol: mx.sym.Symbol, arguments: Arrays, auxiliary: Arrays, pairs: bool
    ) -> None:
        self._pairs = pairs
        graph = json.loads(symbol.tojson())
        self._nodes: List[Node] = graph["nodes"]
        self._heads = graph["heads"]
        self._arrays = {**arguments, **auxiliary}
        edges = [source for node in self._nodes for source, *_ in node["inputs"]]
        self._uses = Counter(edges + [head for head, *_ in self._heads])
        self._built: List[Any] = []
        self._new: Arrays = {}

    def run(self) -> Folded:
        for node in self._nodes:
            self._built.append(self._build(node))
        outputs = [self._output(head) for head in self._heads]
        symbol = outputs[0] if len(outputs) == 1 else mx.sym.Group(outputs)
        known = {**self._arrays, **self._new}
        return Folded(
            symbol,
            {name: known[name] for name in symbol.list_arguments() if name in known},
            {name: known[name] for name in symbol.list_auxiliary_states()},
        )

    def _output(self, edge: List[int]) -> mx.sym.Symbol:
        built = self._built[edge[0]]
        return built[edge[1]] if len(built.list_outputs()) > 1 else built

    def _build(self, node: Node) -> Any:
        if node["op"] == "null":
            return mx.sym.Variable(node["name"])
        if node["op"] == "BatchNorm":
            return self._batch_norm(node)
        if node["op"] == "add_n":
            return self._sum(node)
        if node["op"] == "Dropout" and node.get("attrs", {}).get("mode") != "always":
            return self._output(node["inputs"][0])
        return rebuild(node, [self._output(edge) for edge in node["inputs"]])

    def _parameter(self, name: str, value: np.ndarray) -> mx.sym.Symbol:
        self._new[name] = value.astype(np.float32)
        return mx.sym.Variable(name)

    def _sum(self, node: Node) -> mx.sym.Symbol:
        """Two at a time, or all in one operator; two are added to what a convolution gives."""
        first, *others = maps = [self._output(edge) for edge in node["inputs"]]
        if len(maps) > 2 and not self._pairs:
            return rebuild(node, maps)
        for number, other in enumerate(others, 1):
            name = node["name"] if number == len(others) else f"{node['name']}_part{number}"
            first = mx.sym.elemwise_add(first, other, name=name)
        return first

    def _batch_norm(self, node: Node) -> mx.sym.Symbol:
        scale, shift = self._affine(node)
        source = self._nodes[node["inputs"][0][0]]
        alone = self._uses[node["inputs"][0][0]] == 1
        if alone and self._folds(source):
            return self._convolution(source, scale, shift)
        if alone and _is_plain_average(source):
            kernel = _pair(source, "kernel")
            weight = np.full((len(scale), 1, *kernel), 1 / np.prod(kernel))
            return self._depthwise(source, source["inputs"][0], weight, scale, shift)
        return self._depthwise(
            node, node["inputs"][0], np.ones((len(scale), 1, 1, 1)), scale, shift
        )

    def _affine(self, node: Node) -> Tuple[np.ndarray, np.ndarray]:
        """BN as x·scale + shift."""
        names = [self._nodes[source]["name"] for source, *_ in node["inputs"][1:]]
        gamma, beta, mean, variance = (self._arrays[n].astype(np.float64) for n in names)
        attributes = node.get("attrs", {})
        if attributes.get("fix_gamma", "True") == "True":
            gamma = np.ones_like(gamma)
        scale = gamma / np.sqrt(variance + float(attributes.get("eps", 1e-3)))
        return scale, beta - mean * scale

    def _folds(self, source: Node) -> bool:
        """Whether it is a convolution with a weight of its own."""
        if source["op"] != "Convolution":
            return False
        parameters = [index for index, *_ in source["inputs"][1:]]
        return all(
            self._uses[index] == 1 and self._nodes[index]["name"] in self._arrays
            for index in parameters
        )

    def _convolution(self, source: Node, scale: np.ndarray, shift: np.ndarray) -> mx.sym.Symbol:
        weight, bias = self._weights(source)
        if bias is not None:
            shift = shift + bias * scale
        name = source["name"]
        weight_name = self._nodes[source["inputs"][1][0]]["name"]
        inputs = [
            self._output(source["inputs"][0]),
            self._parameter(weight_name, weight * scale[:, None, None, None]),
            self._parameter(f"{name}_folded_bias", shift),
        ]
        attributes = {**source["attrs"], "no_bias": "False"}
        return rebuild({**source, "attrs": attributes}, inputs)

    def _weights(self, source: Node) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        arrays = [self._arrays[self._nodes[index]["name"]] for index, *_ in source["inputs"][1:]]
        arrays = [array.astype(np.float64) for array in arrays]
        return arrays[0], arrays[1] if len(arrays) > 1 else None

    def _depthwise(
        self, node: Node, edge: List[int], weight: np.ndarray, scale: np.ndarray, shift: np.ndarray
    ) -> mx.sym.Symbol:
        """A convolution of each channel by itself, in place of `node`."""
        channels, kernel = len(scale), weight.shape[2:]
        name = node["name"]
        return mx.sym.Convolution(
            self._output(edge),
            self._parameter(f"{name}_folded_weight", weight * scale[:, None, None, None]),
            self._parameter(f"{name}_folded_bias", shift),
            num_filter=channels,
            num_group=channels,
            kernel=kernel,
            pad=tuple(side // 2 for side in kernel),
            name=name,
        )


def _pair(node: Node, name: str) -> Tuple[int, ...]:
    return tuple(ast.literal_eval(node["attrs"].get(name, "(1, 1)")))


def _is_plain_average(node: Node) -> bool:
    """An average pool that keeps the size and counts the padding: a convolution."""
    attributes = node.get("attrs", {})
    if node["op"] != "Pooling" or attributes.get("pool_type") != "avg":
        return False
    if attributes.get("global_pool", "False") == "True":
        return False
    if attributes.get("count_include_pad", "True") != "True" or _pair(node, "stride") != (1, 1):
        return False
    kernel = _pair(node, "kernel")
    return all(side % 2 for side in kernel) and _pair(node, "pad") == tuple(k // 2 for k in kernel)
