"""Maps of whole blocks of channels: MKLDNN's fast float convolutions take 8 channels at a time.

On other numbers, such as the 36 of a first stage, its depthwise convolutions are a matrix product a
channel, an order of magnitude slower. So convolutions get filters of zeros up to the next multiple,
and what takes their maps has zeros for these channels: the function stays the same.
"""

from typing import List, NamedTuple, Optional, Set

import mxnet as mx
import numpy as np

from .rewrite import Folded, Node, Rewrite, attribute, groups, rebuild

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


def pad_channels(network: Folded) -> Folded:
    """The same network with multiples of 8 channels, inside.

    Parameters
    ----------
    network : Folded
        Of `dsonas_mx.deploy.fold.fold`. One with operators that are not known to keep channels
        apart is returned as it is.
    """
    try:
        return _Pad(network).run()
    except _Unsupported:
        return network


class _Pad(Rewrite):
    def __init__(self, network: Folded) -> None:
        super().__init__(network)
        self._layouts: List[Optional[Layout]] = []  # None: plain, of an unknown number of channels
        self._kept = self._seen_outside()

    def _seen_outside(self) -> Set[int]:
        """Nodes whose channels are those of an output of the network."""
        found: Set[int] = set()
        waiting = [head for head, *_ in self._heads]
        while waiting:
            index = waiting.pop()
            node = self._nodes[index]
            if index in found or node["op"] == "null":
                continue
            found.add(index)
            if node["op"] not in ("Convolution", "FullyConnected"):
                waiting += [source for source, *_ in node["inputs"]]
            elif groups(node) > 1:
                waiting.append(node["inputs"][0][0])
        return found

    def _build(self, index: int, node: Node) -> mx.sym.Symbol:
        if any(output for _, output, *_ in node["inputs"]):
            raise _Unsupported  # not of the first output
        layouts = [self._layouts[source] for source, *_ in node["inputs"]]
        if node["op"] == "Convolution":
            return self._convolution(index, node, layouts[0])
        if node["op"] == "FullyConnected" and layouts[0] is not None:
            self._layouts.append(None)
            return self._fully_connected(node, layouts[0])
        self._layouts.append(self._layout(node, layouts))
        return super()._build(index, node)

    def _layout(self, node: Node, layouts: List[Optional[Layout]]) -> Optional[Layout]:
        """The layout of what an operator without parameters gives."""
        name = node["op"]
        if name in _BY_CHANNEL:
            return layouts[0]
        if name in _SUMS:
            return _same(layouts)
        if name == "Concat" and attribute(node, "dim", "1") == "1":
            return _joined(layouts)
        if name == "Flatten" and self._is_pooled(node["inputs"][0][0]):
            return layouts[0]
        if all(layout is None or layout.is_plain for layout in layouts):
            return None
        raise _Unsupported

    def _is_pooled(self, index: int) -> bool:
        node = self._nodes[index]
        return node["op"] == "Pooling" and attribute(node, "global_pool") == "True"

    def _convolution(self, index: int, node: Node, layout: Optional[Layout]) -> mx.sym.Symbol:
        name, grouped = node["name"], groups(node)
        weight, *bias = map(self._array, node["inputs"][1:])
        count, inputs = len(weight), weight.shape[1] * grouped
        before = layout or Layout(np.arange(inputs), inputs)
        if grouped == 1:
            total = count if index in self._kept else -(-count // BLOCK) * BLOCK
            after = Layout(np.arange(count), total)
            padded = np.zeros((total, before.total, *weight.shape[2:]), weight.dtype)
            padded[np.ix_(after.positions, before.positions)] = weight
        elif grouped == count == inputs:
            after = before
            padded = np.zeros((after.total, *weight.shape[1:]), weight.dtype)
            padded[after.positions] = weight
        elif before.is_plain:
            after = Layout(np.arange(count), count)
        else:
            raise _Unsupported
        self._layouts.append(after)
        if after.is_plain and before.is_plain:
            return super()._build(index, node)
        parameters = [self._parameter(f"{name}_padded_weight", padded)]
        for array in bias:
            padded = np.zeros(after.total, array.dtype)
            padded[after.positions] = array
            parameters.append(self._parameter(f"{name}_padded_bias", padded))
        sizes = {"num_filter": after.total, "num_group": 1 if grouped == 1 else after.total}
        inputs_now = [self._output(node["inputs"][0]), *parameters]
        return rebuild(node, inputs_now, **{name: str(size) for name, size in sizes.items()})

    def _fully_connected(self, node: Node, layout: Layout) -> mx.sym.Symbol:
        source, edge, *bias = node["inputs"]
        weight = self._array(edge)
        if weight.shape[1] != len(layout.positions):
            raise _Unsupported
        padded = np.zeros((len(weight), layout.total), weight.dtype)
        padded[:, layout.positions] = weight
        parameter = self._parameter(f"{node['name']}_padded_weight", padded)
        return rebuild(node, [self._output(source), parameter, *map(self._output, bias)])

    def _array(self, edge: List[int]) -> np.ndarray:
        if self._name(edge) not in self._arrays:
            raise _Unsupported
        return self._arrays[self._name(edge)]


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
