#!/usr/bin/env python
"""Measure the supernet: its step, its memory, and what shrinking saves.

Figures are ratios of pieces that take turns in one process: this machine's own speed drops out.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx import cli

from bench import memory, shrink, step

BENCHMARKS = {"step": step, "memory": memory, "shrink": shrink}


def arguments() -> cli.Parser:
    parser = cli.Parser(description=__doc__)
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, module in BENCHMARKS.items():
        one = names.add_parser(name, help=module.__doc__, description=module.__doc__)
        module.arguments(one)
        one.add_argument("--json", action="store_true", help="one line of JSON, the last printed")
    names.add_parser("all", help="all of them, as they are by default")
    return parser


def show(name: str, result: Dict[str, Any]) -> None:
    """A line a figure."""
    print(f"{name}:")
    for key, value in result.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k}: {v:.3g}" for k, v in value.items())
        print(f"  {key:<16} {value:.4g}" if isinstance(value, float) else f"  {key:<16} {value}")


def main(options: argparse.Namespace) -> None:
    if options.name != "all":
        result = BENCHMARKS[options.name].measure(options)
        if options.json:
            print(json.dumps(result), flush=True)
        else:
            show(options.name, result)
        return
    for words in (["step"], ["memory"], ["memory", "--dataset", "imagenet"], ["shrink"]):
        one = arguments().parse_args(words)
        show(" ".join(words), BENCHMARKS[one.name].measure(one))


if __name__ == "__main__":
    cli.run(main, arguments())
