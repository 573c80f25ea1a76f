"""Reading the symbol files of networks, which may be anything.

MXNet believes what is in one: an input that is not there, or behind its node, ends the process.
Here the graph is checked before MXNet sees it, and operators that run code, or hold graphs or files
of their own, are refused.
"""

from __future__ import annotations

import ctypes
import json
import os
from typing import Any, Dict, Set, Tuple

import mxnet as mx
from mxnet.base import _LIB, MXNetError, check_call, py_str

from .checks import shown
from .files import PathLike, parse_json, read_regular

_MXNET = 10901  # 1.9.1
_MOST_BYTES = 2**26
_MOST_NODES = 100_000
_FIELDS = {"nodes", "arg_nodes", "node_row_ptr", "heads", "attrs"}
_OF_NODE = {"op", "name", "attrs", "inputs"}
_REFUSED: Tuple[str, ...] = (
    "Custom",
    "_Native",
    "_NDArray",
    "_CachedOp",
    "_FusedOp",
    "_sg_",
    "_foreach",
    "_cond",
)
_REFUSED += ("_while_loop", "_TensorRT", "_tvm", "_cvi", "Caffe", "Torch", "_random_", "_sample_")


def read_symbol(path: PathLike) -> mx.sym.Symbol:
    """The network of a ``-symbol.json``, as MXNet 1.x writes it.

    Raises
    ------
    ValueError
        It is none, is damaged, or has an operator that a network for inference has no use for; the
        message names the file.
    OSError
        It cannot be read.
    """
    content = read_regular(path, _MOST_BYTES)
    try:
        graph = parse_json(content)
        _check(graph)
        return mx.sym.load_json(json.dumps(graph))
    except (ValueError, MXNetError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in lines if "Check failed" in line), lines[-1])
        raise ValueError(f"{os.fspath(path)}: {reason}") from None


def _check(graph: Any) -> None:
    """Refuse what is no graph."""
    if not isinstance(graph, dict) or not {"nodes", "arg_nodes", "heads"} <= set(graph):
        raise ValueError("not a symbol of MXNet: no nodes, arg_nodes and heads")
    unknown = set(graph) - _FIELDS
    if unknown:
        raise ValueError(f"unknown field {shown(min(unknown))}")
    nodes = graph["nodes"]
    if not isinstance(nodes, list) or not 1 <= len(nodes) <= _MOST_NODES:
        raise ValueError(f"nodes must be a list of 1 to {_MOST_NODES:,}")
    known = _operators()
    for index, node in enumerate(nodes):
        _check_node(f"node {index}", node, known)
        _check_entries(f"the inputs of node {index}", node["inputs"], index)
    variables = [index for index, node in enumerate(nodes) if node["op"] == "null"]
    if graph["arg_nodes"] != variables:
        raise ValueError("arg_nodes are not the nodes without an operator")
    if not graph["heads"]:
        raise ValueError("it has no output")
    _check_entries("heads", graph["heads"], len(nodes))
    names = [node["name"] for node in nodes]
    if len(set(names)) != len(names):
        raise ValueError("two nodes have the same name")
    graph.pop("node_row_ptr", None)  # follows from the rest
    # Without a version MXNet takes the file for one of 0.8, and changes it.
    graph["attrs"] = {"mxnet_version": ["int", _MXNET]}


def _operators() -> Set[str]:
    size = ctypes.c_uint()
    names = ctypes.POINTER(ctypes.c_char_p)()
    check_call(_LIB.MXListAllOpNames(ctypes.byref(size), ctypes.byref(names)))
    return {py_str(names[index]) for index in range(size.value)}


def _check_node(where: str, node: Any, known: Set[str]) -> None:
    if not isinstance(node, dict) or not {"op", "name", "inputs"} <= set(node) <= _OF_NODE:
        raise ValueError(f"{where} must be an object of op, name, inputs and perhaps attrs")
    operator, name = node["op"], node["name"]
    if not isinstance(name, str) or not 0 < len(name) < 1000:
        raise ValueError(f"{where}: name must be text, got {shown(name)}")
    if not isinstance(operator, str) or (operator != "null" and operator not in known):
        raise ValueError(f"{where}: {shown(operator)} is no operator of this MXNet")
    if operator.startswith(_REFUSED):
        raise ValueError(
            f"{where}: the operator {operator} has no place in a network for inference"
        )
    attributes: Dict[str, Any] = node.get("attrs", {})
    if not isinstance(attributes, dict):
        raise ValueError(f"{where}: attrs must be an object, got {shown(attributes)}")
    for key, value in attributes.items():
        if not isinstance(value, str) or len(value) > 10_000:
            raise ValueError(f"{where}: {shown(key)} must be text, got {shown(value)}")


def _check_entries(where: str, entries: Any, before: int) -> None:
    """Each is a node before `before`, which of its outputs, and a version."""
    if not isinstance(entries, list) or len(entries) > _MOST_NODES:
        raise ValueError(f"{where} must be a list, got {shown(entries)}")
    for entry in entries:
        good = isinstance(entry, list) and len(entry) in (2, 3)
        if not good or not all(type(part) is int and 0 <= part < 2**31 for part in entry):
            raise ValueError(f"{where} must be of node, output and version, got {shown(entry)}")
        if entry[0] >= before:
            raise ValueError(f"{where} name node {entry[0]}, which does not come before")
