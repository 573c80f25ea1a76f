"""A network made anew, operator by operator, from the JSON of its symbol."""

import ast
import json
from collections import Counter
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import mxnet as mx
import numpy as np

Arrays = Dict[str, np.ndarray]
Node = Dict[str, Any]


class Folded(NamedTuple):
    """A symbol with its parameters: all arguments, and what is left of moving statistics."""

    symbol: mx.sym.Symbol
    arguments: Arrays
    auxiliary: Arrays


class Rewrite:
    """Builds every operator of a network again; a derived class says what becomes another one."""

    def __init__(self, network: Folded) -> None:
        graph = json.loads(network.symbol.tojson())
        self._nodes: List[Node] = graph["nodes"]
        self._heads: List[List[int]] = graph["heads"]
        self._arrays: Arrays = {**network.arguments, **network.auxiliary}
        edges = [edge for node in self._nodes for edge in node["inputs"]]
        self._uses = Counter(source for source, *_ in edges + self._heads)
        self._built: List[mx.sym.Symbol] = []

    def run(self) -> Folded:
        """The network that it becomes."""
        for index, node in enumerate(self._nodes):
            self._built.append(self._build(index, node))
        outputs = [self._output(head) for head in self._heads]
        symbol = outputs[0] if len(outputs) == 1 else mx.sym.Group(outputs)
        names = symbol.list_arguments(), symbol.list_auxiliary_states()
        arguments, auxiliary = ({k: self._arrays[k] for k in n if k in self._arrays} for n in names)
        return Folded(symbol, arguments, auxiliary)

    def _build(self, index: int, node: Node) -> mx.sym.Symbol:
        """What stands in place of a node; itself, over what stands in place of its inputs."""
        if node["op"] == "null":
            return mx.sym.Variable(node["name"])
        return rebuild(node, [self._output(edge) for edge in node["inputs"]])

    def _output(self, edge: List[int]) -> mx.sym.Symbol:
        built = self._built[edge[0]]
        return built[edge[1]] if len(built.list_outputs()) > 1 else built

    def _name(self, edge: List[int]) -> str:
        """Of the node that an edge comes from."""
        return self._nodes[edge[0]]["name"]

    def _parameter(self, name: str, value: np.ndarray) -> mx.sym.Symbol:
        self._arrays[name] = value
        return mx.sym.Variable(name)


def rebuild(node: Node, inputs: List[mx.sym.Symbol], **changes: Any) -> mx.sym.Symbol:
    """The operator of a node over other inputs, with some attributes, or the name, changed."""
    given = {**node.get("attrs", {}), "name": node["name"], **changes}
    return _operator(node["op"])(*inputs, **given)


def _operator(name: str) -> Callable[..., mx.sym.Symbol]:
    if name.startswith("_contrib_"):
        return getattr(mx.sym.contrib, name[len("_contrib_") :])
    return getattr(mx.sym, name, None) or getattr(mx.sym._internal, name)


def attribute(node: Node, name: str, default: str = "False") -> str:
    """An attribute of a node, as its JSON has it."""
    return node.get("attrs", {}).get(name, default)


def numbers(node: Node, name: str) -> Tuple[int, ...]:
    """An attribute of two whole numbers, as the sides of a window; ones if it is not there."""
    return tuple(ast.literal_eval(attribute(node, name, "(1, 1)")))


def groups(node: Node) -> int:
    """Of a convolution."""
    return int(attribute(node, "num_group", "1"))
