#!/usr/bin/env python
"""Measure the supernet: its step, its memory, what shrinking saves; and the data beside a step.

Figures are ratios of pieces that take turns in one process: this machine's own speed drops out.
"""

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Dict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.parser import Parser, add_commands, run
from dsonas_mx.io.markdown import renew

from bench.arguments import BENCHMARKS
from bench.table import table

INTO = "Markdown files whose table to renew"


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    names = add_commands(parser, BENCHMARKS)
    everything = names.add_parser("all", help="all of them, as they are by default")
    for one in (everything, names.choices["profile"], names.choices["gpu"]):
        one.add_argument("--into", metavar="FILE", nargs="*", default=[], help=INTO)
    return parser


def measure(options: argparse.Namespace) -> Dict[str, Any]:
    """The figures of a benchmark, which is loaded for it: MXNet takes seconds."""
    return import_module(f"bench.{options.name}").measure(options)


def show(name: str, result: Dict[str, Any]) -> None:
    """A line a figure."""
    print(f"{name}:")
    for key, value in result.items():
        if isinstance(value, list) and isinstance(value[0], float):
            value = ", ".join(f"{number:.3g}" for number in value)
        if isinstance(value, list):  # of operators
            value = "".join(
                f"\n    {row['operator']:<30} {row['ms']:>9.1f} ms, at best {row['floor_ms']:.1f}"
                for row in value
            )
        if isinstance(value, dict):
            value = ", ".join(f"{k}: {v:.3g}" for k, v in value.items())
        print(f"  {key:<16} {value:.4g}" if isinstance(value, float) else f"  {key:<16} {value}")


def main(options: argparse.Namespace) -> None:
    if options.name != "all":
        result = measure(options)
        if options.json:
            print(json.dumps(result), flush=True)
        else:
            show(options.name, result)
        for path in getattr(options, "into", ()):
            renew(path, options.name, import_module(f"bench.{options.name}").table(result))
        return
    results = {}
    for words in (["step"], ["memory"], ["memory", "--dataset", "imagenet"], ["shrink"], ["data"]):
        one = arguments().parse_args(words)
        results[" ".join(words)] = measure(one)
        show(" ".join(words), results[" ".join(words)])
    for path in options.into:
        renew(path, "performance", table(results))


if __name__ == "__main__":
    run(main, arguments())
