"""What the executors of a training graph would take: by binding alone, which allocates nothing."""

from __future__ import annotations

import json
import math
import re
from functools import cached_property
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Set

import mxnet as mx

from .chain import (
    HEAD_GRADIENT,
    INPUT,
    in_turn,
    maps_between,
    only_forward,
    passed,
    split,
    with_head_gradient,
    with_output,
)
from .device import reserved
from .forward import Shapes
from .marking import mark
from .memory import FLOAT, MB, allocated
from .recompute import NONE, Names, Taken

MOST_ELEMENTS = 2**31 - 1  # of an array of MXNet as it is built

# Bytes that MXNet keeps of each node of a bound graph, and of each input of one, as they were
# counted on a CPU: attributes, shapes, arrays, and operations of its engine.
NODE = 3100

# A layer's mark on its copy of λ (see symbols/dsonas.py), by which blocks of one make would differ.
LAYER = "__layer__"


class Part(NamedTuple):
    """A segment, or all of a graph: what may be bound, and on what."""

    symbol: mx.sym.Symbol
    arrays: Mapping[str, mx.nd.NDArray]
    wanted: Set[str]  # whose gradients are computed


class Trial:
    """Binds a symbol or its segments on arrays that are never filled.

    Parameters
    ----------
    symbol : Symbol
    wanted : set of str
        The parameters whose gradients are computed.
    shapes : mapping
        Of the inputs.
    cuts : sequence of str
        Where it can become a chain.
    context : mx.Context
        Where: a GPU's executors take other memory than the CPU's.

    Raises
    ------
    ValueError
        An array would be larger than MXNet can have.
    """

    def __init__(
        self,
        symbol: mx.sym.Symbol,
        wanted: Set[str],
        shapes: Shapes,
        cuts: Sequence[str],
        context: mx.Context,
    ) -> None:
        self._symbol = symbol
        self._wanted = wanted
        self._cuts = cuts
        self._context = context
        self._known: Dict[str, Taken] = {}
        arguments, self._outputs, states = symbol.infer_shape(**shapes)
        names = (*symbol.list_arguments(), *symbol.list_auxiliary_states())
        self._arrays: Dict[str, mx.nd.NDArray] = {}
        for name, shape in zip(names, (*arguments, *states)):
            if math.prod(shape) > MOST_ELEMENTS:
                raise ValueError(
                    f"{name} has {math.prod(shape):,} elements, an array of MXNet {MOST_ELEMENTS:,}"
                    " at most: use a smaller width or batch"
                )
            self._arrays[name] = reserved(shape, context)

    @property
    def on_gpu(self) -> bool:
        """Whether it is to run on one."""
        return self._context.device_type == "gpu"

    def whole(self, recomputed: Names) -> Taken:
        """MB of one executor that computes these nodes again."""
        return self._bound(Part(self._symbol, self._arrays, self._wanted), recomputed)

    def segments(self, recomputed: Names) -> List[Taken]:
        """MB of each segment of a chain that computes these nodes again in its own backward."""
        taken = [self._of_make(part, recomputed) for part in self._parts]
        return [Taken(maps * times, graph) for (maps, graph), times in zip(taken, self._rounded)]

    def kept(self) -> List[Taken]:
        """MB of each segment but the last, if it keeps all its maps."""
        sizes = []
        for part, segment, end in zip(self._parts, self._divided, self._maps):
            size = end.size * end.dtype().itemsize  # that of half of what the segment has
            waste = allocated(size, self._context) / size - 1
            taken = self._of_make(part._replace(symbol=with_output(segment)), NONE)
            sizes.append(Taken(taken.maps * (1 + waste / 2), taken.graph))
        return sizes

    def forward(self) -> List[float]:
        """MB of the graph of each segment but the last, if it goes forward only."""
        graphs = [json.loads(only_forward(s).tojson())["nodes"] for s in self._divided[:-1]]
        return [
            self._of_nodes(sum(1 + len(node["inputs"]) for node in nodes if node["op"] != "null"))
            for nodes in graphs
        ]

    def between(self) -> float:
        """MB of the maps between the segments, of their gradients, and of copies of the outputs."""
        arrays = {id(array): array for array in (*self._maps, *in_turn(self._maps))}.values()
        sizes = [array.size * array.dtype().itemsize for array in arrays]
        sizes += [FLOAT * math.prod(shape) for shape in self._outputs]
        return sum(allocated(size, self._context) for size in sizes) / MB

    @cached_property
    def _maps(self) -> List[mx.nd.NDArray]:
        return maps_between(self._symbol, self._cuts, self._context, self._arrays)

    @cached_property
    def _divided(self) -> List[mx.sym.Symbol]:
        return split(self._symbol, self._cuts)

    @cached_property
    def _parts(self) -> List[Part]:
        """The segments, without those that have no backward: nothing before them is learned."""
        parts: List[Part] = []
        learns = False
        for index, symbol in enumerate(self._divided):
            arrays, wanted = dict(self._arrays), set(self._wanted)
            if index:
                arrays[INPUT] = self._maps[index - 1]
                wanted |= {INPUT} if learns else set()
            learns = learns or not wanted.isdisjoint(symbol.list_arguments())
            if learns:
                start = passed(symbol, wanted, self._context)
                wanted |= set() if start is None else {start}
            if index < len(self._maps):
                symbol = with_head_gradient(symbol)
                arrays[HEAD_GRADIENT] = self._maps[index]
            parts.append(Part(symbol, arrays, wanted))
        return parts

    @cached_property
    def _rounded(self) -> List[float]:
        """How many times what a segment reports is allocated: devices round up large pieces."""
        times = []
        for symbol, arrays, *_ in self._parts:
            given = {name: arrays[name].shape for name in symbol.list_arguments()}
            _, shapes, _ = symbol.get_internals().infer_shape(**given)
            sizes = [FLOAT * math.prod(shape) for shape in shapes]
            times.append(sum(allocated(size, self._context) for size in sizes) / sum(sizes))
        return times

    def _of_nodes(self, count: int) -> float:
        """MB of so many nodes and inputs on the device; those of a GPU are in the host's memory."""
        return 0.0 if self.on_gpu else NODE * count / MB

    def _of_make(self, part: Part, recomputed: Names) -> Taken:
        """Of one make, one is bound."""
        key = _make(part, recomputed)
        if key not in self._known:
            self._known[key] = self._bound(part, recomputed)
        return self._known[key]

    def _bound(self, part: Part, recomputed: Names) -> Taken:
        arrays = part.arrays
        symbol = mark(part.symbol, recomputed, self.on_gpu, part.wanted)
        names = symbol.list_arguments()
        executor = symbol.bind(
            self._context,
            args={name: arrays[name] for name in names},
            args_grad={name: arrays[name] for name in names if name in part.wanted},
            grad_req={name: "write" if name in part.wanted else "null" for name in names},
            aux_states={name: arrays[name] for name in symbol.list_auxiliary_states()},
        )
        text = executor.debug_str()
        return Taken(reported(executor), self._of_nodes(text.count("Op:") + text.count("arg[")))


class Trials:
    """Of a graph that is bound for several kinds of gradients: the larger maps, and all graphs."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._trials = trials

    def whole(self, recomputed: Names, limit: float) -> Taken:
        """See `Trial`; what takes more than the limit is not measured to the end."""
        most, graph = 0.0, 0.0
        for trial in self._trials:
            taken = trial.whole(recomputed)
            most, graph = max(most, taken.maps), graph or self.kinds * taken.graph
            if most > limit:
                break
        return Taken(most, graph)

    def segments(self, recomputed: Names) -> List[Taken]:
        """See `Trial`."""
        return [*map(_together, zip(*(trial.segments(recomputed) for trial in self._trials)))]

    def kept(self) -> List[Taken]:
        """See `Trial`."""
        return [*map(_together, zip(*(trial.kept() for trial in self._trials)))]

    def forward(self) -> List[float]:
        """See `Trial`: the same executors go forward for all kinds."""
        return self._trials[0].forward()

    def between(self) -> float:
        """See `Trial`."""
        return self._trials[0].between()

    @property
    def on_gpu(self) -> bool:
        """See `Measure`."""
        return self._trials[0].on_gpu

    @property
    def kinds(self) -> int:
        """How many of them there are."""
        return len(self._trials)


def _together(kinds: Sequence[Taken]) -> Taken:
    return Taken(max(taken.maps for taken in kinds), sum(taken.graph for taken in kinds))


def reported(executor: mx.executor.Executor) -> float:
    """MB that an executor reports to take for its maps and gradients of maps."""
    found = re.findall(r"Total (\d+) MB allocated", executor.debug_str())
    if not found:
        raise RuntimeError("MXNet's executor no longer reports its memory")
    return float(found[-1])


def _make(part: Part, recomputed: Names) -> str:
    """What segments have in common that take the same memory: all but their names."""
    graph = json.loads(part.symbol.tojson(remove_amp_cast=False))
    nodes: List[Any] = []
    for node in graph["nodes"]:
        name = node["name"]
        attributes = {key: v for key, v in node.get("attrs", {}).items() if key != LAYER}
        shape = part.arrays[name].shape if name in part.arrays else None
        marks = name in recomputed, name in part.wanted
        nodes.append((node["op"], attributes, node["inputs"], shape, *marks))
    return json.dumps([nodes, graph["heads"]])
