#!/usr/bin/env python
"""Draw a run folder: the block's graph, λ over the epochs, learning curves.

With --follow it does so after each epoch, until the run has ended; one that was cut off may go on.
`plot.py pareto RUN...` draws the error of trained networks against what they cost, `plot.py
agreement RUN...` how far searches with several seeds agree, and `plot.py seeds FILE` every seed of
an experiment's results.json.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.parser import Parser, run


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "run",
        nargs="+",
        metavar="RUN",
        help="a folder with architecture.json, lambdas.csv or metrics.csv; or pareto, and folders "
        "of trained networks; or agreement, and folders of searches; or seeds, and a "
        "results.json",
    )
    parser.add_argument("--out", metavar="DIR", help="where pictures go: RUN; of many, here")
    parser.add_argument("--follow", action="store_true", help="draw anew until the run has ended")
    return parser


def seeds_of(paths: Sequence[str]) -> Any:
    """The picture of the results in the one file that is given."""
    from dsonas_mx.io.files import read_json
    from dsonas_mx.plots import draw_seeds

    if len(paths) > 1:
        raise ValueError("seeds takes one file, results.json or of docs/results")
    try:
        return draw_seeds(read_json(paths[0], dict))
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{paths[0]} is not of an experiment: {error!r}") from None


def main(options: argparse.Namespace) -> None:
    from dsonas_mx.experiments.agreement import draw, read_searches
    from dsonas_mx.plots import draw_run, draw_runs, save
    from dsonas_mx.plots.follow import follow

    if options.follow and len(options.run) > 1:
        raise ValueError("--follow is for one run")
    what, runs, out = options.run[0], options.run[1:], Path(options.out or ".")
    if runs and what in ("agreement", "seeds"):
        searches = what == "agreement"
        figure = draw(read_searches(runs)) if searches else seeds_of(runs)
        out.mkdir(parents=True, exist_ok=True)
        print(save(figure, out / f"{what}.png"))
        return
    if runs and what == "pareto":
        print(draw_runs(runs, out))
        return
    if runs:
        raise ValueError("one run at a time, or pareto or agreement and the runs to compare")
    if options.follow:
        if not Path(options.run[0]).is_dir():
            print(f"{options.run[0]}: not there yet, waiting for it", file=sys.stderr, flush=True)
        for path in follow(options.run[0], options.out):
            print(path, flush=True)
        return
    for path in draw_run(options.run[0], options.out):
        print(path)


if __name__ == "__main__":
    run(main, arguments())
