#!/usr/bin/env python
"""Run an experiment of experiments/: what is missing of it, then its table.

OUT gets a folder for every run, and results.json, renewed after each of them. Interrupt it at will:
the same command goes on.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.experiments import experiment
from dsonas_mx.io.files import atomic, write_json

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
    return parser


def checker(script: Path) -> Callable[[List[str]], None]:
    """What refuses a command line as `script` would."""
    if not script.is_file():
        raise ValueError(f"there is no {script}")
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module  # its options are looked up there
    spec.loader.exec_module(module)
    parser: Parser = module.arguments()
    parser.allow_abbrev = False

    def check(words: List[str]) -> None:
        told = io.StringIO()
        try:
            with redirect_stderr(told):
                parser.read(words)
        except SystemExit:
            raise ValueError(told.getvalue().strip().split(": ", 1)[-1]) from None
        except ValueError as error:
            raise ValueError(parser.named(str(error))) from None

    return check


def parse_seeds(text: Optional[str]) -> Optional[List[int]]:
    """'0,1,2' → [0, 1, 2]."""
    if text is None:
        return None
    seeds = [int(part) if part.isdecimal() else -1 for part in text.split(",")]
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds must be as 0,1,2, each once, got {text}")
    return seeds


def data_folders(found: experiment.Experiment, given: Mapping[str, Any]) -> Dict[str, str]:
    """The data folder of each stage, of the options that are given."""
    stages = {stage: found.data_option(stage) for stage in experiment.STAGES}
    for option, folder in given.items():
        if folder is not None and option not in stages.values():
            raise ValueError(f"leave out {option}: scale {found.scale} transfers to no other data")
        if folder is not None and not Path(folder).is_dir():
            raise ValueError(f"{option} {folder} is no folder")
    return {s: given[option] for s, option in stages.items() if given[option] is not None}


def check_data(
    found: experiment.Experiment, folders: Mapping[str, str], tasks: Sequence[experiment.Task]
) -> None:
    """Refuse runs that have no data, or that would not read the folder."""
    for task in tasks:
        option = found.data_option(task.stage)
        if task.is_embedded and task.stage in folders:
            raise ValueError(f"leave out {option}: {task.name} is on embedded images")
        if not task.is_embedded and task.stage not in folders:
            raise ValueError(f"{task.name} needs {option}")


def main(options: argparse.Namespace) -> int:
    from dsonas_mx.engine.device import contexts
    from dsonas_mx.experiments.results import collect, table
    from dsonas_mx.experiments.runner import Machine, Runner, check_options, is_done

    found = experiment.load(options.file, options.scale)
    scripts = {stage: SCRIPTS / f"{stage}_{name}.py" for stage, name in found.data_sets.items()}
    found.check({stage: checker(script) for stage, script in scripts.items()})
    given = {"--data-dir": options.data_dir, "--transfer-data-dir": options.transfer_data_dir}
    data_dirs = data_folders(found, given)
    machine = Machine(scripts, data_dirs, options.jobs, options.gpus)
    out = Path(options.out or Path("runs") / found.name / found.scale)
    seeds = parse_seeds(options.seeds) or found.seeds
    tasks = found.tasks(out, sorted({*found.seeds, *seeds}))
    wanted = experiment.of_rows(
        [task for task in tasks if task.seed in seeds],
        options.rows or [row.name for row in found.rows],
    )
    if options.list:
        for task in wanted:
            print("# done:" * is_done(task), machine.shown(task))
        return 0
    check_data(found, data_dirs, wanted)
    contexts(options.gpus)
    check_options(tasks)
    if options.docs:
        Path(options.docs).mkdir(parents=True, exist_ok=True)

    def report() -> str:
        results = collect(found, tasks)
        write_json(out / "results.json", results)
        if options.docs:
            path = Path(options.docs) / f"{found.name}_{found.scale}.json"
            write_json(path, results)
            with atomic(path.with_suffix(".md")) as temporary:
                temporary.write_text(table(results), encoding="utf-8")
        return table(results)

    def say(line: str) -> None:
        print(line, flush=True)

    failed = Runner(machine, say, report).run(wanted, out)
    print(report(), end="")
    return 1 if failed else 0


if __name__ == "__main__":
    run(main, arguments())
