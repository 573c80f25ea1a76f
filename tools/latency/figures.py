"""The figures of tools/measure_latency.py: of a network, of its connections, of a space."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any, Dict, List

import dsonas_mx as dso
from dsonas_mx.latency.deductions import Deductions
from dsonas_mx.latency.measure import NetworkLatency
from dsonas_mx.latency.table import measure_table
from dsonas_mx.space.normal import SearchSpace, parse_blocks
from dsonas_mx.space.scales import scale_names

import mxnet as mx

from symbols import architectures, get_model

STRUCTURE = ("scope", "levels", "operations", "stem")  # what an architecture has fixed
build = partial(get_model, "dsonas")


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
    architecture = dso.Architecture.load(architectures.find(options.architecture))
    if options.blocks is not None:
        given["blocks"] = parse_blocks(options.blocks, len(architecture.space.blocks))
    return architecture.with_space(**given)


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


def measure(options: argparse.Namespace, device: mx.Context) -> Dict[str, Any]:
    """What the options ask for."""
    if options.connections:
        return of_connections(options, device)
    return of_parts(options, device) if options.table else of_network(options, device)
