#!/usr/bin/env python
"""Compare with the paper: its tables beside ours, a checkpoint of the authors, latencies."""

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.parser import Parser, add_commands, run
from dsonas_mx.io.markdown import renew

from comparison.arguments import COMPARISONS


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    add_commands(parser, COMPARISONS)
    return parser


def main(options: argparse.Namespace) -> None:
    module = import_module(f"comparison.{options.name}")
    result = module.measure(options)
    text = module.text(result, options)
    print(json.dumps(result, ensure_ascii=False) if options.json else text)
    for path in getattr(options, "into", ()):  # of latency
        renew(path, f"latency-{options.batch_size}", text)


if __name__ == "__main__":
    run(main, arguments())
