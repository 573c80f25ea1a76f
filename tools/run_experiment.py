#!/usr/bin/env python
"""Run an experiment of experiments/: what is missing of it, then its table.

OUT gets a folder for every run, and results.json, renewed after each of them. Interrupt it at will:
the same command goes on. With --slurm the runs are jobs of a cluster, the same command says how far
they are and submits what is missing, and --collect makes the table.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.experiment import (
    add_slurm,
    allocation,
    check_data,
    checker,
    data_folders,
    parse_seeds,
)
from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.experiments.experiment import of_rows
from dsonas_mx.experiments.files import read_experiment

SCRIPTS = Path(__file__).resolve().parents[1] / "train"


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("file", metavar="FILE", help="as experiments/table1.json")
    parser.add_argument("--scale", default="small", help="as the file has them: small, paper")
    parser.add_argument("--seeds", help="run only these, as 0,1,2; the results have all that are")
    parser.add_argument("--rows", nargs="+", help="run only these; not all of the file's")
    parser.add_argument("--data-dir", help="of the scripts")
    parser.add_argument(
        "--transfer-data-dir", help="of the data that the file transfers to, where it does"
    )
    parser.add_argument("--gpus", default="", help="as 0,1, divided among the jobs; empty: the CPU")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, dividing the cores")
    parser.add_argument("--out", help="runs/NAME/SCALE if it is not given")
    parser.add_argument("--docs", help="a folder for NAME_SCALE.json and the table NAME_SCALE.md")
    parser.add_argument("--list", action="store_true", help="print the commands, run nothing")
    add_slurm(parser)
    return parser


def main(options: argparse.Namespace) -> int:
    from dsonas_mx.engine.device import contexts
    from dsonas_mx.experiments.cluster import refuse_queued, submit
    from dsonas_mx.experiments.results import collect, write
    from dsonas_mx.experiments.runner import LOCK, Machine, Runner, check_options, is_done

    found = read_experiment(options.file, options.scale)
    scripts = {stage: SCRIPTS / f"{stage}_{name}.py" for stage, name in found.data_sets.items()}
    found.check({stage: checker(script) for stage, script in scripts.items()})
    given = {"--data-dir": options.data_dir, "--transfer-data-dir": options.transfer_data_dir}
    data_dirs = data_folders(found, given)
    machine = Machine(scripts, data_dirs, options.jobs, options.gpus)
    out = Path(options.out or Path("runs") / found.name / found.scale)
    seeds = parse_seeds(options.seeds) or found.seeds
    tasks = found.tasks(out, sorted({*found.seeds, *seeds}))
    wanted = of_rows(
        [task for task in tasks if task.seed in seeds],
        options.rows or [row.name for row in found.rows],
    )
    if options.list:
        for task in wanted:
            print("# done:" * is_done(task), machine.shown(task))
        return 0
    contexts(options.gpus)
    check_data(found, data_dirs, wanted)
    check_options(tasks)
    if options.docs:
        Path(options.docs).mkdir(parents=True, exist_ok=True)

    def report() -> str:
        return write(collect(found, tasks), out, options.docs)

    say = partial(print, flush=True)
    if options.slurm:
        print(*submit(wanted, machine, allocation(options), out, found.name), sep="\n")
        return 0
    if not options.collect:
        refuse_queued(wanted, out)
    failed = [] if options.collect else Runner(machine, say, report).run(wanted, out / LOCK)
    print(report(), end="")
    return 1 if failed else 0


if __name__ == "__main__":
    run(main, arguments())
