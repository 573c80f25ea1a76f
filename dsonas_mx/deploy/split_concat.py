"""Convolutions over joined maps as a sum of convolutions, one a map.

MKLDNN joins maps slowly: of one image through a found CIFAR network it took a third of the time. A
convolution over them is a sum, over the maps, of convolutions by its weights for each, and MKLDNN
adds to a map while it convolves. The function stays the same up to rounding.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from typing import Any, Dict, List

import mxnet as mx
import numpy as np

from .fold import Arrays, Folded, Node, rebuild


def split_concat(network: Folded) -> Folded:
    """The same network, in which no convolution takes a map that was joined for it alone."""
    return _Split(network).run()


class _Split:
    def __init__(self, network: Folded) -> None:
        graph = json.loads(network.symbol.tojson())
        self._nodes: List[Node] = graph["nodes"]
        self._heads: List[List[int]] = graph["heads"]
        self._network = network
        self._arrays: Arrays = dict(network.arguments)
        edges = [source for node in self._nodes for source, *_ in node["inputs"]]
        self._uses = Counter(edges + [head for head, *_ in self._heads])
        self._built: Dict[int, Any] = {}
        self._channels: Dict[int, int] = {}  # of maps, where they are known

    def run(self) -> Folded:
        for index, node in enumerate(self._nodes):
            if node["op"] == "Convolution":
                self._channels[index] = int(node["attrs"]["num_filter"])
            elif node["op"] in _KEEPS and node["inputs"][0][0] in self._channels:
                self._channels[index] = self._channels[node["inputs"][0][0]]
            self._built[index] = self._build(node)
        outputs = [self._output(head) for head in self._heads]
        symbol = outputs[0] if len(outputs) == 1 else mx.sym.Group(outputs)
        return Folded(
            symbol,
            {name: self._arrays[name] for name in symbol.list_arguments() if name in self._arrays},
            self._network.auxiliary,
        )

    def _output(self, edge: List[int]) -> mx.sym.Symbol:
        built = self._built[edge[0]]
        return built[edge[1]] if len(built.list_outputs()) > 1 else built

    def _build(self, node: Node) -> mx.sym.Symbol:
        if node["op"] == "null":
            return mx.sym.Variable(node["name"], attr=node.get("attrs"))
        if node["op"] == "Convolution" and self._splits(node):
            return self._sum(node)
        return rebuild(node, [self._output(edge) for edge in node["inputs"]])

    def _splits(self, node: Node) -> bool:
        """Whether it takes a joined map that nobody else does, of parts of known channels."""
        joined = self._nodes[node["inputs"][0][0]]
        if joined["op"] != "Concat" or joined["attrs"].get("dim", "1") != "1":
            return False
        parameters = [self._nodes[index]["name"] for index, *_ in node["inputs"][1:]]
        return (
            self._uses[node["inputs"][0][0]] == 1
            and ast.literal_eval(node["attrs"].get("num_group", "1")) == 1
            and all(source in self._channels for source, *_ in joined["inputs"])
            and all(name in self._arrays for name in parameters)
        )

    def _sum(self, node: Node) -> mx.sym.Symbol:
        """The convolution by the parts of its weight, each added to those before."""
        name, (_, weight_at, *bias_at) = node["name"], [edge[0] for edge in node["inputs"]]
        edges = self._nodes[node["inputs"][0][0]]["inputs"]
        ends = np.cumsum([self._channels[source] for source, *_ in edges])
        weights = np.split(self._arrays[self._nodes[weight_at]["name"]], ends[:-1], axis=1)
        total = None
        for number, (edge, weight) in enumerate(zip(edges, weights)):
            parameters = [self._parameter(f"{name}_part{number}_weight", weight)]
            has_bias = bool(bias_at) and not number
            if has_bias:
                parameters.append(self._built[bias_at[0]])
            part = rebuild(
                {
                    **node,
                    "name": f"{name}_part{number}",
                    "attrs": {**node["attrs"], "no_bias": str(not has_bias)},
                },
                [self._output(edge), *parameters],
            )
            last = number == len(edges) - 1
            sum_name = name if last else f"{name}_sum{number}"
            total = part if total is None else mx.sym.elemwise_add(part, total, name=sum_name)
        return total

    def _parameter(self, name: str, value: np.ndarray) -> mx.sym.Symbol:
        self._arrays[name] = np.ascontiguousarray(value)
        return mx.sym.Variable(name)


# Operators whose output has as many channels as their first input.
_KEEPS = frozenset("Activation Dropout Pooling _copy add_n clip elemwise_add _plus relu".split())
