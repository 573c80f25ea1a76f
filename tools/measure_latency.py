#!/usr/bin/env python
"""Measure the latency of a network in its deployed form, of its connections, or a latency table.

Give an architecture file, or the options of a search space for its complete network.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.space.normal import SCOPES, STEMS


def arguments() -> Parser:
    parser = Parser(description=__doc__, argument_default=None)
    parser.add_argument("architecture", metavar="ARCHITECTURE.json", nargs="?")
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


def main(options: argparse.Namespace) -> None:
    from dsonas_mx.engine.device import contexts
    from dsonas_mx.latency.measure import describe

    from latency import figures

    devices = contexts(options.gpus)
    if len(devices) > 1:
        raise ValueError(f"--gpus must be one GPU here, got {options.gpus}")
    result = figures.measure(options, devices[0])
    if options.json:
        print(json.dumps({**result, "batch_size": options.batch_size, **describe(devices[0])}))
    else:
        print("\n".join(figures.lines(result)))


if __name__ == "__main__":
    run(main, arguments())
