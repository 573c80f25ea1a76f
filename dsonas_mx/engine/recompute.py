"""Which nodes of a symbol to compute again in backward instead of keeping them (Chen et al. 2016).

Memory is divided into segments at the maps that everything behind them depends on alone, such as
the output of a block. Of the forward pass only some of these boundaries are kept; the rest of a
segment is computed again when backward gets there, so that the maps of one segment exist at a
time. MXNet does this for nodes with the attribute ``__force_mirroring__``.

A plan costs nothing to try: binding alone says how many MB the executor will take.

Where one segment alone takes too much, a plan divides the graph itself: see
`dsonas_mx.engine.chain`.
"""

from __future__ import annotations

import json
import math
import re
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import mxnet as mx

from .chain import split

Mirror = Union[str, float]  # 'auto', 'deep', 'off', or MB
Measure = Callable[[FrozenSet[str], float], float]
MeasureChain = Callable[[Sequence[str], FrozenSet[str]], Tuple[List[float], float]]

# Never computed twice: what draws random numbers, what moves averages, and ends of the graph; and
# copies, by which a network says what it wants to have kept.
KEPT_OPERATORS = ("Dropout", "dsonas_average", "BlockGrad", "MakeLoss", "SoftmaxOutput", "_copy")
KEPT_KINDS = ("_random_", "_sample_", "_shuffle")  # as their names begin

# What these use is needed by nothing behind them, whenever they run.
SIDE_OPERATORS = ("dsonas_average",)

# Their backward needs none of their inputs. What ends a segment is kept, and with it whatever its
# backward needs: another end, such as a BN, would keep two maps. Either way a convolution right
# before the end would be computed again for nobody, which MXNet's own convolution refuses.
END_OPERATORS = ("Activation", "elemwise_add", "add_n", "Concat", "Flatten")

# A little more memory than the least saves much of the time that recomputation costs.
NEAR = 1.25

# Of the bytes of a whole forward pass, how many a segment may have at least before it ends.
FRACTIONS = (0, 1 / 192, 1 / 128, 1 / 96, 1 / 80, 1 / 64, 1 / 48, 1 / 32, 1 / 24, 1 / 16, 1 / 8)

# As many times its boundary a segment of a chain has more than: stems do not. A reduction does: in
# one segment with a block it would not fit into the memory that other blocks leave.
WORTH = 3


class Plan(NamedTuple):
    """Names of the nodes that are computed again, and what the executor reports.

    Attributes
    ----------
    recomputed : frozenset of str
    megabytes : float
    cuts : tuple of str
        Where the graph is divided into a chain of executors, which compute everything before the
        last cut twice anyway; empty if it is one executor.
    largest : int
        Which segment of the chain takes the most.
    """

    recomputed: FrozenSet[str]
    megabytes: float
    cuts: Tuple[str, ...] = ()
    largest: int = 0


NOTHING = Plan(frozenset(), 0)


def parse_mirror(text: str) -> Mirror:
    """What to recompute, from text: auto, deep, off, or a number of MB."""
    if text in ("auto", "deep", "off"):
        return text
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = math.nan
    if not 0 < megabytes < math.inf:
        raise ValueError(f"`recompute` must be auto, deep, off, or a number of MB, got {text!r}")
    return megabytes


def megabytes(executor: mx.executor.Executor) -> float:
    """What an executor reports to have allocated for its maps and gradients of maps."""
    found = re.findall(r"Total (\d+) MB allocated", executor.debug_str())
    if not found:
        raise RuntimeError("MXNet's executor no longer reports its memory")
    return float(found[-1])


def segments(
    symbol: mx.sym.Symbol, shapes: Mapping[str, Sequence[int]], least: float
) -> Tuple[Tuple[str, ...], ...]:
    """Divide the nodes of a forward pass at boundaries, in the order of execution.

    Parameters
    ----------
    symbol : Symbol
    shapes : mapping
        Of the inputs that the forward pass starts from.
    least : float
        Bytes of outputs that a segment has at least, but for the last.

    Returns
    -------
    tuple of segments
        Names of the nodes of each that can be computed again; its boundary is not among them.
    """
    nodes = _forward(symbol, shapes)
    divided: List[Tuple[str, ...]] = []
    current: List[str] = []
    size = 0.0
    for node in nodes:
        size += node.size
        if node.is_boundary and (size > least or node.is_held):
            divided.append(tuple(current))
            current, size = [], 0.0
        elif not _is_kept(node.operator):
            current.append(node.name)
    return tuple(divided) + (tuple(current),)


def find_plan(
    symbol: mx.sym.Symbol,
    shapes: Mapping[str, Sequence[int]],
    measure: Measure,
    mirror: Mirror = "auto",
    measure_chain: Optional[MeasureChain] = None,
) -> Plan:
    """The fastest plan that is near the fewest MB, or has them, or is within a number of MB.

    Parameters
    ----------
    symbol : Symbol
        Loss and outputs, in training.
    shapes : mapping
        Of the inputs of the forward pass.
    measure : callable
        `measure(recomputed, limit)` → MB of a set of recomputed nodes, by binding. What takes more
        than `limit` is not wanted: any number above it will do.
    mirror : {'auto', 'deep', 'off'} or float
        ``'deep'`` takes the fewest MB that are possible, ``'auto'`` may take `NEAR` times as many,
        a number is the MB that may be taken. In each case the fewest segments, from the input on,
        are computed again that suffice; and one executor is preferred to a chain.
    measure_chain : callable, optional
        `measure_chain(cuts, recomputed)` → MB of each segment of a chain, and of what is between
        them. Without it there are no chains.

    Raises
    ------
    ValueError
        No plan fits into the MB given, or `mirror` is something else.
    """
    mirror = parse_mirror(str(mirror))
    nothing: FrozenSet[str] = frozenset()
    plain = Plan(nothing, measure(nothing, math.inf))
    if mirror == "off" or (not isinstance(mirror, str) and plain.megabytes <= mirror):
        return plain

    def limit_of(least: float) -> float:
        return mirror if not isinstance(mirror, str) else least * (NEAR if mirror == "auto" else 1)

    chains, segment = _chain(symbol, shapes, measure_chain)
    # One executor has all maps of the largest segment at a time too, if it has no smaller ones.
    held = any(node.is_held for node in _forward(symbol, shapes))
    if not chains or held or segment <= limit_of(chains[1].megabytes):
        smallest, division = _smallest(symbol, shapes, measure)
    else:
        smallest, division = Plan(nothing, math.inf), ()
    least = min(plan.megabytes for plan in (smallest, *chains))
    limit = limit_of(least)
    if least > limit:
        raise ValueError(
            f"`recompute` {limit:g}: the smallest plan takes {least:.0f} MB on each device; "
            "use a smaller batch, a smaller network, or more devices"
        )
    if plain.megabytes <= limit:
        return plain
    if smallest.megabytes <= limit:
        return _fewest(smallest, division, measure, limit)
    return next(plan for plan in chains if plan.megabytes <= limit)


def _smallest(
    symbol: mx.sym.Symbol, shapes: Mapping[str, Sequence[int]], measure: Measure
) -> Tuple[Plan, Sequence[Sequence[str]]]:
    """The plan of one executor that takes the fewest MB, and its segments."""
    total = sum(node.size for node in _forward(symbol, shapes))
    least = math.inf
    tried = []
    for division in {segments(symbol, shapes, total * part): None for part in FRACTIONS}:
        names = _recomputed(division)
        tried.append((measure(names, least), len(names), division))
        least = min(tried)[0]
    _, _, division = min(tried)
    return Plan(_recomputed(division), least), division


def _fewest(plan: Plan, division: Sequence[Sequence[str]], measure: Measure, limit: float) -> Plan:
    """The fewest segments of a plan that suffice, from the input on."""
    fewest, most = 0, len(division)  # the first does not fit, the second does
    while most - fewest > 1:
        middle = (fewest + most) // 2
        some = _recomputed(division[:middle])
        size = measure(some, limit)
        if size <= limit:
            plan, most = Plan(some, size), middle
        else:
            fewest = middle
    return plan


def _chain(
    symbol: mx.sym.Symbol,
    shapes: Mapping[str, Sequence[int]],
    measure: Optional[MeasureChain],
) -> Tuple[Tuple[Plan, ...], float]:
    """The plans of a chain that computes nothing again within its segments, and of one that does.

    All segments do it or none: of one make, the smaller ones fit into the memory of the largest.
    Beside them the MB of the largest segment that computes nothing again.
    """
    cuts = cuttable(symbol, shapes) if measure else ()
    if not (measure and cuts):
        return (), 0.0
    nothing: FrozenSet[str] = frozenset()
    inside = nothing.union(*(_inside(segment, cuts) for segment in split(symbol, cuts)))
    plans, segments_mb = [], []
    for recomputed in (nothing, inside):
        sizes, between = measure(cuts, recomputed)
        largest = max(range(len(sizes)), key=sizes.__getitem__)
        plans.append(Plan(recomputed, sizes[largest] + between, cuts, largest))
        segments_mb.append(sizes[largest])
    return tuple(plans), segments_mb[0]


def cuttable(symbol: mx.sym.Symbol, shapes: Mapping[str, Sequence[int]]) -> Tuple[str, ...]:
    """The boundaries at which a graph can become a chain.

    A chain computes everything before its last cut twice, so none is behind the first draw of
    numbers. A boundary is kept, so it has to be worth it.
    """
    nodes: List[Dict[str, Any]] = json.loads(symbol.tojson())["nodes"]
    before: List[str] = []
    for node in nodes:
        if node["op"].startswith(("Dropout", *KEPT_KINDS)):
            break
        before.append(node["name"])
    names: List[str] = []
    size = 0.0
    for forward in _forward(symbol, shapes, holds=False):
        size += forward.size
        if forward.is_boundary and size > WORTH * forward.size and forward.name in before:
            names.append(forward.name)
            size = 0.0
    return tuple(names)


def _inside(segment: mx.sym.Symbol, cuts: Sequence[str]) -> FrozenSet[str]:
    """What a segment of a chain computes again: all but the maps behind its ReLUs, and its end."""
    nodes = json.loads(segment.tojson())["nodes"]
    kept = ("null", "Activation", *KEPT_OPERATORS)
    return frozenset(n["name"] for n in nodes if n["op"] not in kept and n["name"] not in cuts)


def _is_kept(operator: str) -> bool:
    return operator in KEPT_OPERATORS or operator.startswith(KEPT_KINDS)


def _is_drawn(operator: str) -> bool:
    # Draws of the shape of their input. The masks of all blocks may be made before the first block,
    # and must not hide the boundaries behind it.
    return operator.startswith("_random_") and operator.endswith("_like")


def _recomputed(division: Sequence[Sequence[str]]) -> FrozenSet[str]:
    return frozenset(name for segment in division for name in segment)


def _may_end(node: Dict[str, Any], nodes: Sequence[Dict[str, Any]]) -> bool:
    return node["op"] in END_OPERATORS and all(
        nodes[source[0]]["op"] != "Convolution" for source in node["inputs"]
    )


class _Node(NamedTuple):
    name: str
    operator: str
    size: float  # bytes of its outputs
    is_boundary: bool  # all that comes behind depends on it alone
    is_held: bool  # a side branch, such as an auxiliary tower, needs it much later


def _forward(
    symbol: mx.sym.Symbol, shapes: Mapping[str, Sequence[int]], holds: bool = True
) -> List[_Node]:
    """The operators that depend on the inputs, in the order of execution.

    If it holds maps that are needed much later, these do not hide boundaries behind them.
    """
    nodes: List[Dict[str, Any]] = json.loads(symbol.tojson())["nodes"]
    sizes = _sizes(symbol, shapes)
    depends: List[bool] = []
    last_use = list(range(len(nodes)))
    for position, node in enumerate(nodes):
        sources = [source[0] for source in node["inputs"]]
        given = node["name"] in shapes or any(depends[source] for source in sources)
        depends.append(given and not _is_drawn(node["op"]))
        for source in sources if node["op"] not in SIDE_OPERATORS else []:
            last_use[source] = position
    far = len(nodes) // 8 if holds else len(nodes)
    forward: List[_Node] = []
    needed: List[int] = []  # whose outputs are used behind this position
    for position, node in enumerate(nodes):
        if node["op"] == "null" or not depends[position]:
            continue
        needed = [source for source in needed if last_use[source] > position]
        if not _is_kept(node["op"]):  # those are kept anyway
            needed.append(position)
        alone = needed == [position] and last_use[position] > position
        alone = alone and _may_end(node, nodes)
        held = alone and last_use[position] - position > far
        if held:  # kept in every plan, so it is in nobody's way
            needed.pop()
        forward.append(_Node(node["name"], node["op"], sizes.get(node["name"], 0.0), alone, held))
    return forward


def _sizes(symbol: mx.sym.Symbol, shapes: Mapping[str, Sequence[int]]) -> Dict[str, float]:
    """Bytes of the outputs of each node."""
    internals = symbol.get_internals()
    _, outputs, _ = internals.infer_shape(**shapes)
    sizes: Dict[str, float] = {}
    for name, shape in zip(internals.list_outputs(), outputs):
        node = re.sub(r"_output\d*$", "", name)
        sizes[node] = sizes.get(node, 0.0) + 4 * math.prod(shape)
    return sizes
