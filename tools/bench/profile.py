"""Where the time of a step goes, beside what this machine could do at best."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections import defaultdict
from tempfile import TemporaryDirectory
from typing import Any, Callable, Dict, List, NamedTuple

from dsonas_mx import SearchSpace
from dsonas_mx.engine.timing import alternate, medians
from dsonas_mx.io.markdown import markdown_table

import mxnet as mx

from symbols import original

from .step import batch, bind_original, both_steps, original_steps, supernet

ROUNDS = 5
SHOWN = 8  # operators of each graph


class Work(NamedTuple):
    """Multiply-adds of the operators of a kind, and bytes that they read or write at least."""

    multiply_adds: float = 0
    size: float = 0


def measure(options: argparse.Namespace) -> Dict[str, Any]:
    """A weight step and a λ step of ours, and of the original's graph."""
    os.environ["MXNET_EXEC_BULK_EXEC_TRAIN"] = "0"  # or operators are timed in bunches
    space = SearchSpace.cifar10(width=options.width, blocks=(options.blocks,) * 3)
    graph, net = supernet(space, options.batch_size)
    data, label = batch(space, options.batch_size)
    plain = bind_original(space, net, data, label)

    machine = limits()
    result: Dict[str, Any] = {"machine": machine}
    symbols = {"ours": graph.symbol("weights"), "original": original.network(space, "all")}
    steps = {"ours": both_steps(graph, data, label), "original": original_steps(plain)}
    for name, symbol in symbols.items():
        shapes = {"data": data.shape, "label" if name == "ours" else "softmax_label": label.shape}
        known = work(symbol, shapes)
        rows = []
        for operator, milliseconds in times(steps[name])[:SHOWN]:
            kind = operator.replace("_backward_", "")
            # A weight step computes two gradients, a λ step one of them; the original always two.
            backward = 1.5 if name == "ours" else 2
            passes = 2 * (backward if operator.startswith("_backward") else 1)
            floor = passes * max(
                known[kind].multiply_adds / machine["multiply_adds_per_s"],
                known[kind].size / machine["bytes_per_s"],
            )
            rows.append({"operator": operator, "ms": milliseconds, "floor_ms": 1000 * floor})
        result[name] = rows
    return result


def table(result: Dict[str, Any]) -> str:
    """What `measure` gives, in Markdown."""
    machine = result["machine"]
    title = (
        f"`python tools/benchmark.py profile`: this machine does "
        f"{machine['multiply_adds_per_s'] / 1e9:.0f}·10⁹ multiply-adds and moves "
        f"{machine['bytes_per_s'] / 1e9:.0f} GB a second at best."
    )
    rows = [("graph", "operator", "ms of a weight + λ step", "at best", "times as long")]
    for name in ("original", "ours"):
        for row in result[name]:
            ratio = f"{row['ms'] / row['floor_ms']:.1f}" if row["floor_ms"] else "–"
            figures = f"{row['ms']:.1f}", f"{row['floor_ms']:.1f}", ratio
            rows.append((name, f"`{row['operator']}`", *figures))
    return f"{title}\n\n{markdown_table(rows)}"


def limits() -> Dict[str, float]:
    """Multiply-adds and bytes a second of this machine, by a large product and a large copy."""
    side, size = 2048, 64 * 2**20
    a, b = mx.nd.ones((side, side)), mx.nd.ones((side, side))
    c, d = mx.nd.ones(size // 4), mx.nd.ones(size // 4)
    pieces: Dict[str, Callable[[], object]] = {
        "product": lambda: mx.nd.FullyConnected(a, b, no_bias=True, num_hidden=side),
        "copy": lambda: c.copyto(d),
    }
    seconds = medians(alternate(pieces, ROUNDS))
    return {
        "multiply_adds_per_s": side**3 / seconds["product"],
        "bytes_per_s": 2 * size / seconds["copy"],
    }


def times(step: Callable[[], None]) -> List[Any]:
    """(operator, milliseconds of a step), the longest first."""
    step()
    mx.nd.waitall()
    # MXNet puts a new file in the place of the one it is given, /dev/null, too.
    with TemporaryDirectory(prefix="dsonas-profile-") as folder:
        file = os.path.join(folder, "profile.json")
        mx.profiler.set_config(profile_symbolic=True, aggregate_stats=True, filename=file)
        mx.profiler.set_state("run")
        for _ in range(ROUNDS):
            step()
            mx.nd.waitall()
        mx.profiler.set_state("stop")
        groups = json.loads(mx.profiler.dumps(reset=True, format="json"))["Time"]
    operators = groups.get("operator", {})
    totals = [(name, values["Total"] / ROUNDS) for name, values in operators.items()]
    return sorted(totals, key=lambda pair: -pair[1])


def work(symbol: mx.sym.Symbol, shapes: Dict[str, Any]) -> Dict[str, Work]:
    """What the forward operators of each kind have to do."""
    nodes = json.loads(symbol.tojson())["nodes"]
    internals = symbol.get_internals()
    sizes = dict(zip(internals.list_outputs(), internals.infer_shape(**shapes)[1]))

    def shape(index: int) -> Any:
        name = nodes[index]["name"]
        names = (name, f"{name}_output", f"{name}_output0")
        return next(sizes[known] for known in names if known in sizes)

    done: Dict[str, Work] = defaultdict(Work)
    depends = set()  # on the data: what a parameter alone makes is as good as one
    for index, node in enumerate(nodes):
        if node["name"] == "data" or any(source[0] in depends for source in node["inputs"]):
            depends.add(index)
        if node["op"] == "null":
            continue
        out = shape(index)
        read = sum(math.prod(shape(source[0])) for source in node["inputs"])
        parameters = [s[0] for s in node["inputs"] if s[0] not in depends]
        weights = [shape(source) for source in parameters]
        pixels = math.prod(out[2:]) * out[0] if len(out) == 4 else 0
        # Every weight of O×I×k×k is used once a pixel.
        uses = sum(math.prod(weight) for weight in weights if len(weight) == 4) * pixels
        before = done[node["op"]]
        done[node["op"]] = Work(
            before.multiply_adds + (uses if node["op"] in _MULTIPLYING else 0),
            before.size + 4 * (read + math.prod(out)),
        )
    return done


_MULTIPLYING = ("Convolution", "dsonas_level", "dsonas_collect")
