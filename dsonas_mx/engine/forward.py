"""The forward pass of a training graph, parsed once: where it can be divided, and into what.

Memory is divided at boundaries: maps that everything behind them depends on alone, such as the
output of a block.
"""

import json
import math
import re
from itertools import chain, takewhile
from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, Sequence, Tuple

import mxnet as mx

# Never computed twice: what draws random numbers, what moves averages, and ends of the graph; and
# copies, by which a network says what it wants to have kept.
KEPT_OPERATORS = ("Dropout", "dsonas_average", "BlockGrad", "MakeLoss", "SoftmaxOutput", "_copy")
KEPT_KINDS = ("_random_", "_sample_", "_shuffle")  # as their names begin

# What these use is needed by nothing behind them, whenever they run.
SIDE_OPERATORS = ("dsonas_average",)

# Their backward needs none of their inputs. What ends a segment within an executor is kept, and
# with it whatever its backward needs: another end, such as a BN, would keep two maps. Either way a
# convolution right before the end would be computed again for nobody, which MXNet's own refuses.
END_OPERATORS = ("Activation", "elemwise_add", "add_n", "Concat", "Flatten")

# As many times its boundary a segment of a chain has more than: stems do not. A reduction does: in
# one segment with a block it would not fit into the memory that other blocks leave.
WORTH = 3

Shapes = Mapping[str, Sequence[int]]


class Node(NamedTuple):
    """An operator that depends on the inputs.

    Attributes
    ----------
    name, operator : str
    size : float
        Bytes of its outputs, as float32.
    ends : bool
        All that comes behind depends on it alone, but for what every plan keeps.
    is_held : bool
        It ends something, and a side branch, such as an auxiliary tower, needs it much later.
    alone : bool
        All that comes behind depends on it alone, so that a chain can be cut there: at a BN, too.
    """

    name: str
    operator: str
    size: float
    ends: bool
    is_held: bool
    alone: bool


class Forward:
    """What depends on the inputs of a symbol, in the order of execution.

    Parameters
    ----------
    symbol : Symbol
        Loss and outputs, in training.
    shapes : mapping
        Of the inputs that the forward pass starts from.

    Attributes
    ----------
    nodes : list of Node
    size : float
        Bytes of the outputs of all of them.
    cuts : tuple of str
        Where it can become a chain. That computes everything before its last cut twice, so none
        is behind the first draw of numbers. A boundary is kept, so it has to be worth it.
    inside : frozenset of str
        What a segment of a chain computes again if it keeps the maps behind its ReLUs, and its
        end: of that only a BN, whose backward needs another map.
    blocks : frozenset of str
        The same if it keeps nothing but boundaries within it.
    """

    def __init__(self, symbol: mx.sym.Symbol, shapes: Shapes) -> None:
        parsed: List[Dict[str, Any]] = json.loads(symbol.tojson())["nodes"]
        self._parsed = parsed
        self.nodes = _dependent(parsed, shapes, _sizes(symbol, shapes))
        self.size = sum(node.size for node in self.nodes)
        self.cuts = self._cuts(parsed)
        self.inside: FrozenSet[str] = frozenset(
            n["name"]
            for n in parsed
            if not (n["op"] in ("null", "Activation") or is_kept(n["op"]))
            and (n["name"] not in self.cuts or n["op"] == "BatchNorm")
        )
        self.blocks: FrozenSet[str] = frozenset(chain.from_iterable(self.segments(0)))

    def segments(self, least: float) -> Tuple[Tuple[str, ...], ...]:
        """Divide it at boundaries, into segments of at least so many bytes but for the last.

        Returns
        -------
        tuple of segments
            Names of the nodes of each that can be computed again; its boundary is not among them.
        """
        divided: List[Tuple[str, ...]] = []
        current: List[str] = []
        size = 0.0
        for node in self.nodes:
            size += node.size
            if node.ends and (size > least or node.is_held):
                divided.append(tuple(current))
                current, size = [], 0.0
            elif not is_kept(node.operator):
                current.append(node.name)
        return (*divided, tuple(current))

    def parts(self) -> List[FrozenSet[str]]:
        """Names of the nodes of each segment of the longest chain, of one segment each."""
        position = {node["name"]: index for index, node in enumerate(self._parsed)}
        left = set(range(len(self._parsed)))
        divided: List[FrozenSet[str]] = []
        for cut in self.cuts:
            found, ahead = set(), {position[cut]}
            while ahead:
                index = ahead.pop()
                found.add(index)
                sources = {source[0] for source in self._parsed[index]["inputs"]}
                ahead |= (sources & left) - found
            left -= found
            divided.append(frozenset(self._parsed[index]["name"] for index in found))
        return [*divided, frozenset(self._parsed[index]["name"] for index in left)]

    def _cuts(self, parsed: Sequence[Dict[str, Any]]) -> Tuple[str, ...]:
        undrawn = takewhile(lambda n: not n["op"].startswith(("Dropout", *KEPT_KINDS)), parsed)
        before = {node["name"] for node in undrawn}
        names: List[str] = []
        size = 0.0
        for node in self.nodes:
            size += node.size
            if node.alone and size > WORTH * node.size and node.name in before:
                names.append(node.name)
                size = 0.0
        return tuple(names)


def is_kept(operator: str) -> bool:
    """Whether an operator is never computed again."""
    return operator in KEPT_OPERATORS or operator.startswith(KEPT_KINDS)


def _is_drawn(operator: str) -> bool:
    # Draws of the shape of their input. The masks of all blocks may be made before the first block,
    # and must not hide the boundaries behind it.
    return operator.startswith("_random_") and operator.endswith("_like")


def _dependent(
    nodes: Sequence[Dict[str, Any]], shapes: Shapes, sizes: Mapping[str, float]
) -> List[Node]:
    depends: List[bool] = []
    last_use = list(range(len(nodes)))
    for position, node in enumerate(nodes):
        sources = [source[0] for source in node["inputs"]]
        given = node["name"] in shapes or any(depends[source] for source in sources)
        depends.append(given and not _is_drawn(node["op"]))
        for source in sources if node["op"] not in SIDE_OPERATORS else []:
            last_use[source] = position
    far = len(nodes) // 8
    found: List[Node] = []
    needed: List[int] = []  # whose outputs are used behind this position
    kept: List[int] = []  # those of them that every plan keeps: copies, draws, side branches
    for position, node in enumerate(nodes):
        if node["op"] == "null" or not depends[position]:
            continue
        needed = [source for source in needed if last_use[source] > position]
        kept = [source for source in kept if last_use[source] > position]
        (kept if is_kept(node["op"]) else needed).append(position)
        only = needed == [position] and last_use[position] > position
        ends = only and _may_end(node, nodes)
        is_held = ends and last_use[position] - position > far
        alone = only and not kept and (_may_end(node, nodes) or node["op"] == "BatchNorm")
        found.append(
            Node(node["name"], node["op"], sizes.get(node["name"], 0.0), ends, is_held, alone)
        )
        if is_held:
            kept.append(needed.pop())
    return found


def _may_end(node: Dict[str, Any], nodes: Sequence[Dict[str, Any]]) -> bool:
    return node["op"] in END_OPERATORS and all(
        nodes[source[0]]["op"] != "Convolution" for source in node["inputs"]
    )


def _sizes(symbol: mx.sym.Symbol, shapes: Shapes) -> Dict[str, float]:
    """Bytes of the outputs of each node."""
    internals = symbol.get_internals()
    _, outputs, _ = internals.infer_shape(**shapes)
    sizes: Dict[str, float] = {}
    for name, shape in zip(internals.list_outputs(), outputs):
        node = re.sub(r"_output\d*$", "", name)
        sizes[node] = sizes.get(node, 0.0) + 4 * math.prod(shape)
    return sizes
