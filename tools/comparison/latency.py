"""Latency of the networks of tables 3 and 5 and of found ones, as ratios to MobileNet's."""

import argparse
from pathlib import Path
from typing import Any, Dict, Optional

from dsonas_mx.cost.traced import count_traced
from dsonas_mx.engine.device import contexts
from dsonas_mx.io.markdown import markdown_table
from dsonas_mx.latency.deductions import take_turns
from dsonas_mx.latency.measure import deploy, describe
from dsonas_mx.space.mobile_architecture import load_architecture

from symbols import network_of
from symbols.published import NETWORKS, SIDE, Network

REFERENCE = "MobileNet"


def measure(options: argparse.Namespace) -> Dict[str, Any]:
    """All networks in turns in one process: parameters, multiply-adds, ms, ratios."""
    if options.batch_size < 1 or options.rounds < 2:
        raise ValueError("--batch-size must be at least 1, --rounds at least 2")
    unknown = sorted({*(options.networks or ())} - {*NETWORKS})
    if unknown:
        raise ValueError(f"no network {unknown[0]}; --networks knows {', '.join(NETWORKS)}")
    (device,) = contexts(options.gpus)[:1]
    kind = "gpu" if device.device_type == "gpu" else "cpu"
    names = [n for n in NETWORKS if not options.networks or n in (*options.networks, REFERENCE)]
    networks = {name: NETWORKS[name].build() for name in names}
    for path in options.architecture:
        found = load_architecture(path).with_space(num_classes=1000, image_size=SIDE)
        networks[f"{Path(path).parent.name}/{Path(path).name}"] = network_of(found)
    shape = (options.batch_size, 3, SIDE, SIDE)
    pieces = {name: deploy(net, shape, device) for name, net in networks.items()}
    fastest = take_turns(pieces, options.rounds)
    rows: Dict[str, Any] = {}
    for name, net in networks.items():
        cost, known = count_traced(net, SIDE), NETWORKS.get(name)
        rows[name] = {
            "parameters": cost.parameters,
            "multiply_adds": cost.multiply_adds,
            "published_parameters": known and known.parameters,
            "published_multiply_adds": known and known.multiply_adds,
            "ms": fastest[name].ms,
            "ratio": fastest[name].ms / fastest[REFERENCE].ms,
            "table3_ratio": _paper(known, f"table3_{kind}"),
            "table5_ratio": _paper(known, f"table5_{kind}"),
        }
    return {"networks": rows, "batch_size": options.batch_size, **describe(device)}


def text(result: Dict[str, Any], options: argparse.Namespace) -> str:
    """The paper's columns and ours side by side, in Markdown."""
    where = f"{result['kind'].upper()}, batch {result['batch_size']}"
    rows = [
        (
            *("network", "parameters (published)", "multiply-adds (published)", "ms"),
            *("over MobileNet: ours", "table 3", "table 5"),
        )
    ]
    for name, row in result["networks"].items():
        cells = (
            name,
            _counted(row["parameters"], row["published_parameters"], 1),
            _counted(row["multiply_adds"], row["published_multiply_adds"], 0),
            f"{row['ms']:.1f}",
            f"{row['ratio']:.2f}",
            _shown(row["table3_ratio"]),
            _shown(row["table5_ratio"]),
        )
        rows.append(cells)
    where += f", {result['name']}, {result['threads']} threads"
    return f"{markdown_table(rows)}\n\n{where}"


def _paper(network: Optional[Network], column: str) -> Optional[float]:
    """The paper's ratio to MobileNet."""
    ms = network and getattr(network, column)
    return ms / getattr(NETWORKS[REFERENCE], column) if ms else None


def _counted(value: float, published: Optional[float], digits: int) -> str:
    known = "–" if published is None else f"{published / 1e6:.{digits}f}M"
    return f"{value / 1e6:.{digits + 1}f}M ({known})"


def _shown(value: Optional[float]) -> str:
    return "–" if value is None else f"{value:.2f}"
