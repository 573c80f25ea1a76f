"""Convolutions over joined maps as a sum of convolutions, one a map.

MKLDNN joins maps slowly: of one image through a found CIFAR network it took a third of the time. A
convolution over them is a sum, over the maps, of convolutions by its weights for each, and MKLDNN
adds to a map while it convolves. The function stays the same up to rounding.
"""

from typing import Dict

import mxnet as mx
import numpy as np

from .rewrite import Folded, Node, Rewrite, attribute, groups, rebuild

# Operators whose output has as many channels as their first input.
_KEEPS = frozenset("Activation Dropout Pooling _copy add_n clip elemwise_add _plus relu".split())


def split_concat(network: Folded) -> Folded:
    """The same network, in which no convolution takes a map that was joined for it alone."""
    return _Split(network).run()


class _Split(Rewrite):
    def __init__(self, network: Folded) -> None:
        super().__init__(network)
        self._channels: Dict[int, int] = {}  # of maps, where they are known

    def _build(self, index: int, node: Node) -> mx.sym.Symbol:
        if node["op"] == "Convolution":
            self._channels[index] = int(node["attrs"]["num_filter"])
            return self._sum(node) if self._splits(node) else super()._build(index, node)
        if node["op"] in _KEEPS and node["inputs"][0][0] in self._channels:
            self._channels[index] = self._channels[node["inputs"][0][0]]
        return super()._build(index, node)

    def _splits(self, node: Node) -> bool:
        """Whether it takes a joined map that nobody else does, of parts of known channels."""
        joined, *parameters = node["inputs"]
        maps = self._nodes[joined[0]]
        return (
            maps["op"] == "Concat"
            and attribute(maps, "dim", "1") == "1"
            and self._uses[joined[0]] == 1
            and groups(node) == 1
            and all(source in self._channels for source, *_ in maps["inputs"])
            and all(self._name(edge) in self._arrays for edge in parameters)
        )

    def _sum(self, node: Node) -> mx.sym.Symbol:
        """The convolution by the parts of its weight, each added to those before."""
        name, (joined, weight_edge, *bias) = node["name"], node["inputs"]
        edges = self._nodes[joined[0]]["inputs"]
        ends = np.cumsum([self._channels[source] for source, *_ in edges])
        weights = np.split(self._arrays[self._name(weight_edge)], ends[:-1], axis=1)
        total = None
        for number, (edge, weight) in enumerate(zip(edges, weights)):
            weight = np.ascontiguousarray(weight)
            parameters = [self._parameter(f"{name}_part{number}_weight", weight)]
            parameters += [] if number else map(self._output, bias)
            no_bias = str(len(parameters) == 1)
            inputs = [self._output(edge), *parameters]
            part = rebuild(node, inputs, name=f"{name}_part{number}", no_bias=no_bias)
            last = number == len(edges) - 1
            sum_name = name if last else f"{name}_sum{number}"
            total = part if total is None else mx.sym.elemwise_add(part, total, name=sum_name)
        return total
