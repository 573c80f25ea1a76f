#!/usr/bin/env python
"""Measure the latency of a network in its deployed form, of its connections, or a latency table.

Give an architecture file, or the options of a search space for its complete network.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dsonas_mx as dso
from dsonas_mx import cli
from dsonas_mx.engine.device import contexts
from dsonas_mx.latency.deductions import Deductions
from dsonas_mx.latency.measure import NetworkLatency, describe
from dsonas_mx.latency.table import measure_table
from dsonas_mx.space.normal import SCOPES, STEMS, SearchSpace, parse_blocks
from dsonas_mx.space.scales import scale_names

import mxnet as mx
from mxnet.gluon import HybridBlock

from symbols import architectures, get_model

STRUCTURE = ("scope", "levels", "operations", "stem")  # what an architecture has fixed


def arguments() -> cli.Parser:
    parser = cli.Parser(description=__doc__, argument_default=None)
    parser.add_argument(
        "architecture", metavar="ARCHITECTURE.json", type=architectures.find, nargs="?"
    )
    space = parser.add_argument_group("space, where it is not the file's or the paper's")
    space.add_argument("--scope", choices=SCOPES)
    space.add_argument("--stem", choices=STEMS, help="cifar or imagenet: the paper's network of it")
    space.add_argument("--levels", type=int, help="M, levels of a block")
    space.add_argument("--operations", help="of a level, such as sep3,sep5,max,avg")
    space.add_argument("--blocks", help="blocks a stage: a number, or one a stage (2,2,13,6)")
    space.add_argument("--width", type=int, help="channels of the first stage")
    space.add_argument("--num-classes", type=int)
    space.add_argument("--image-size", type=int, help="side of the images in pixels")
    parser.add_argument("--gpus", default="", help="the number of a GPU; empty for the CPU")
    parser.add_argument("--batch-size", type=int, default=1, help="the paper's: 1, or 8 on a GPU")
    parser.add_argument("--runs", type=int, default=5, help="of which the median is taken")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--connections", action="store_true", help="what the network saves without each connection"
    )
    what.add_argument("--table", metavar="FILE", help="write the latency table of the space")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


def architecture_of(options: argparse.Namespace) -> dso.Architecture:
    """That of the file, with changes, or the complete one of the space."""
    given = {
        name: getattr(options, name)
        for name in (*STRUCTURE, "width", "num_classes", "image_size")
        if getattr(options, name) is not None
    }
    if options.architecture is None:
        if "operations" in given:
            given["operations"] = given["operations"].split(",")
        paper = SearchSpace.imagenet if options.stem == "imagenet" else SearchSpace.cifar10
        if options.blocks is not None:
            given["blocks"] = parse_blocks(options.blocks, len(paper().blocks))
        return dso.Architecture.complete(paper(**given))
    for name in STRUCTURE:
        if name in given:
            raise ValueError(f"--{name} is the architecture's own: leave it out, or give no file")
    architecture = dso.Architecture.load(options.architecture)
    if options.blocks is not None:
        given["blocks"] = parse_blocks(options.blocks, len(architecture.space.blocks))
    return architecture.with_space(**given)


def build(architecture: dso.Architecture) -> HybridBlock:
    return get_model("dsonas", architecture)


def of_network(options: argparse.Namespace, device: mx.Context) -> Dict[str, Any]:
    """Median, spread and noise."""
    architecture = architecture_of(options)
    latency = NetworkLatency(build, device, options.batch_size, options.runs).measured(architecture)
    return {
        "latency_ms": latency.median_ms,
        "spread_ms": latency.spread_ms,
        "noise_ms": latency.noise_ms,
        "runs_ms": list(latency.runs),
    }


def of_connections(options: argparse.Namespace, device: mx.Context) -> Dict[str, Any]:
    """Every live connection, with what its removal saves, and the noise."""
    architecture = architecture_of(options)
    saved, noise = Deductions(build, device, options.batch_size).measured(architecture)
    alive = [kept for mask in architecture.kept for kept in mask]
    rows = zip(
        scale_names(architecture.space), alive, saved.ravel().tolist(), noise.ravel().tolist()
    )
    return {
        "connections": {
            name: {"saved_ms": ms, "noise_ms": least} for name, lives, ms, least in rows if lives
        }
    }


def of_parts(options: argparse.Namespace, device: mx.Context) -> Dict[str, Any]:
    """The table, in its file as well."""
    path = Path(options.table)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"--table must be a file in a folder that is there, got {path}")
    table = measure_table(build, architecture_of(options).space, device, options.batch_size)
    table.save(path)
    return {"stages": table.to_json()["stages"], "table": str(path)}


def lines(result: Dict[str, Any]) -> List[str]:
    """What is printed without --json."""
    if "latency_ms" in result:
        return [f"{name:<12} {result[name]:>10.3f}" for name in list(result)[:3]]
    if "connections" in result:
        rows = result["connections"].items()
        return [f"{n:<40} {r['saved_ms']:>9.3f} ms, noise {r['noise_ms']:.3f}" for n, r in rows]
    return [
        f"stage {number} {part:<6} {time['ms']:>9.4f} ms, noise {time['noise_ms']:.4f}"
        for number, stage in enumerate(result["stages"], 1)
        for part, time in stage.items()
    ] + [f"saved {result['table']}"]


def main(options: argparse.Namespace) -> None:
    devices = contexts(options.gpus)
    if len(devices) > 1:
        raise ValueError(f"--gpus must be one GPU here, got {options.gpus}")
    measured = of_connections if options.connections else of_parts if options.table else of_network
    result = measured(options, devices[0])
    if options.json:
        print(json.dumps({**result, "batch_size": options.batch_size, **describe(devices[0])}))
    else:
        print("\n".join(lines(result)))


if __name__ == "__main__":
    cli.run(main, arguments())
