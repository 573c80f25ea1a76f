#!/usr/bin/env python
"""Kill a search again and again, and see that it ends as one that was never touched.

A small search on the demo's images, with pre-training and removals, runs to its end once. Then it
is run again, killed with SIGKILL at random moments and at random calls to the file system within a
checkpoint, and resumed each time; when it comes to its end it starts anew, until there were enough
kills. Everything goes under --folder, a new or empty one; result.json is the summary.
"""

import argparse
import filecmp
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.io.files import write_json

from soaking.lives import command, live, newest, place

SAME = ("architecture.json", "metrics.csv", "lambdas.csv", "model.params")
LONGEST = 4.0  # seconds that a search lives after it has said its first word


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--folder", default="runs/soak")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments, and of the search")
    return parser


def main(options: argparse.Namespace) -> int:
    folder = Path(options.folder)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: remove it, or give another --folder")
    if options.kills < 1:
        raise ValueError(f"--kills must be at least 1, got {options.kills}")
    start, moments = time.time(), random.Random(options.seed)
    whole = folder / "whole"
    whole.parent.mkdir(parents=True, exist_ok=True)
    if live(command(whole, options.seed, minutes=0), 3600) != 0:
        raise ArithmeticError("the search that nobody kills failed")
    kills = {"inside a checkpoint": 0, "elsewhere": 0}
    places, different, runs = set(), [], 0
    while sum(kills.values()) < options.kills:
        runs += 1
        run = folder / f"killed{runs}"
        status = None
        while status != 0:
            enough = sum(kills.values()) >= options.kills
            inside = 0 if enough or moments.random() < 0.5 else moments.randint(1, 60)
            seconds = 3600 if enough or inside else moments.uniform(0, LONGEST)
            status = live(command(run, options.seed, 0.01, inside), seconds)
            if status == -signal.SIGKILL:
                where = place(run)
                kills[where] += 1
                places.add(newest(run))
                print(f"{sum(kills.values())}: {where}, after {newest(run)}", flush=True)
            elif status:
                raise ArithmeticError(f"status {status} of the search: see {run / 'log.txt'}")
        different += [str(run / n) for n in SAME if not filecmp.cmp(whole / n, run / n, False)]
        print(f"{run} has ended; files that differ: {len(different)}", flush=True)
    result = {
        "kills": kills,
        "places it went on from": len(places),
        "runs": runs,
        "files compared": list(SAME),
        "different": different,
        "minutes": round((time.time() - start) / 60, 1),
    }
    write_json(folder / "result.json", result)
    print(result)
    return 1 if different else 0


if __name__ == "__main__":
    run(main, arguments())
