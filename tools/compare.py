#!/usr/bin/env python
"""Compare with the paper: its tables beside ours, a checkpoint of the authors, latencies."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx import cli
from dsonas_mx.io.files import renew

from comparison import checkpoint, latency, tables

COMPARISONS = {"tables": tables, "checkpoint": checkpoint, "latency": latency}


def arguments() -> cli.Parser:
    parser = cli.Parser(description=__doc__)
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, module in COMPARISONS.items():
        one = names.add_parser(name, help=module.__doc__, description=module.__doc__)
        module.arguments(one)
        one.add_argument("--json", action="store_true", help="one line of JSON, the last printed")
    return parser


def main(options: argparse.Namespace) -> None:
    module = COMPARISONS[options.name]
    result = module.measure(options)
    text = module.text(result, options)
    print(json.dumps(result, ensure_ascii=False) if options.json else text)
    for path in getattr(options, "into", ()):  # of latency
        renew(path, f"latency-{options.batch_size}", text)


if __name__ == "__main__":
    cli.run(main, arguments())
