"""The arguments of each comparison, by name, apart from what they need to run."""

import argparse
from pathlib import Path

from dsonas_mx.cli.options import ImageOptions
from dsonas_mx.cli.parser import add_options
from dsonas_mx.experiments.paper import TABLES

from import_checkpoint import add_checkpoint

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


def tables(parser: argparse.ArgumentParser) -> None:
    """Tables 1 to 9 of the paper: its values, what is exactly known here, and what was run."""
    parser.add_argument("--tables", default=",".join(TABLES), help="which, as 1,6")
    parser.add_argument(
        "--format",
        choices=("text", "markdown", "csv", "html"),
        help="text, as wide as the terminal, on one; else markdown",
    )
    parser.add_argument(
        "--results",
        default=str(RESULTS),
        help="folder of the files EXPERIMENT_small.json and EXPERIMENT_paper.json of "
        "run_experiment.py --docs",
    )
    parser.add_argument(
        "--memory", action="store_true", help="plan the supernets' memory, too: about a minute"
    )


def checkpoint(parser: argparse.ArgumentParser) -> None:
    """A checkpoint of the authors: its architecture, parameters, multiply-adds, error on data."""
    add_checkpoint(parser)
    add_options(parser, ImageOptions(), "data")


def latency(parser: argparse.ArgumentParser) -> None:
    """Latency of the networks of tables 3 and 5 and of found ones, as ratios to MobileNet's."""
    parser.add_argument(
        "--architecture", metavar="FILE", nargs="*", default=[], help="found ones, to compare"
    )
    parser.add_argument("--networks", nargs="*", metavar="NAME", help="only these of the tables")
    parser.add_argument("--gpus", default="", help="the number of a GPU; empty for the CPU")
    parser.add_argument("--batch-size", type=int, default=1, help="table 3's GPU column has 8")
    parser.add_argument("--rounds", type=int, default=20, help="turns, of which the fastest counts")
    parser.add_argument(
        "--into",
        metavar="FILE",
        nargs="*",
        default=[],
        help="Markdown files whose table to renew, between <!-- latency-B --> of the batch size B",
    )


COMPARISONS = {one.__name__: one for one in (tables, checkpoint, latency)}
