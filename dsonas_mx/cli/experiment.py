"""What `tools/run_experiment.py` asks of its options before anything runs."""

import argparse
import io
from contextlib import redirect_stderr
from dataclasses import fields
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ..experiments import experiment
from .parser import Parser, load_script


def add_slurm(parser: argparse.ArgumentParser) -> None:
    """`--slurm`, and what every run gets there."""
    group = parser.add_argument_group("on a cluster (docs/cluster.md)")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--slurm", action="store_true", help="submit what is missing, a run a job")
    which.add_argument("--collect", action="store_true", help="only make the table of what is done")
    group.add_argument("--partition", help="of the jobs; the cluster's default if not given")
    group.add_argument("--account", help="of the jobs")
    group.add_argument("--gpus-per-run", type=int, default=0, help="0: the CPU")
    group.add_argument("--cpus-per-run", type=int, default=4)
    group.add_argument("--time", default="24:00:00", help="of a job; a run goes on in the next")
    group.add_argument("--max-running", type=int, help="jobs at a time; all if not given")
    group.add_argument("--grace", type=int, default=120, help="seconds for the last checkpoint")
    group.add_argument(
        "--sbatch", action="append", metavar="NAME=VALUE", default=[], help="as qos=long, mem=32G"
    )


def allocation(options: argparse.Namespace) -> Any:
    """The `Allocation` of `add_slurm`."""
    from ..experiments.cluster import Allocation

    if options.jobs != 1 or options.gpus:
        raise ValueError("leave out --jobs and --gpus: see --max-running and --gpus-per-run")
    pairs = [text.partition("=") for text in options.sbatch]
    if not all(name and sign for name, sign, _ in pairs):
        raise ValueError("--sbatch must be as qos=long")
    given = {
        "gpus": options.gpus_per_run,
        "cpus": options.cpus_per_run,
        "sbatch": {name: value for name, _, value in pairs},
    }
    names = [field.name for field in fields(Allocation) if field.name not in given]
    return Allocation(**given, **{name: getattr(options, name) for name in names})


def checker(script: Path) -> Callable[[List[str]], None]:
    """What refuses a command line as `script` would."""
    if not script.is_file():
        raise ValueError(f"there is no {script}")
    parser: Parser = load_script(script).arguments()
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


def _data_option(found: experiment.Experiment, stage: str) -> str:
    """Which option has the data folder of a stage."""
    transfers = found.data_sets[stage] != found.data_sets["search"]
    return "--transfer-data-dir" if transfers else "--data-dir"


def data_folders(found: experiment.Experiment, given: Mapping[str, Any]) -> Dict[str, str]:
    """The data folder of each stage, of the options that are given."""
    stages = {stage: _data_option(found, stage) for stage in experiment.STAGES}
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
        option = _data_option(found, task.stage)
        if task.is_embedded and task.stage in folders:
            raise ValueError(f"leave out {option}: {task.name} is on embedded images")
        if not task.is_embedded and task.stage not in folders:
            raise ValueError(f"{task.name} needs {option}")
