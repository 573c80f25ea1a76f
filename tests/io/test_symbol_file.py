"""Symbols that would end MXNet do not reach it."""

import copy
import json
import re

from dsonas_mx.io.symbol_file import check_symbol, read_symbol

import mxnet as mx
import pytest


def graph_of(symbol):
    return json.loads(symbol.tojson())


@pytest.fixture(scope="module")
def graph():
    data = mx.sym.Variable("data")
    x = mx.sym.Convolution(data, kernel=(3, 3), pad=(1, 1), num_filter=8, num_group=1, name="conv")
    x = mx.sym.BatchNorm(x, name="bn")
    x = mx.sym.Pooling(x, kernel=(3, 3), pad=(1, 1), pool_type="max", name="pool")
    return graph_of(mx.sym.FullyConnected(x, num_hidden=3, name="fc"))


@pytest.fixture
def refused(tmp_path):
    def check(graph, message):
        path = tmp_path / "net-symbol.json"
        path.write_text(json.dumps(graph))
        with pytest.raises(ValueError, match=message):
            check_symbol(path)

    return check


def node(graph, name):
    return next(node for node in graph["nodes"] if node["name"] == name)


def index(graph, name):
    return [node["name"] for node in graph["nodes"]].index(name)


def test_a_good_one_is_read(graph, tmp_path):
    path = tmp_path / "net-symbol.json"
    path.write_text(json.dumps(graph))
    assert read_symbol(path).tojson() == mx.sym.load_json(json.dumps(graph)).tojson()


@pytest.mark.parametrize(
    "name, key, value",
    [
        ("conv", "num_group", "0"),  # SIGFPE
        ("conv", "num_group", "-1"),
        ("conv", "stride", "(0, 0)"),
        ("conv", "kernel", "(3,)"),
        ("conv", "dilate", "(1, 0)"),
        ("conv", "num_filter", "99999999999"),
        ("pool", "kernel", "(0, 0)"),
        ("pool", "pool_type", "sum"),
        ("bn", "eps", "nan"),
        ("fc", "num_hidden", "0"),
        ("conv_weight", "__shape__", "(-5,)"),
        ("conv_weight", "__dtype__", "99"),
    ],
)
def test_attributes_out_of_bounds(graph, refused, name, key, value):
    graph = copy.deepcopy(graph)
    node(graph, name).setdefault("attrs", {})[key] = value
    refused(graph, re.escape(f"node {index(graph, name)}: {key} cannot be '{value}'"))


def test_what_an_operator_has_not(graph, refused):
    for name, count in (("conv", 3), ("bn", 5), ("fc", 3), ("pool", 1)):
        few, many, other = (copy.deepcopy(graph) for _ in range(3))
        node(few, name)["inputs"].pop()  # SIGSEGV
        refused(few, rf"{node(few, name)['op']} has {count} inputs, got {count - 1}")
        node(many, name)["inputs"].append([0, 0, 0])
        refused(many, rf"has {count} inputs, got {count + 1}")
        node(other, name)["inputs"][0][1] = 1
        refused(other, r"name output 1 of node \d+, which has 1")
    beyond = copy.deepcopy(graph)
    beyond["heads"] = [[index(graph, "fc"), 1, 0]]
    refused(beyond, r"heads name output 1 of node \d+, which has 1")
    beyond["heads"] = [[len(graph["nodes"]), 0, 0]]  # SIGBUS
    refused(beyond, "heads name node .*, which does not come before")
    unknown = copy.deepcopy(graph)
    node(unknown, "pool")["attrs"]["secret"] = "1"
    refused(unknown, "Pooling has no attribute 'secret'")
    del node(unknown, "pool")["attrs"]["secret"], node(unknown, "pool")["attrs"]["kernel"]
    refused(unknown, "Pooling needs the attribute kernel")


def test_statistics_are_parameters(graph, refused):
    graph = copy.deepcopy(graph)
    node(graph, "bn")["inputs"][3] = [index(graph, "conv"), 0, 0]
    refused(graph, "the statistics of a BatchNorm must be parameters")


def test_what_is_fused_is_checked_inside(refused):
    x = mx.sym.Convolution(mx.sym.Variable("data"), kernel=(1, 1), num_filter=8, name="conv")
    fused = graph_of(mx.sym.Activation(x, act_type="relu").get_backend_symbol("MKLDNN"))
    (place,) = (n for n in fused["nodes"] if n["op"] == "_sg_mkldnn_conv")
    for change, message in (
        (lambda g: g["nodes"][-1].update(op="Custom"), "its subgraph: node .* no place in"),
        (lambda g: g["heads"].append([0, 0, 0]), "its subgraph: a subgraph has several outputs"),
        (lambda g: g["nodes"][-2]["attrs"].update(num_group="0"), "num_group cannot be '0'"),
        (lambda g: g["arg_nodes"].pop(), "arg_nodes are not the nodes without an operator"),
    ):
        broken = copy.deepcopy(fused)
        (other,) = (n for n in broken["nodes"] if n["op"] == "_sg_mkldnn_conv")
        change(other["subgraphs"][0])
        refused(broken, message)
    place["inputs"].pop()
    refused(fused, "_sg_mkldnn_conv has 3 inputs, got 2")
    place["subgraphs"] = []
    refused(fused, "must have one subgraph where it is fused")
