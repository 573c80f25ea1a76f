#!/usr/bin/env python
"""Write one HTML page of some runs: pictures, λ by epoch, cost, results, command; and table 1."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.parser import Parser, run


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folder of a search or a training")
    parser.add_argument("-o", "--out", metavar="FILE", default="report.html")
    parser.add_argument("--tables", default="1", help="of the paper, as 1,6; none for none")
    return parser


def main(options: argparse.Namespace) -> None:
    from dsonas_mx.report import write_report

    from comparison import tables
    from comparison.arguments import tables as arguments_of_tables

    comparison = ""
    if options.tables != "none":
        parser = argparse.ArgumentParser()
        arguments_of_tables(parser)
        words = ["--tables", options.tables, "--format", "html"]
        chosen = parser.parse_args(words)
        comparison = tables.text(tables.measure(chosen), chosen)
    print(write_report(options.runs, options.out, comparison))


if __name__ == "__main__":
    run(main, arguments())
