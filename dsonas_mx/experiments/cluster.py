"""Experiments on SLURM: what is missing is submitted as arrays of jobs, a run a job.

A run that SLURM wants to end, for a time limit or for somebody else, is warned first: it writes a
checkpoint, and is put back into the queue to go on from there. submitit does the submitting, the
warning and the putting back; here is what a job does, and what has to be submitted.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..io.files import PathLike, read_json, write_json
from .experiment import Task
from .runner import LOCK, Machine, Runner, is_done, lock_of, locked, record_of

JOBS = "slurm.json"  # in the folder of an experiment: the last job of each run
_LOGS = "slurm"
# Every process of a job gets the signal of the warning: it must be one that ends a run well.
_WARNING = "USR1"
# And none before Python has begun to listen.
_PYTHON = f'sh -c \'trap "" {_WARNING}; exec "$0" "$@"\' {shlex.quote(sys.executable)}'
_TO_REQUEUE = 10.0  # seconds of the grace that putting a run back takes
_LEASE = 600.0  # seconds that a shared file system may keep the locks of a node that died
_ROOT = Path(__file__).resolve().parents[2]
# minutes, minutes:seconds, hours:minutes:seconds, or days and hours with what follows
_TIME = re.compile(r"(\d+)-(\d+)(?::(\d\d))?(?::(\d\d))?|(?:(\d+):)?(\d+)(?::(\d\d))|(\d+)")


@dataclass(frozen=True)
class Allocation:
    """What every run gets of the cluster.

    Parameters
    ----------
    time : str
        As SLURM writes it: ``'90'`` minutes, ``'24:00:00'``, ``'2-00:00:00'``.
    gpus : int
        Of a run; without any it uses the CPU.
    cpus : int
        Of a run.
    partition, account : str, optional
    max_running : int, optional
        Jobs at a time, of those that are submitted at once.
    grace : int
        Seconds between the warning and the end, for a step and a checkpoint.
    sbatch : mapping
        Further options of sbatch, as ``{"qos": "long", "mem": "32G"}``.
    """

    time: str = "24:00:00"
    gpus: int = 0
    cpus: int = 4
    partition: Optional[str] = None
    account: Optional[str] = None
    max_running: Optional[int] = None
    grace: int = 120
    sbatch: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("gpus", 0), ("cpus", 1), ("max_running", 1), ("grace", 15)):
            given = getattr(self, name)
            if given is not None and given < least:
                raise ValueError(f"{name} must be at least {least}, got {given}")
        if 60 * self.minutes < 3 * self.grace:  # or a run would end before it has done anything
            raise ValueError(
                f"time must be at least three times the grace of {self.grace} s, got {self.time}"
            )

    @property
    def minutes(self) -> int:
        """The time in minutes."""
        match = _TIME.fullmatch(self.time)
        if match is None:
            raise ValueError(f"time must be as 90, 24:00:00 or 2-00:00:00, got {self.time!r}")
        days, after, of_hour, of_minute, hours, minutes, seconds, alone = (
            int(part or 0) for part in match.groups()
        )
        return (
            1440 * days
            + 60 * (after + hours)
            + of_hour
            + minutes
            + alone
            + (of_minute + seconds > 0)  # a minute that has begun
        )

    def parameters(self) -> Dict[str, Any]:
        """For submitit."""
        options: Dict[str, Any] = {
            "timeout_min": self.minutes,
            "cpus_per_task": self.cpus,
            "slurm_signal_delay_s": self.grace,
            "slurm_setup": [
                f"export PYTHONPATH={shlex.quote(str(_ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}",
                f"export SUBMITIT_PREEMPT_SIGNAL={_WARNING}",
            ],
            # srun takes notice of neither by itself, everywhere.
            "slurm_srun_args": ["--export=ALL", f"--cpus-per-task={self.cpus}"],
            "slurm_additional_parameters": {"requeue": True, **self.sbatch},
        }
        if self.gpus:
            options["slurm_gpus_per_node"] = self.gpus
        if self.max_running is not None:
            options["slurm_array_parallelism"] = self.max_running
        for name in ("partition", "account"):
            if getattr(self, name) is not None:
                options[f"slurm_{name}"] = getattr(self, name)
        return options


class Job:
    """What a job does: one run, on the devices that SLURM gave it.

    Parameters
    ----------
    machine : Machine
        Scripts and data folders.
    gpus : int
        SLURM shows a job its own GPUs alone, numbered from 0.
    grace : int
        Seconds from SLURM's warning to the end.
    """

    def __init__(self, machine: Machine, gpus: int, grace: int) -> None:
        self._machine = replace(machine, jobs=1, gpus=",".join(map(str, range(gpus))))
        self._patience = max(1.0, grace - _TO_REQUEUE)
        self._runner: Optional[Runner] = None

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_runner": None}

    def __call__(self, task: Task) -> bool:
        """Do the run, or go on with it; whether it ended well."""
        if not all(map(is_done, task.needs)):
            print(f"{task.name}: not run, what it needs is not done", flush=True)
            return False
        self._runner = Runner(self._machine, patience=self._patience)
        try:
            return not self._runner.run([task], lock_of(task), _LEASE)
        except KeyboardInterrupt:
            # SIGTERM, and the run has its checkpoint. Somebody else needs the node, and SLURM puts
            # this job back itself once it has ended it; or it is cancelled, and shall not return.
            while True:
                time.sleep(60)

    def checkpoint(self, task: Task) -> Any:
        """SLURM warns: end the run, with a checkpoint, and go on in another job."""
        from submitit.helpers import DelayedSubmission

        if self._runner is not None:
            self._runner.stop()
        return DelayedSubmission(self, task)


def submit(
    tasks: Sequence[Task], machine: Machine, allocation: Allocation, out: PathLike, name: str
) -> List[str]:
    """Submit what is neither done nor in the queue, as jobs of a name; a line about each task."""
    try:
        from submitit.slurm.slurm import SlurmJobEnvironment
    except ImportError:
        raise ValueError(
            "SLURM is reached through submitit: pip install -r requirements-cluster.txt"
        ) from None
    SlurmJobEnvironment.USR_SIG = _WARNING
    out = Path(out)
    with locked(out / LOCK):
        jobs = known_jobs(out)
        queue = queued(jobs.values())
        states = {task: _state(task, jobs.get(task.name), queue) for task in tasks}
        missing = [
            task for task, state in states.items() if state.split(":")[0] in ("missing", "failed")
        ]
        job = Job(machine, allocation.gpus, allocation.grace)
        for waits, array in _arrays(missing, jobs, allocation.max_running is not None):
            numbers = _submit(job, array, waits, allocation, out / _LOGS, name)
            for task, number in zip(array, numbers):
                jobs[task.name] = number
                again = "" if states[task] == "missing" else f"{states[task]}; "
                states[task] = f"{again}submitted, job {number}"
            write_json(out / JOBS, jobs)
    return [f"{task.name}: {state}" for task, state in states.items()]


def _arrays(
    tasks: Sequence[Task], jobs: Mapping[str, str], in_turn: bool
) -> Iterator[Tuple[FrozenSet[str], List[Task]]]:
    """Runs, and the jobs that they wait for: of what they need, or, `in_turn`, all of before.

    SLURM has a limit for the jobs of an array that run at a time, and none for those of several.
    What runs need is among `jobs` by the time it is asked.
    """
    before: FrozenSet[str] = frozenset()
    while tasks:
        arrays: Dict[FrozenSet[str], List[Task]] = {}
        for task in tasks:
            if not set(task.needs) & set(tasks):
                waits = frozenset(jobs[need.name] for need in task.needs if not is_done(need))
                arrays.setdefault(frozenset() if in_turn else waits, []).append(task)
        for waits, array in arrays.items():
            yield before | waits, array
            if in_turn:
                before = frozenset(jobs[task.name] for task in array)
        tasks = [task for task in tasks if set(task.needs) & set(tasks)]


def _submit(
    job: Job,
    array: Sequence[Task],
    waits: FrozenSet[str],
    allocation: Allocation,
    logs: Path,
    name: str,
) -> List[str]:
    """The numbers of the jobs of an array that starts when others have ended."""
    import submitit

    after = {"slurm_dependency": "afterany:" + ":".join(sorted(waits))} if waits else {}
    try:
        # However often a run is put back, it goes on.
        executor = submitit.AutoExecutor(
            folder=logs, cluster="slurm", slurm_max_num_timeout=10**6, slurm_python=_PYTHON
        )
        executor.update_parameters(name=name, **allocation.parameters(), **after)
        return [submitted.job_id for submitted in executor.map_array(job, array)]
    except RuntimeError as error:  # there is no SLURM here, or it refuses
        raise ValueError(f"SLURM: {' '.join(str(error).split())}") from None


def known_jobs(out: PathLike) -> Dict[str, str]:
    """The last job of each run by the names of the tasks; empty before the first."""
    path = Path(out) / JOBS
    if not path.exists():
        return {}
    jobs = read_json(path)
    if not isinstance(jobs, dict) or not all(isinstance(job, str) for job in jobs.values()):
        raise ValueError(f"{path} is damaged: see squeue, and remove it when no job is left")
    return jobs


def queued(jobs: Any) -> Mapping[str, str]:
    """The state of those jobs that SLURM still has in its queue, and why one is held."""
    jobs = sorted(set(jobs))
    if not jobs:
        return {}
    command = ["squeue", "--noheader", "--array", "--all", "--format=%i %T %r"]
    command.append(f"--user={os.getuid()}")
    # A user's own filters would hide jobs.
    shown = {name: text for name, text in os.environ.items() if not name.startswith("SQUEUE_")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=shown)
    except FileNotFoundError:
        raise ValueError("there is no squeue here, which knows what is being run") from None
    if done.returncode:
        raise ValueError(f"squeue failed, so nothing was submitted: {done.stderr.strip()}")
    rows = [line.split(None, 2) for line in done.stdout.splitlines()]
    return {
        job: f"held ({why.strip()}; scontrol release {job})"
        if "held" in why.lower()
        else state.lower()
        for job, state, why in (row for row in rows if len(row) == 3)
        if job in jobs
    }


def _state(task: Task, job: Optional[str], queue: Mapping[str, str]) -> str:
    if is_done(task):
        return "done"
    if job is not None and job in queue:
        return f"{queue[job]}, job {job}"
    record = record_of(task)
    if record.get("status") == "failed":
        return f"failed: {record.get('last_line')}"
    return "missing" if job is None else f"failed: job {job} ended before it was done"


def refuse_queued(tasks: Sequence[Task], out: PathLike) -> None:
    """Refuse to run here what SLURM has in its queue."""
    jobs = known_jobs(out)
    wanted = [jobs[task.name] for task in tasks if task.name in jobs and not is_done(task)]
    queue = queued(wanted)
    if queue:
        raise ValueError(f"{len(queue)} runs of {out} are jobs of SLURM: see squeue")
