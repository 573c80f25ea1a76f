"""What MXNet is told of the nodes that are to be computed again in backward.

MXNet makes a second node of each that is marked, takes it wherever backward needs an input or an
output of the first, and runs it before that node's backward, whether or not anybody takes its
output. On the CPU that suffices. On a GPU an output that nobody takes is refused by cuDNN's BN
(``req[kOut] == kWriteTo``), and lost by the fusion of pointwise operators (``_Map_base::at``).
"""

import json
import math
from typing import Any, Container, Dict, FrozenSet, List, Mapping, Optional, Sequence, Set

import mxnet as mx

ATTRIBUTE = "__force_mirroring__"

# These compute nothing where nobody takes their output, and are never fused.
IDLE_OPERATORS = ("Concat", "Pooling", "FullyConnected")

# An array as it is, in the memory of its input: no kernel runs. `Reshape` would be fused.
VIEW = ("_npx_reshape", {"newshape": "(-4,)", ATTRIBUTE: "True"})

Node = Dict[str, Any]


def mark(
    symbol: mx.sym.Symbol,
    recomputed: FrozenSet[str],
    on_gpu: bool = False,
    wanted: Optional[Container[str]] = None,
) -> mx.sym.Symbol:
    """The symbol with `recomputed` marked for MXNet.

    cuDNN's BatchNorm moves its averages in forward, so a node that runs twice would move them
    twice. Two moves towards the same statistics with momentum √m are one with momentum m, so
    that is what such a node gets on a GPU. The CPU moves them in backward, once.

    Parameters
    ----------
    symbol : Symbol
    recomputed : frozenset of str
        Names of nodes.
    on_gpu : bool
        Whether to make of it what a GPU can run.
    wanted : container of str, optional
        The variables whose gradients are computed; all of them if it is not given.
    """
    graph = json.loads(symbol.tojson(remove_amp_cast=False))
    nodes: List[Node] = graph["nodes"]
    for node in nodes:
        if node["op"] != "null" and node["name"] in recomputed:
            node.setdefault("attrs", {})[ATTRIBUTE] = "True"
    if on_gpu:
        again = run_twice(nodes, wanted)
        for index in again:
            if nodes[index]["op"] == "BatchNorm":
                attributes = nodes[index]["attrs"]
                momentum = float(attributes.get("momentum", 0.9))
                attributes["momentum"] = repr(math.sqrt(momentum))
        # A marked view is computed again too, so that there is somebody who takes the output.
        operator, attributes = VIEW
        views = {
            index: {"op": operator, "name": f"{nodes[index]['name']}_again", "attrs": attributes}
            for index in _taken_by_nobody(nodes, again)
        }
        graph = behind(graph, views)
    return mx.sym.load_json(json.dumps(graph))


def run_twice(nodes: Sequence[Node], wanted: Optional[Container[str]] = None) -> Set[int]:
    """Which of the marked nodes run twice: those that have a backward, and what these take."""
    learns: List[bool] = []
    for node in nodes:
        if node["op"] == "null":
            learns.append(wanted is None or node["name"] in wanted)
        else:
            learns.append(any(learns[source[0]] for source in node["inputs"]))
    again: Set[int] = set()
    for index in reversed(range(len(nodes))):
        if _is_marked(nodes[index]) and (learns[index] or index in again):
            again.add(index)
            again.update(s[0] for s in nodes[index]["inputs"] if _is_marked(nodes[s[0]]))
    return again


def _is_marked(node: Node) -> bool:
    return node["op"] != "null" and ATTRIBUTE in node.get("attrs", {})


def _taken_by_nobody(nodes: Sequence[Node], again: Set[int]) -> Set[int]:
    """Whose second output no other second node takes, so that perhaps nobody does."""
    taken = {source[0] for index in again for source in nodes[index]["inputs"]}
    return {i for i in again - taken if nodes[i]["op"] not in IDLE_OPERATORS}


def behind(graph: Dict[str, Any], added: Mapping[int, Node]) -> Dict[str, Any]:
    """A graph in which what took the first output of some nodes takes it from nodes behind them.

    `added` has these by the place of what they follow, without inputs.
    """
    nodes: List[Node] = []
    moved: List[int] = []  # where a node is now

    def entry(source: Sequence[int]) -> List[int]:
        follows = source[0] in added and source[1] == 0
        return [moved[source[0]] + follows, *source[1:]]

    for index, node in enumerate(graph["nodes"]):
        moved.append(len(nodes))
        nodes.append({**node, "inputs": [entry(source) for source in node["inputs"]]})
        if index in added:
            nodes.append({**added[index], "inputs": [[moved[index], 0, 0]]})
    return {
        "nodes": nodes,
        "arg_nodes": [index for index, node in enumerate(nodes) if node["op"] == "null"],
        "heads": [entry(head) for head in graph["heads"]],
        "attrs": graph["attrs"],
    }
