"""Reading the symbol files of networks, which may be anything.

MXNet believes what is in one: an input that is not there, an output that an operator has not, or no
group of channels at all end the process. Here the graph is checked before MXNet sees it: every
operator is one that networks for inference have, with as many inputs and outputs as it has, and
attributes within bounds.
"""

import json
import os
import re
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Union

from .checks import check_list, shown
from .files import PathLike, in_file, parse_json, read_regular

_MXNET = 10901  # 1.9.1
_MOST_BYTES = 2**26
_MOST_NODES = 100_000
_FIELDS = {"nodes", "arg_nodes", "node_row_ptr", "heads", "attrs"}
_OF_NODE = {"op", "name", "attrs", "inputs", "subgraphs"}

Attributes = Mapping[str, str]
Count = Union[int, Callable[[Attributes], int]]


def _count(count: Count, attributes: Attributes) -> int:
    return count(attributes) if callable(count) else count


class _Operator(NamedTuple):
    """How many inputs and outputs it has, and which attributes."""

    inputs: Count
    outputs: Count
    attributes: str = ""


def _weighted(attributes: Attributes) -> int:
    """Data, weight, and a bias if there is one."""
    return 2 if _is_true(attributes, "no_bias") else 3


def _listed(each: int) -> Callable[[Attributes], int]:
    return lambda attributes: each * int(attributes.get("num_args", 0))


def _is_true(attributes: Attributes, name: str) -> bool:
    return attributes.get(name) in ("True", "true", "1")


def _of_fused(attributes: Attributes) -> int:
    """In bytes a map comes with the least and the largest value that they stand for."""
    in_bytes = _is_true(attributes, "quantized")
    return 3 if in_bytes and not _is_true(attributes, "enable_float_output") else 1


_CONVOLUTION = "kernel stride dilate pad num_filter num_group no_bias layout workspace cudnn_off"
_POOLING = "kernel stride pad pool_type pooling_convention global_pool layout count_include_pad"
_RANGE = "min_calib_range max_calib_range"
_FUSED = f"{_RANGE} quantized channel_wise_quantize enable_float_output with_act with_sum "
_FUSED += "with_bn with_postsum_act"
_OPERATORS: Dict[str, _Operator] = {
    "null": _Operator(0, 1),
    "Activation": _Operator(1, 1, "act_type"),
    "BatchNorm": _Operator(5, 1, "eps fix_gamma momentum axis use_global_stats cudnn_off"),
    "Cast": _Operator(1, 1, "dtype"),
    "Concat": _Operator(_listed(1), 1, "dim num_args"),
    "Convolution": _Operator(_weighted, 1, _CONVOLUTION),
    "Dropout": _Operator(1, 1, "p mode axes cudnn_off"),
    "Flatten": _Operator(1, 1),
    "FullyConnected": _Operator(_weighted, 1, "num_hidden no_bias flatten"),
    "Pooling": _Operator(1, 1, _POOLING),
    "Reshape": _Operator(1, 1, "shape"),
    "SliceChannel": _Operator(
        1, lambda attributes: int(attributes.get("num_outputs", 1)), "axis num_outputs squeeze_axis"
    ),
    "_contrib_BilinearResize2D": _Operator(2, 1, "mode align_corners"),
    "_contrib_dequantize": _Operator(3, 1, "out_type"),
    "_contrib_quantize_v2": _Operator(1, 3, f"{_RANGE} out_type"),
    "_contrib_quantized_concat": _Operator(_listed(3), 3, "dim num_args"),
    "_contrib_quantized_elemwise_add": _Operator(6, 3, _RANGE),
    "_contrib_quantized_flatten": _Operator(3, 3),
    "_contrib_quantized_pooling": _Operator(3, 3, _POOLING),
    "_copy": _Operator(1, 1),
    "_mul_scalar": _Operator(1, 1, "scalar"),
    "_plus_scalar": _Operator(1, 1, "scalar"),
    "_sg_mkldnn_conv": _Operator(-1, _of_fused, _FUSED),  # by its subgraph, see _check_fused
    "_sg_mkldnn_fully_connected": _Operator(-1, _of_fused, _FUSED),
    "add_n": _Operator(_listed(1), 1, "num_args"),
    "broadcast_add": _Operator(2, 1),
    "broadcast_like": _Operator(2, 1, "lhs_axes rhs_axes"),
    "broadcast_mul": _Operator(2, 1),
    "broadcast_sub": _Operator(2, 1),
    "clip": _Operator(1, 1, "a_min a_max"),
    "elemwise_add": _Operator(2, 1),
    "elemwise_mul": _Operator(2, 1),
    "mean": _Operator(1, 1, "axis keepdims exclude"),
    "relu": _Operator(1, 1),
    "repeat": _Operator(1, 1, "repeats axis"),
    "slice_axis": _Operator(1, 1, "axis begin end"),
}
_IN_FUSED = {"null", "Activation", "BatchNorm", "Convolution", "FullyConnected", "clip"}
_IN_FUSED |= {"elemwise_add", "relu"}

_BOOLEAN = "True|False|true|false|0|1"
_NUMBER = r"-?\d{1,9}"
_PAIR = r"\(\d{1,4}, ?\d{1,4}\)"
_PAIR_FROM_1 = r"\([1-9]\d{0,3}, ?[1-9]\d{0,3}\)"
_SIZE = r"[1-9]\d{0,6}"
_REAL = r"-?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_AXES = r"\(\)|\(-?\d(, ?-?\d)*,?\)"
# What the text of an attribute must be, by its name.
_VALUES = {
    name: re.compile(pattern)
    for names, pattern in {
        "act_type": "relu|sigmoid|tanh|softrelu|softsign",
        "axes lhs_axes rhs_axes": _AXES,
        "axis dim": rf"-?\d|{_AXES}",
        "begin end": f"{_NUMBER}|None",
        "cudnn_off fix_gamma flatten global_pool no_bias count_include_pad align_corners": _BOOLEAN,
        "use_global_stats quantized channel_wise_quantize enable_float_output": _BOOLEAN,
        "with_act with_sum with_bn with_postsum_act keepdims exclude squeeze_axis": _BOOLEAN,
        "dtype": "float32|uint8|int8|int32",
        "eps momentum p a_min a_max scalar": _REAL,
        _RANGE: _REAL,
        "kernel stride dilate": _PAIR_FROM_1,
        "layout": "NCHW|None",
        "mode": "like|training|always",
        "num_args num_filter num_group num_hidden num_outputs repeats workspace": _SIZE,
        "out_type": "auto|int8|uint8|float32",
        "pad": _PAIR,
        "pool_type": "max|avg",
        "shape": r"\((-[1-4]|\d{1,9})(, ?(-[1-4]|\d{1,9})){0,7},?\)",
        "pooling_convention": "valid|full|same",
    }.items()
    for name in names.split()
}
# Hints, at any operator: those of Gluon at variables, and ours of where a layer begins.
_HINTS = {
    "__shape__": re.compile(r"\(\)|\[\]|[(\[]\d{1,9}(, ?\d{1,9}){0,7},?[)\]]"),
    "__dtype__": re.compile(r"-1|[0-7]"),
    "__storage_type__": re.compile("0"),
    "__init__": re.compile(r"[\s\S]*"),
    "__layer__": re.compile(r"\w*"),
    "__lr_mult__": re.compile(_REAL),
    "__wd_mult__": re.compile(_REAL),
}
_NEEDED = {"Convolution": "kernel num_filter", "FullyConnected": "num_hidden", "Pooling": "kernel"}


def check_symbol(path: PathLike) -> Dict[str, Any]:
    """The graph of a ``-symbol.json``, as MXNet 1.x writes it, without MXNet.

    Raises
    ------
    ValueError
        It is none, is damaged, or has an operator that a network for inference has no use for; the
        message names the file.
    OSError
        It cannot be read.
    """
    content = read_regular(path, _MOST_BYTES)
    with in_file(path):
        graph = parse_json(content)
        _check(graph, _OPERATORS)
    graph.pop("node_row_ptr", None)  # follows from the rest
    # Without a version MXNet takes the file for one of 0.8, and changes it.
    graph["attrs"] = {"mxnet_version": ["int", _MXNET]}
    return graph


def read_symbol(path: PathLike) -> Any:
    """The Symbol of a ``-symbol.json``; raises as `check_symbol`."""
    import mxnet as mx

    graph = check_symbol(path)
    try:
        return mx.sym.load_json(json.dumps(graph))
    except mx.MXNetError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in lines if "Check failed" in line), lines[-1])
        raise ValueError(f"{os.fspath(path)}: {reason}") from None


def _check(graph: Any, known: Mapping[str, _Operator], whole: bool = True) -> None:
    """Refuse what is no graph of known operators; a subgraph is not whole."""
    if not isinstance(graph, dict) or not {"nodes", "arg_nodes", "heads"} <= set(graph):
        raise ValueError("not a symbol of MXNet: no nodes, arg_nodes and heads")
    unknown = set(graph) - _FIELDS
    if unknown:
        raise ValueError(f"unknown field {shown(min(unknown))}")
    nodes = graph["nodes"]
    if not isinstance(nodes, list) or not 1 <= len(nodes) <= _MOST_NODES:
        raise ValueError(f"nodes must be a list of 1 to {_MOST_NODES:,}")
    outputs: List[int] = []
    for index, node in enumerate(nodes):
        where = f"node {index}"
        operator = _check_node(where, node, known)
        _check_entries(f"the inputs of {where}", node["inputs"], outputs)
        _check_inputs(where, node, operator, nodes)
        outputs.append(_count(operator.outputs, node.get("attrs", {})))
    variables = [index for index, node in enumerate(nodes) if node["op"] == "null"]
    if graph["arg_nodes"] != variables:
        raise ValueError("arg_nodes are not the nodes without an operator")
    if not graph["heads"]:
        raise ValueError("it has no output")
    _check_entries("heads", graph["heads"], outputs)
    names = [node["name"] for node in nodes]
    if len(set(names)) != len(names):
        raise ValueError("two nodes have the same name")
    if not whole and len(graph["heads"]) != 1:
        raise ValueError("a subgraph has several outputs")


def _check_node(where: str, node: Any, known: Mapping[str, _Operator]) -> _Operator:
    if not isinstance(node, dict) or not {"op", "name", "inputs"} <= set(node) <= _OF_NODE:
        raise ValueError(f"{where} must be an object of op, name, inputs and perhaps attrs")
    name, attributes = node["name"], node.get("attrs", {})
    if not isinstance(name, str) or not 0 < len(name) < 1000:
        raise ValueError(f"{where}: name must be text, got {shown(name)}")
    operator = known.get(node["op"]) if isinstance(node["op"], str) else None
    if operator is None:
        raise ValueError(
            f"{where}: the operator {shown(node['op'])} has no place in a network for inference"
        )
    if not isinstance(attributes, dict):
        raise ValueError(f"{where}: attrs must be an object, got {shown(attributes)}")
    for key, value in attributes.items():
        if node["op"] == "null" and not key.startswith("__"):
            continue  # its operator's, which MXNet writes at parameters as well, and does not read
        form: Optional[re.Pattern[str]] = _HINTS.get(key)
        if not key.startswith("__") and key in operator.attributes.split():
            form = _VALUES[key]
        if form is None:
            raise ValueError(f"{where}: {node['op']} has no attribute {shown(key)}")
        if not isinstance(value, str) or len(value) > 1000 or not form.fullmatch(value):
            raise ValueError(f"{where}: {key} cannot be {shown(value)}")
    for key in _NEEDED.get(node["op"], "").split():
        if key not in attributes and not _is_true(attributes, "global_pool"):
            raise ValueError(f"{where}: {node['op']} needs the attribute {key}")
    return operator


def _check_inputs(
    where: str, node: Dict[str, Any], operator: _Operator, nodes: List[Dict[str, Any]]
) -> None:
    """Refuse another number of inputs than the operator has, and statistics that are computed."""
    attributes: Attributes = node.get("attrs", {})
    if "subgraphs" in node or operator.inputs == -1:
        expected = _check_fused(where, node, attributes)
    else:
        expected = _count(operator.inputs, attributes)
    if len(node["inputs"]) != expected or (not expected and node["op"] != "null"):
        raise ValueError(f"{where}: {node['op']} has {expected} inputs, got {len(node['inputs'])}")
    if node["op"] == "BatchNorm":
        if any(nodes[source[0]]["op"] != "null" for source in node["inputs"][1:]):
            raise ValueError(f"{where}: the statistics of a BatchNorm must be parameters")


def _check_fused(where: str, node: Dict[str, Any], attributes: Attributes) -> int:
    """Check what MKLDNN has fused; returns the number of inputs."""
    graphs = node.get("subgraphs")
    if _OPERATORS[node["op"]].inputs != -1 or not isinstance(graphs, list) or len(graphs) != 1:
        raise ValueError(f"{where}: {node['op']} must have one subgraph where it is fused")
    known = {name: _OPERATORS[name] for name in _IN_FUSED}
    try:
        _check(graphs[0], known, whole=False)
    except ValueError as error:
        raise ValueError(f"{where}: its subgraph: {error}") from None
    inputs = len(graphs[0]["arg_nodes"])
    if _is_true(attributes, "quantized"):
        inputs += 4 if _is_true(attributes, "with_sum") else 2
    return inputs


def _check_entries(where: str, entries: Any, outputs: List[int]) -> None:
    """Each is a node that comes before, one of its outputs, and a version."""
    for entry in check_list(where, entries):
        good = isinstance(entry, list) and len(entry) in (2, 3)
        if not good or not all(type(part) is int and 0 <= part < 2**31 for part in entry):
            raise ValueError(f"{where} must be of node, output and version, got {shown(entry)}")
        if entry[0] >= len(outputs):
            raise ValueError(f"{where} name node {entry[0]}, which does not come before")
        if entry[1] >= outputs[entry[0]]:
            raise ValueError(
                f"{where} name output {entry[1]} of node {entry[0]}, which has {outputs[entry[0]]}"
            )
