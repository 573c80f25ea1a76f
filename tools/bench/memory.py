"""MB of a search step at the paper's size, and what recomputation costs where all can be run."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

from dsonas_mx import SearchSpace
from dsonas_mx.engine import native
from dsonas_mx.engine.timing import alternate, medians

import mxnet as mx

from .step import batch, both_steps, prepared, supernet

PAPER = {"cifar10": 64, "imagenet": 32}  # samples a device
PLANS = {"plain": "off", "least": "least"}
SMALL = {"width": 48, "blocks": 2, "batch_size": 32}  # a stage


def measure(options: argparse.Namespace) -> Dict[str, Any]:
    """Predicted MB by binding; times, and the resident memory of a child, at the small size."""
    if options.resident:
        return resident()
    cifar = options.dataset == "cifar10"
    size = options.batch_size or PAPER[options.dataset]
    space = SearchSpace.cifar10() if cifar else SearchSpace.imagenet()
    result: Dict[str, Any] = {}
    graphs = {}
    for name, mirror in PLANS.items():
        result[f"{name}_mb"] = prepared(space, size, mirror).footprint.total
        graphs[name] = supernet(small_space(), SMALL["batch_size"], mirror)[0]
    data, label = batch(small_space(), SMALL["batch_size"])
    pieces = {name: both_steps(graph, data, label) for name, graph in graphs.items()}
    seconds = medians(alternate(pieces, options.rounds))
    result["time_overhead"] = seconds["least"] / seconds["plain"]
    result.update(in_child())
    return {**result, "dataset": options.dataset, "batch_size": size, "native": native.load()}


def small_space() -> SearchSpace:
    """A supernet that can be run here with nothing computed twice."""
    return SearchSpace.cifar10(width=SMALL["width"], blocks=(SMALL["blocks"],) * 3)


def in_child() -> Dict[str, float]:
    """`resident` in a process without MKLDNN, whose own layouts no report has."""
    command = [sys.executable, str(Path(sys.argv[0]).resolve()), "memory", "--resident", "--json"]
    environment = {**os.environ, "MXNET_MKLDNN_ENABLED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def resident() -> Dict[str, float]:
    """Growth of this process by a weight step and a λ step with the smallest plan."""
    graph, net = supernet(small_space(), SMALL["batch_size"], "least")
    data, label = batch(small_space(), SMALL["batch_size"])
    report = graph.plan.megabytes + graph.footprint.workspace
    for parameter in net.collect_params().values():
        parameter.data().wait_to_read()
        if parameter.grad_req != "null":
            parameter.grad()[:] = 0
    mx.nd.waitall()
    idle = resident_mb()
    both_steps(graph, data, label)()
    mx.nd.waitall()
    return {"rss_mb": resident_mb() - idle, "rss_report_mb": report}


def resident_mb() -> float:
    """MB of this process that are in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not say how much memory a process has")
