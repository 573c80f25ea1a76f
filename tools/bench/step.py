"""A weight step and a λ step of the supernet, against the original's graph in the same process."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from typing import Any, Callable, Dict, Tuple

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.engine.timing import alternate, medians
from dsonas_mx.release.names import to_authors
from dsonas_mx.training.loss import cross_entropy

import mxnet as mx
import numpy as np

from symbols import get_model, original

CHECKED = 8  # samples
KINDS = ("lambda", "weight", "beta", "bias", "out")


def measure(options: argparse.Namespace) -> Dict[str, Any]:
    """Both graphs with the same parameters and batch, checked, then timed in turn."""
    space = SearchSpace.cifar10(width=options.width, blocks=(options.blocks,) * 3)
    graph, net = supernet(space, options.batch_size)
    data, label = batch(space, options.batch_size)
    plain = bind_original(space, net, data, label)

    pieces = {"ours": both_steps(graph, data, label), "plain": original_steps(plain)}
    seconds = medians(alternate(pieces, options.rounds))
    return {
        "ratio": seconds["ours"] / seconds["plain"],
        "ours_s": seconds["ours"],
        "plain_s": seconds["plain"],
        "ours_nodes": count_nodes(graph.symbol("weights")),
        "plain_nodes": count_nodes(original.network(space, "all")),
        "max_difference": largest_difference(space),
        "native": graph.is_native,
        "width": options.width,
        "blocks": options.blocks,
        "batch_size": options.batch_size,
    }


def supernet(
    space: SearchSpace, batch_size: int, mirror: Any = "off", architecture: Any = None
) -> Tuple[TrainGraph, Any]:
    """The weighted network of an architecture (complete by default), initialised, with a graph."""
    mx.random.seed(0)
    net = get_model("dsonas", architecture or Architecture.complete(space), weighted=True)
    net.initialize()
    return graph_of(net, space, batch_size, mirror), net


def prepared(space: SearchSpace, batch_size: int, mirror: Any) -> TrainGraph:
    """The graph of a supernet that is not initialised: enough for its plan, at any size."""
    net = get_model("dsonas", space=space, weighted=True)
    return graph_of(net, space, batch_size, mirror)


def graph_of(net: Any, space: SearchSpace, batch_size: int, mirror: Any) -> TrainGraph:
    """The training graph of a network on the CPU."""
    shape = (batch_size, space.in_channels, space.image_size, space.image_size)
    return TrainGraph(net, cross_entropy, shape, (batch_size,), [mx.cpu()], mirror)


def both_steps(graph: TrainGraph, data: np.ndarray, label: np.ndarray) -> Callable[[], None]:
    """A weight step and a λ step, without updates."""

    def steps() -> None:
        graph.step("weights", data, label)
        graph.step("lambdas", data, label)

    return steps


def original_steps(executor: mx.executor.Executor) -> Callable[[], None]:
    """The same of the original's graph, which computes all gradients in both."""

    def steps() -> None:
        for _ in range(2):
            executor.forward(is_train=True)
            executor.backward()

    return steps


def batch(space: SearchSpace, size: int) -> Tuple[np.ndarray, np.ndarray]:
    """Random images and labels."""
    generator = np.random.RandomState(0)
    shape = (size, space.in_channels, space.image_size, space.image_size)
    label = generator.randint(0, space.num_classes, size)
    return generator.randn(*shape).astype(np.float32), label.astype(np.float32)


def bind_original(
    space: SearchSpace, net: Any, data: np.ndarray, label: np.ndarray
) -> mx.executor.Executor:
    """The original's graph on the parameters of `net`: all gradients, nothing computed twice."""
    executor = original.network(space, "all").simple_bind(mx.cpu(), "write", data=data.shape)
    arrays = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    for name, array in to_authors(arrays, net.architecture).items():
        target = executor.aux_dict if "moving" in name else executor.arg_dict
        target[name][:] = array
    executor.arg_dict["data"][:] = data
    executor.arg_dict["softmax_label"][:] = label
    return executor


def largest_difference(space: SearchSpace) -> float:
    """Of outputs, and of the gradients of weights, shifts and λ, relative to the largest of each.

    On a few samples, and away from the kinks of ReLU: where what enters it is near zero, rounding
    decides between two gradients, and two graphs that are both right differ.
    """
    graph, net = supernet(space, CHECKED)
    for name, parameter in net.collect_params().items():
        if name.endswith("_beta"):
            parameter.set_data(mx.nd.full(parameter.shape, 3.0))
    data, label = batch(space, CHECKED)
    plain = bind_original(space, net, data, label)
    logits = graph.step("weights", data, label)[0].answers
    ours = {"out": mx.nd.softmax(logits).asnumpy()}
    graph.step("lambdas", data, label)
    learned = {
        n: p.grad().asnumpy() for n, p in net.collect_params().items() if p.grad_req != "null"
    }
    ours.update(to_authors(learned, net.architecture))
    plain.forward(is_train=True)
    plain.backward()
    theirs = {"out": plain.outputs[0].asnumpy()}
    theirs.update((name, array.asnumpy()) for name, array in plain.grad_dict.items())
    differences: Dict[str, float] = defaultdict(float)
    largest: Dict[str, float] = defaultdict(float)
    for name, array in ours.items():
        kind = next(kind for kind in KINDS if kind in name)
        differences[kind] = max(differences[kind], float(np.abs(array - theirs[name]).max()))
        largest[kind] = max(largest[kind], float(np.abs(theirs[name]).max()))
    return max(differences[kind] / largest[kind] for kind in largest)


def count_nodes(symbol: mx.sym.Symbol) -> int:
    """Operators of a symbol."""
    return sum(node["op"] != "null" for node in json.loads(symbol.tojson())["nodes"])
