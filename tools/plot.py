#!/usr/bin/env python
"""Draw a run folder: the block's graph, λ over the epochs, learning curves."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli import Parser, run
from dsonas_mx.plots import draw_run


def main(options: argparse.Namespace) -> None:
    for path in draw_run(options.run, options.out):
        print(path)


if __name__ == "__main__":
    parser = Parser(description=__doc__)
    parser.add_argument(
        "run", metavar="RUN", help="a folder with architecture.json, lambdas.csv or metrics.csv"
    )
    parser.add_argument("--out", metavar="DIR", help="where the pictures go, if not into RUN")
    run(main, parser)
