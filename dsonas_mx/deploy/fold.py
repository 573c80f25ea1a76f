"""What a deployed network need not do: BN goes into convolutions, average pools become some.

In inference BN is a scale and a shift a channel. Behind a convolution both go into its weight and
bias. An average pool of stride 1 that counts its padding is a depthwise convolution of constant
weights, which takes BN in and is several times faster on a CPU. What is left (BN behind a max pool)
becomes a 1×1 depthwise convolution, which fuses with its ReLU. Dropout goes. The function stays the
same up to rounding.
"""

from typing import List, Tuple

import mxnet as mx
import numpy as np

from .rewrite import Arrays, Folded, Node, Rewrite, attribute, numbers, rebuild


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
    return _Fold(Folded(symbol, arguments, auxiliary), pairs).run()


class _Fold(Rewrite):
    def __init__(self, network: Folded, pairs: bool) -> None:
        super().__init__(network)
        self._pairs = pairs

    def _build(self, index: int, node: Node) -> mx.sym.Symbol:
        if node["op"] == "BatchNorm":
            return self._batch_norm(node)
        if node["op"] == "add_n":
            return self._sum(node)
        if node["op"] == "Dropout" and attribute(node, "mode") != "always":
            return self._output(node["inputs"][0])
        return super()._build(index, node)

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
        edge = node["inputs"][0]
        source = self._nodes[edge[0]]
        alone = self._uses[edge[0]] == 1
        if alone and self._folds(source):
            return self._convolution(source, scale, shift)
        if alone and _is_plain_average(source):
            kernel = numbers(source, "kernel")
            weight = np.full((len(scale), 1, *kernel), 1 / np.prod(kernel))
            return self._depthwise(source, source["inputs"][0], weight, scale, shift)
        return self._depthwise(node, edge, np.ones((len(scale), 1, 1, 1)), scale, shift)

    def _affine(self, node: Node) -> Tuple[np.ndarray, np.ndarray]:
        """BN as x·scale + shift."""
        gamma, beta, mean, variance = (self._precise(edge) for edge in node["inputs"][1:])
        if attribute(node, "fix_gamma", "True") == "True":
            gamma = np.ones_like(gamma)
        scale = gamma / np.sqrt(variance + float(attribute(node, "eps", "1e-3")))
        return scale, beta - mean * scale

    def _folds(self, source: Node) -> bool:
        """Whether it is a convolution with a weight of its own."""
        return source["op"] == "Convolution" and all(
            self._uses[edge[0]] == 1 and self._name(edge) in self._arrays
            for edge in source["inputs"][1:]
        )

    def _convolution(self, source: Node, scale: np.ndarray, shift: np.ndarray) -> mx.sym.Symbol:
        weight, *bias = (self._precise(edge) for edge in source["inputs"][1:])
        if bias:
            shift = shift + bias[0] * scale
        inputs = [
            self._output(source["inputs"][0]),
            self._single(self._name(source["inputs"][1]), weight * scale[:, None, None, None]),
            self._single(f"{source['name']}_folded_bias", shift),
        ]
        return rebuild(source, inputs, no_bias="False")

    def _depthwise(
        self, node: Node, edge: List[int], weight: np.ndarray, scale: np.ndarray, shift: np.ndarray
    ) -> mx.sym.Symbol:
        """A convolution of each channel by itself, in place of `node`."""
        channels, kernel = len(scale), weight.shape[2:]
        name = node["name"]
        return mx.sym.Convolution(
            self._output(edge),
            self._single(f"{name}_folded_weight", weight * scale[:, None, None, None]),
            self._single(f"{name}_folded_bias", shift),
            num_filter=channels,
            num_group=channels,
            kernel=kernel,
            pad=tuple(side // 2 for side in kernel),
            name=name,
        )

    def _precise(self, edge: List[int]) -> np.ndarray:
        return self._arrays[self._name(edge)].astype(np.float64)

    def _single(self, name: str, value: np.ndarray) -> mx.sym.Symbol:
        return self._parameter(name, value.astype(np.float32))


def _is_plain_average(node: Node) -> bool:
    """An average pool that keeps the size and counts the padding: a convolution."""
    if node["op"] != "Pooling" or attribute(node, "pool_type") != "avg":
        return False
    if attribute(node, "global_pool") == "True":
        return False
    if attribute(node, "count_include_pad", "True") != "True" or numbers(node, "stride") != (1, 1):
        return False
    kernel = numbers(node, "kernel")
    return all(side % 2 for side in kernel) and numbers(node, "pad") == tuple(
        k // 2 for k in kernel
    )
