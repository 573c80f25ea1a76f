"""A model, not a measurement, of a search step at the paper's size on a GTX 1080 Ti."""

from __future__ import annotations

import argparse
import json
from typing import Any, Dict, FrozenSet, Tuple

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.io.markdown import markdown_table
from dsonas_mx.training.loss import cross_entropy

import mxnet as mx

from symbols import get_model, original

from .device import Work, work

CARD = {"multiply_adds_per_s": 11.3e12 / 2, "bytes_per_s": 484e9, "s_per_call": 6e-6, "mb": 11178}
ASSUMPTIONS = (
    "an operator takes the longer of its multiply-adds at 11.3 TFLOP/s and its bytes at 484 GB/s, "
    "and 6 µs a call on top; an array is moved whenever an operator reads or writes it; nothing "
    "overlaps; no operator is slower than that, as depthwise convolutions are on real cards; "
    "updates are left out"
)
PLANS: Dict[str, Any] = {"off": "off", "auto": 0.9 * CARD["mb"], "least": "least"}
ASSEMBLED = 3  # calls a step that copy what is assembled of parameters: two there, one back


class _OnGPU(TrainGraph):
    """The graph for GPUs, without one: enough for its plans."""

    is_for_gpus = True
    is_native = False


def measure(options: argparse.Namespace) -> Dict[str, Any]:
    """Calls, bytes, multiply-adds and modelled seconds of a weight step and a λ step."""
    space = SearchSpace.cifar10(width=options.width, blocks=(options.blocks,) * 3)
    shape = (options.batch_size, space.in_channels, space.image_size, space.image_size)
    result: Dict[str, Any] = {"assumptions": ASSUMPTIONS}
    for name, mirror in PLANS.items():
        net = get_model("dsonas", Architecture.complete(space), weighted=True)
        graph = _OnGPU(net, cross_entropy, shape, shape[:1], [mx.cpu()], mirror)
        result[name] = _figures(ours(graph, shape, mirror != "off"))
    theirs = original.network(space, "all")
    learned = set(theirs.list_arguments()) - {"data", "softmax_label"}
    both = work(theirs, {"data": shape}, learned, time=seconds) * 2
    result["original"] = _figures(both)
    for name in PLANS:
        for figure in ("calls", "ms"):
            ratio = result[name][figure] / result["original"][figure]
            result[name][f"{figure}_over_original"] = ratio
    return result


def ours(graph: TrainGraph, data_shape: Tuple[int, ...], planned: bool) -> Work:
    """A weight step and a λ step of a graph with its plan."""
    shapes = {"data": data_shape, "label": data_shape[:1]}
    total = Work()
    for kind in ("weights", "lambdas"):
        symbol = graph.symbol(kind)
        wanted = {parameter.name for parameter in graph._wanted(kind)}
        again: FrozenSet[str] = frozenset()
        twice: FrozenSet[str] = frozenset()
        if planned:
            again = graph.plan.recomputed
            if graph.plan.keeps:  # those before that segment of a chain
                twice = _before(symbol, graph.plan.cuts[graph.plan.keeps - 1])
        total = total + work(symbol, shapes, wanted, again, twice, seconds)
        total = total + Work(calls=ASSEMBLED, seconds=ASSEMBLED * CARD["s_per_call"])
    return total


def seconds(one: Work) -> float:
    """Of an operator: see `ASSUMPTIONS`."""
    products = one.multiply_adds / CARD["multiply_adds_per_s"]
    return max(products, one.size / CARD["bytes_per_s"]) + one.calls * CARD["s_per_call"]


def _before(symbol: mx.sym.Symbol, cut: str) -> FrozenSet[str]:
    """The nodes up to a cut of a chain."""
    internals = symbol.get_internals()[f"{cut}_output"]
    return frozenset(node["name"] for node in json.loads(internals.tojson())["nodes"])


def _figures(total: Work) -> Dict[str, float]:
    return {
        "calls": total.calls,
        "GB": total.size / 1e9,
        "GMAC": total.multiply_adds / 1e9,
        "ms": 1000 * total.seconds,
    }


def table(result: Dict[str, Any]) -> str:
    """What `measure` gives, in Markdown."""
    rows = [
        [
            *("a weight and a λ step, CIFAR-10, 64 samples", "calls", "GB moved"),
            *("10⁹ multiply-adds", "modelled ms", "of the original's"),
        ]
    ]
    names = {"off": "nothing recomputed", "auto": "`auto` with 11 GB", "least": "`least`"}
    names["original"] = "the original's graph, nothing recomputed"
    for name, words in names.items():
        row = result[name]
        ratio = f"{row['ms_over_original']:.2f}" if name in PLANS else "1"
        figures = [f"{row[figure]:,.0f}" for figure in ("calls", "GB", "GMAC", "ms")]
        rows.append([words, *figures, ratio])
    return f"{markdown_table(rows)}\n\nA model, with these assumptions: {result['assumptions']}."
