"""A training graph as a chain of executors, one a segment, which share their memory.

Within one executor MXNet computes a node again at most once, so that all maps of the largest
segment are in memory when backward gets there, however many segments there are. In a chain the
forward pass keeps nothing but the maps between the segments. Then each segment, from the last one
on, runs forward and backward by itself, and may compute nodes of its own once more: the recursion
of Chen et al. 2016, with checkpoints by block and recomputation inside.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Container, Dict, List, Mapping, Optional, Sequence, Union

import mxnet as mx

from .device import reserved
from .marking import mark
from .recompute import Plan

DATA = "data"
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


def with_output(segment: mx.sym.Symbol) -> mx.sym.Symbol:
    """The same, and beside it the output, which forward needs before there is a gradient."""
    return mx.sym.Group([with_head_gradient(segment), mx.sym.BlockGrad(segment)])


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


def passed(segment: mx.sym.Symbol, wanted: Container[str], context: mx.Context) -> Optional[str]:
    """The input of a segment whose gradient is computed though nobody needs it, if there is one.

    MXNet goes through backward by what it is asked for, in the order of the arguments: where that
    begins with λ, it computes what comes from the end of the segment for all levels at once, and
    keeps it. Where it begins with the input, level by level. The CPU would move averages by it.
    """
    first, *others = segment.list_arguments()
    learned = [name for name in others if name in wanted]
    if context.device_type != "gpu" or first not in (DATA, INPUT) or first in wanted:
        return None
    return first if learned[0].endswith("lambdas") else None


class Chain:
    """Forward and backward of a symbol, segment by segment, as an executor of all of it would.

    Parameters
    ----------
    symbol : Symbol
        Losses and outputs, all of them behind the last cut.
    plan : Plan
        Where it is cut, which segments keep their maps, what the others compute again within their
        own backward, and which of them takes the most memory: it is bound first, and the others
        find room in it.
    context : mx.Context
    arguments, gradients, states : mapping of str to NDArray
        As `Symbol.bind` takes them.
    shared : Chain, optional
        One of the same cuts, arguments and states for other gradients, whose memory this one uses.
    """

    def __init__(
        self,
        symbol: mx.sym.Symbol,
        plan: Plan,
        context: mx.Context,
        arguments: Arrays,
        gradients: Arrays,
        states: Arrays,
        shared: Optional[Chain] = None,
    ) -> None:
        self.arg_dict = dict(arguments)
        self._context = context
        self._recomputed = plan.recomputed
        self._gradients = gradients
        self._states = states
        self._segments = split(symbol, plan.cuts)
        self._maps: List[mx.nd.NDArray]
        self._maps = shared._maps if shared else maps_between(symbol, plan.cuts, context, arguments)
        self._map_gradients: List[mx.nd.NDArray]
        self._map_gradients = shared._map_gradients if shared else in_turn(self._maps)
        self._room: Optional[mx.executor.Executor] = shared._room if shared else None

        learns = [not gradients.keys().isdisjoint(s.list_arguments()) for s in self._segments]
        self._first = learns.index(True)  # no gradient is wanted of what comes before
        uses = Counter(name for s in self._segments for name in s.list_arguments())
        self._summands: Dict[str, Dict[int, mx.nd.NDArray]]
        self._summands = {name: {} for name in gradients if uses[name] > 1}

        # The first ones run forward only, before they run forward and backward.
        self._keeps, self._apart, last = plan.keeps, plan.apart, len(self._maps)
        self._backward: Dict[int, mx.executor.Executor] = {}
        others = shared._backward if shared else {}
        indices = range(self._first, last + 1)
        for index in sorted(indices, key=lambda index: index != plan.largest):
            self._backward[index] = self._bind_backward(index, others.get(index))
        self._forward: Dict[int, mx.executor.Executor]
        self._forward = dict(shared._forward) if shared else {}
        for index in range(max(self._keeps, self._first)):
            if index not in self._forward:
                self._forward[index] = self._bind_forward(index)
        self._outputs = [
            reserved(output.shape, context, output.dtype) for output in self._backward[last].outputs
        ]

    def _bind_forward(self, index: int) -> mx.executor.Executor:
        unused = {UNUSED: mx.nd.zeros((1,), self._context)}
        segment = only_forward(self._segments[index])
        return self._bind(segment, {**self._given(index), **unused}, unused, self._room)

    def _bind_backward(
        self, index: int, other: Optional[mx.executor.Executor]
    ) -> mx.executor.Executor:
        segment, arguments = self._segments[index], self._given(index)
        keeps = self._keeps <= index < len(self._maps)
        gradients = dict(self._gradients)
        if index < len(self._maps):
            segment = with_output(segment) if keeps else with_head_gradient(segment)
            arguments[HEAD_GRADIENT] = self._map_gradients[index]
        start = INPUT if index > self._first else passed(segment, gradients, self._context)
        if start is not None:
            like = arguments[start]
            gradients[start] = (
                self._map_gradients[index - 1]
                if index
                else reserved(like.shape, like.context, like.dtype)
            )
        for name in self._summands.keys() & segment.list_arguments():
            like = gradients[name]
            gradients[name] = reserved(like.shape, like.context, like.dtype)
            self._summands[name][index] = gradients[name]
        if keeps:
            return self._bind(segment, arguments, gradients, other)
        segment = mark(segment, self._recomputed, self._context.device_type == "gpu", gradients)
        if index == len(self._maps) and self._apart:
            return self._bind(segment, arguments, gradients, other)
        executor = self._bind(segment, arguments, gradients, self._room)
        self._room = self._room or executor
        return executor

    def _given(self, index: int) -> Dict[str, mx.nd.NDArray]:
        between = {INPUT: self._maps[index - 1]} if index else {}
        return {**self.arg_dict, **between}

    def _bind(
        self,
        segment: mx.sym.Symbol,
        arguments: Arrays,
        gradients: Arrays,
        shared: Optional[mx.executor.Executor],
    ) -> mx.executor.Executor:
        names = segment.list_arguments()
        slots = {name: gradients[name] for name in names if name in gradients}
        return segment.bind(
            self._context,
            args={name: arguments[name] for name in names},
            args_grad=slots,
            grad_req={name: "write" if name in slots else "null" for name in names},
            aux_states={name: self._states[name] for name in segment.list_auxiliary_states()},
            shared_exec=shared,
        )

    @property
    def outputs(self) -> List[mx.nd.NDArray]:
        """Those of the symbol, once `forward` has run."""
        return self._outputs

    def forward(self, is_train: bool = True) -> None:
        """Compute the outputs."""
        for index, kept in enumerate(self._maps):
            executor = self._forward.get(index) or self._backward[index]
            executor.forward(is_train=is_train)
            executor.outputs[0 if index in self._forward else -1].copyto(kept)
        last = self._backward[len(self._maps)]
        last.forward(is_train=is_train)
        for output, kept in zip(last.outputs, self._outputs):
            output.copyto(kept)  # others will use its memory

    def backward(self) -> None:
        """Compute the gradients, after `forward`."""
        for index in sorted(self._backward, reverse=True):
            if index < self._keeps and index < len(self._maps):
                self._backward[index].forward(is_train=True)
            self._backward[index].backward()
        for name, summands in self._summands.items():
            # The last segment's first, as MXNet adds them up.
            order = sorted(summands, reverse=True)
            mx.nd.add_n(*(summands[index] for index in order), out=self._gradients[name])


def bind(
    symbol: mx.sym.Symbol,
    plan: Plan,
    context: mx.Context,
    arguments: Arrays,
    gradients: Arrays,
    states: Arrays,
    shared: Optional[Any] = None,
) -> Bound:
    """A symbol as one executor or, if the plan has cuts, as a `Chain` of them."""
    if plan.cuts:
        return Chain(symbol, plan, context, arguments, gradients, states, shared)
    return mark(symbol, plan.recomputed, context.device_type == "gpu", gradients).bind(
        context,
        args=dict(arguments),
        args_grad=dict(gradients),
        grad_req={name: "write" if name in gradients else "null" for name in arguments},
        aux_states=dict(states),
        shared_exec=shared,
    )


def maps_between(
    symbol: mx.sym.Symbol, cuts: Sequence[str], context: mx.Context, arguments: Arrays
) -> List[mx.nd.NDArray]:
    """An array for the output of each cut."""
    internals = symbol.get_internals()
    position = {name: index for index, name in enumerate(internals.list_outputs())}
    outputs = mx.sym.Group([internals[position[f"{cut}_output"]] for cut in cuts])
    given = {name: arguments[name] for name in outputs.list_arguments()}
    _, shapes, _ = outputs.infer_shape(**{name: array.shape for name, array in given.items()})
    _, types, _ = outputs.infer_type(**{name: array.dtype for name, array in given.items()})
    return [reserved(shape, context, dtype) for shape, dtype in zip(shapes, types)]


def in_turn(maps: Sequence[mx.nd.NDArray]) -> List[mx.nd.NDArray]:
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
        array = fits[0] if fits else reserved(like.shape, like.context, like.dtype)
        spare = [s for s in spare if s is not array]
        gradients.append(array)
    return gradients[::-1]
