"""A training graph as a chain of executors, one a segment, which share their memory.

Within one executor MXNet computes a node again at most once, so that all maps of the largest
segment are in memory when backward gets there, however many segments there are. In a chain the
forward pass keeps nothing but the maps between the segments. Then each segment, from the last one
on, runs forward and backward by itself, and may compute nodes of its own once more: the recursion
of Chen et al. 2016, with checkpoints by block and recomputation inside.
"""

from __future__ import annotations

import json
import operator
from collections import Counter
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import mxnet as mx

INPUT = "segment_input"
HEAD_GRADIENT = "segment_head_gradient"
UNUSED = "segment_unused"

Arrays = Mapping[str, mx.nd.NDArray]
Bound = Union[mx.executor.Executor, "Chain"]


def split(symbol: mx.sym.Symbol, cuts: Sequence[str]) -> List[mx.sym.Symbol]:
    """The segments of a symbol that begin and end at the outputs of some of its nodes.

    Parameters
    ----------
    symbol : Symbol
    cuts : sequence of str
        Nodes of one output that everything behind depends on alone, but for parameters, in the
        order of execution.

    Returns
    -------
    list of Symbol
        One more than there are cuts. All but the first have the input `INPUT`, all but the last
        one output, the map that the next one starts from.
    """
    graph = json.loads(symbol.tojson(remove_amp_cast=False))
    position = {node["name"]: index for index, node in enumerate(graph["nodes"])}
    ends: List[Any] = [[[position[cut], 0, 0]] for cut in cuts] + [graph["heads"]]
    starts: List[Optional[str]] = [None, *cuts]
    return [_between(graph, position.get(start), heads) for start, heads in zip(starts, ends)]


def _between(
    graph: Mapping[str, Any], start: Optional[int], heads: Sequence[Sequence[int]]
) -> mx.sym.Symbol:
    """What `heads` need of a graph, when the node `start` is given as an input."""
    nodes = graph["nodes"]
    needed = {head[0] for head in heads}
    for index in range(max(needed), -1, -1):  # sources come before what uses them
        if index in needed and index != start:
            needed.update(source[0] for source in nodes[index]["inputs"])
    new = {index: number for number, index in enumerate(sorted(needed))}

    def entry(old: Sequence[int]) -> List[int]:
        return [new[old[0]], *old[1:]]

    kept = []
    for index in sorted(needed):
        if index == start:
            kept.append({**nodes[index], "op": "null", "name": INPUT, "attrs": {}, "inputs": []})
        else:
            inputs = [entry(source) for source in nodes[index]["inputs"]]
            kept.append({**nodes[index], "inputs": inputs})
    part = {
        "nodes": kept,
        "arg_nodes": [number for number, node in enumerate(kept) if node["op"] == "null"],
        "heads": [entry(head) for head in heads],
        "attrs": graph["attrs"],
    }
    return mx.sym.load_json(json.dumps(part))


def with_head_gradient(segment: mx.sym.Symbol) -> mx.sym.Symbol:
    """A loss whose gradient by the segment's output is the input `HEAD_GRADIENT`.

    An executor would copy a gradient that it is given into an array of its own.
    """
    return mx.sym.MakeLoss(mx.sym.sum(segment * mx.sym.Variable(HEAD_GRADIENT)))


def only_forward(segment: mx.sym.Symbol) -> mx.sym.Symbol:
    """The outputs of a segment in training, for a pass whose backward comes later, with a repeat.

    BNs leave their moving averages alone, which cuDNN moves in forward. The last output has a
    gradient, by an input `UNUSED`: MXNet takes a graph without any for one in inference.
    """
    graph = json.loads(segment.tojson(remove_amp_cast=False))
    for node in graph["nodes"]:
        if node["op"] == "BatchNorm":
            node["attrs"]["momentum"] = "1"
    segment = mx.sym.load_json(json.dumps(graph))
    return mx.sym.Group([segment, mx.sym.MakeLoss(mx.sym.Variable(UNUSED))])


class Chain:
    """Forward and backward of a symbol, segment by segment, as an executor of all of it would.

    Parameters
    ----------
    symbol : Symbol
        Losses and outputs, all of them behind the last cut. What a segment is to compute again
        within its own backward is marked.
    cuts : sequence of str
        See `split`.
    context : mx.Context
    arguments, gradients, states : mapping of str to NDArray
        As `Symbol.bind` takes them.
    largest : int
        The segment that takes the most memory. It is bound first: the others find room in it.
    shared : Chain, optional
        One of the same cuts, arguments and states for other gradients, whose memory this one uses.
    """

    def __init__(
        self,
        symbol: mx.sym.Symbol,
        cuts: Sequence[str],
        context: mx.Context,
        arguments: Arrays,
        gradients: Arrays,
        states: Arrays,
        largest: int = 0,
        shared: Optional[Chain] = None,
    ) -> None:
        self.arg_dict = dict(arguments)
        self._context = context
        self._gradients = gradients
        self._states = states
        self._segments = split(symbol, cuts)
        self._maps: List[mx.nd.NDArray]
        self._maps = shared._maps if shared else _maps_between(symbol, cuts, context, arguments)
        self._map_gradients: List[mx.nd.NDArray]
        self._map_gradients = shared._map_gradients if shared else _in_turn(self._maps)
        self._room: Optional[mx.executor.Executor] = shared._room if shared else None

        learns = [not gradients.keys().isdisjoint(s.list_arguments()) for s in self._segments]
        self._first = learns.index(True)  # no gradient is wanted of what comes before
        uses = Counter(name for s in self._segments for name in s.list_arguments())
        self._summands: Dict[str, Dict[int, mx.nd.NDArray]]
        self._summands = {name: {} for name in gradients if uses[name] > 1}

        indices = range(self._first, len(self._segments))
        bound = {i: self._bind_backward(i) for i in sorted(indices, key=lambda i: i != largest)}
        self._backward = [bound[i] for i in indices]
        self._outputs = [
            mx.nd.empty(output.shape, context, output.dtype)
            for output in bound[indices[-1]].outputs
        ]
        self._forward: List[mx.executor.Executor]
        self._forward = shared._forward if shared else self._bind_forward()

    def _bind_forward(self) -> List[mx.executor.Executor]:
        segments = map(only_forward, self._segments[:-1])
        unused = {UNUSED: mx.nd.zeros((1,), self._context)}
        return [
            self._bind(segment, {**self._given(index), **unused}, unused)
            for index, segment in enumerate(segments)
        ]

    def _bind_backward(self, index: int) -> mx.executor.Executor:
        segment, arguments = self._segments[index], self._given(index)
        gradients = dict(self._gradients)
        if index < len(self._maps):
            segment = with_head_gradient(segment)
            arguments[HEAD_GRADIENT] = self._map_gradients[index]
        if index > self._first:
            gradients[INPUT] = self._map_gradients[index - 1]
        for name in self._summands.keys() & segment.list_arguments():
            gradients[name] = self._summands[name][index] = mx.nd.zeros_like(gradients[name])
        return self._bind(segment, arguments, gradients)

    def _given(self, index: int) -> Dict[str, mx.nd.NDArray]:
        between = {INPUT: self._maps[index - 1]} if index else {}
        return {**self.arg_dict, **between}

    def _bind(
        self, segment: mx.sym.Symbol, arguments: Arrays, gradients: Arrays
    ) -> mx.executor.Executor:
        names = segment.list_arguments()
        slots = {name: gradients[name] for name in names if name in gradients}
        executor = segment.bind(
            self._context,
            args={name: arguments[name] for name in names},
            args_grad=slots,
            grad_req={name: "write" if name in slots else "null" for name in names},
            aux_states={name: self._states[name] for name in segment.list_auxiliary_states()},
            shared_exec=self._room,
        )
        self._room = self._room or executor
        return executor

    @property
    def executors(self) -> Tuple[Tuple[mx.executor.Executor, ...], ...]:
        """Those of each segment."""
        backward = [()] * self._first + [(executor,) for executor in self._backward]
        forward = [(executor,) for executor in self._forward] + [()]
        return tuple(map(operator.add, forward, backward))

    @property
    def bytes_between(self) -> int:
        """What the maps between the segments take, and their gradients."""
        arrays = {id(array): array for array in (*self._maps, *self._map_gradients)}
        return sum(array.size * array.dtype().itemsize for array in arrays.values())

    @property
    def outputs(self) -> List[mx.nd.NDArray]:
        """Those of the symbol, once `forward` has run."""
        return self._outputs

    def forward(self, is_train: bool = True) -> None:
        """Compute the outputs."""
        for executor, kept in zip(self._forward, self._maps):
            executor.forward(is_train=is_train)
            executor.outputs[0].copyto(kept)
        self._backward[-1].forward(is_train=is_train)
        for output, kept in zip(self._backward[-1].outputs, self._outputs):
            output.copyto(kept)  # others will use its memory

    def backward(self) -> None:
        """Compute the gradients, after `forward`."""
        self._backward[-1].backward()
        for executor in self._backward[-2::-1]:
            executor.forward(is_train=True)
            executor.backward()
        for name, summands in self._summands.items():
            # The last segment's first, as MXNet adds them up.
            order = sorted(summands, reverse=True)
            mx.nd.add_n(*(summands[index] for index in order), out=self._gradients[name])


def bind(
    symbol: mx.sym.Symbol,
    cuts: Sequence[str],
    context: mx.Context,
    arguments: Arrays,
    gradients: Arrays,
    states: Arrays,
    largest: int = 0,
    shared: Optional[Any] = None,
) -> Bound:
    """A symbol as one executor or, if there are cuts, as a `Chain` of them."""
    if cuts:
        return Chain(symbol, cuts, context, arguments, gradients, states, largest, shared)
    return symbol.bind(
        context,
        args=dict(arguments),
        args_grad=dict(gradients),
        grad_req={name: "write" if name in gradients else "null" for name in arguments},
        aux_states=dict(states),
        shared_exec=shared,
    )


def _maps_between(
    symbol: mx.sym.Symbol, cuts: Sequence[str], context: mx.Context, arguments: Arrays
) -> List[mx.nd.NDArray]:
    """An array for the output of each cut."""
    internals = symbol.get_internals()
    outputs = mx.sym.Group([internals[f"{cut}_output"] for cut in cuts])
    given = {name: arguments[name] for name in outputs.list_arguments()}
    _, shapes, _ = outputs.infer_shape(**{name: array.shape for name, array in given.items()})
    _, types, _ = outputs.infer_type(**{name: array.dtype for name, array in given.items()})
    return [mx.nd.empty(shape, context, dtype) for shape, dtype in zip(shapes, types)]


def _in_turn(maps: Sequence[mx.nd.NDArray]) -> List[mx.nd.NDArray]:
    """An array for the gradient of each map: where the last that nobody needs any longer was.

    When backward writes the gradient of a map it needs that map and the gradient of the next one;
    the next map itself, and all gradients behind, are done with.
    """
    spare: List[mx.nd.NDArray] = []
    gradients: List[mx.nd.NDArray] = []
    for index in reversed(range(len(maps))):
        like = maps[index]
        if index + 1 < len(maps):
            spare.append(maps[index + 1])
        if index + 2 < len(maps):
            spare.append(gradients[-2])
        fits = [s for s in spare if (s.shape, s.dtype) == (like.shape, like.dtype)]
        array = fits[0] if fits else mx.nd.empty(like.shape, like.context, like.dtype)
        spare = [s for s in spare if s is not array]
        gradients.append(array)
    return gradients[::-1]
