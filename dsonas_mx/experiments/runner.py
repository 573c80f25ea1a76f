"""Run what is missing of an experiment, each run in a process of its own.

Beside each run folder lie ``<stage>.log``, what the process printed, and ``<stage>.json``, the
record of how it ended. A run that ended well is never run again; one that did not goes on from its
newest checkpoint.
"""

import fcntl
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, List, Mapping, Sequence

from .._compat import usable_cpus
from ..engine.device import gpu_numbers
from ..io.files import PathLike, read_json, read_regular, without_waiting, write_json
from .experiment import RESULT, Task, words

PATIENCE = 20  # seconds that a terminated process has to end by itself
LOCK = ".lock"  # in the folder of an experiment
_MOST_BYTES = 2**40  # of a log
_HOURS = ("hours", "processor_hours")  # of a record


@dataclass(frozen=True)
class Machine:
    """Where and how the runs are made; none of it changes what they are asked for.

    Parameters
    ----------
    scripts : mapping of stage to Path
        The script of each stage.
    data_dirs : mapping of stage to str
        The data folder of each stage that has one.
    jobs : int
        Runs at a time; each gets its share of the cores.
    gpus : str
        As ``'0,1'``; each of the runs at a time gets its share, one at least. Empty for the CPU.

    Raises
    ------
    ValueError
        No jobs, more of them than GPUs, or a list of GPUs that is none.
    """

    scripts: Mapping[str, Path]
    data_dirs: Mapping[str, str] = field(default_factory=dict)
    jobs: int = 1
    gpus: str = ""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {self.jobs}")
        gpus = gpu_numbers(self.gpus)
        if gpus and len(gpus) < self.jobs:
            raise ValueError(f"{self.jobs} jobs need as many GPUs, got {self.gpus}")

    @property
    def threads(self) -> int:
        """OMP_NUM_THREADS of each run."""
        cpus = int(usable_cpus())
        asked = os.environ.get("SLURM_CPUS_PER_TASK", "")  # not all clusters confine a job to them
        return max(1, (min(cpus, int(asked)) if asked.isdigit() else cpus) // self.jobs)

    def command(self, task: Task, slot: int = 0) -> List[str]:
        """The words of a run, after the interpreter; `slot` counts the runs at a time."""
        devices: Dict[str, Any] = {}
        if task.stage in self.data_dirs:
            devices["data-dir"] = self.data_dirs[task.stage]
        gpus = gpu_numbers(self.gpus)
        if gpus:
            devices["gpus"] = ",".join(map(str, gpus[slot :: self.jobs]))
        return [str(self.scripts[task.stage]), *words(devices), *task.words()]

    def shown(self, task: Task) -> str:
        """The command of a run, for a shell; "$CIFAR_DIR" stands for a data folder not given."""
        words = self.command(task)
        data = ""
        if task.stage not in self.data_dirs and not task.is_embedded:
            name = self.scripts[task.stage].stem.split("_")[-1].upper()
            data = f' --data-dir "${name}_DIR"'
        return f"OMP_NUM_THREADS={self.threads} python {shlex.join(words)}{data}"


# How runs ended


def record_of(task: Task) -> Dict[str, Any]:
    """How a run ended: options, status, hours of clock and processors; empty if it never did."""
    try:
        record = read_json(_beside(task, "json"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def is_done(task: Task) -> bool:
    """Whether a run, and what it needs, ended well."""
    return (
        record_of(task).get("status") == "done"
        and (task.folder / RESULT[task.stage]).is_file()
        and all(map(is_done, task.needs))
    )


def check_options(tasks: Sequence[Task]) -> None:
    """Refuse to mix finished runs of other options with those that are wanted."""
    for task in tasks:
        before = record_of(task).get("options", task.options)
        if before == task.options or not is_done(task):
            continue
        names = [n for n in {**before, **task.options} if before.get(n) != task.options.get(n)]
        raise ValueError(
            f"{task.folder} was run with another {', '.join(names)}: remove it, or give another "
            "`out`"
        )


def lock_of(task: Task) -> Path:
    """The lock of one run, where each is made by itself."""
    return _beside(task, "lock")


def _beside(task: Task, suffix: str) -> Path:
    return task.folder.with_name(f"{task.folder.name}.{suffix}")


# Running


@dataclass
class _Child:
    task: Task
    slot: int
    process: subprocess.Popen
    start: float  # earlier, if it has run before
    log: IO[bytes]
    processor_hours: float  # of what has ended of it


@dataclass(eq=False)
class Runner:
    """Runs tasks, several at a time, until all are done or have failed.

    Parameters
    ----------
    machine : Machine
    say : callable
        Gets a line about every run that ends.
    ended : callable
        Called after each of them.
    patience : float
        Seconds that a run has for its checkpoint when it is stopped.
    """

    machine: Machine
    say: Callable[[str], None] = print
    ended: Callable[[], Any] = lambda: None
    patience: float = PATIENCE
    _running: List[_Child] = field(default_factory=list, init=False)

    def run(self, tasks: Sequence[Task], lock: PathLike, wait: float = 0.0) -> List[Task]:
        """Run what is not done yet; returns what failed, and what needed it.

        The file `lock` is held meanwhile, so that nobody else does the same; `wait` is how many
        seconds others may still have it.

        An interrupt (SIGINT, SIGTERM) ends the processes that run, too.
        """
        waiting = [task for task in tasks if not is_done(task)]
        total, failed = len(waiting), []
        with locked(Path(lock), wait) as held, _terminable():
            try:
                while waiting or self._running:
                    for child in [c for c in self._running if self._has_ended(c)]:
                        self._running.remove(child)
                        if not self._end(child, total - len(waiting) - len(self._running), total):
                            failed.append(child.task)
                        self.ended()
                    for task in [t for t in waiting if any(need in failed for need in t.needs)]:
                        waiting.remove(task)
                        failed.append(task)
                        self.say(f"{task.name}: not run, what it needs failed")
                    self._start_next(waiting, held)
                    time.sleep(0.2)
            finally:
                self.stop()
        return failed

    def _has_ended(self, child: _Child) -> bool:
        """Whether it has; then its processor time, all threads and children, is added up."""
        before = _processor_hours()
        if child.process.poll() is None:
            return False
        child.processor_hours += _processor_hours() - before  # the one that was waited for
        return True

    def _start_next(self, waiting: List[Task], lock: int) -> None:
        slots = set(range(self.machine.jobs)) - {child.slot for child in self._running}
        for slot in sorted(slots):
            ready = [task for task in waiting if all(map(is_done, task.needs))]
            if not ready:
                return
            waiting.remove(ready[0])
            self._running.append(self._start(ready[0], slot, lock))

    def _start(self, task: Task, slot: int, lock: int) -> _Child:
        task.folder.parent.mkdir(parents=True, exist_ok=True)
        resume = ["--resume"] if task.folder.exists() else []  # it was cut off
        before = record_of(task) if resume else {}
        hours = [before.get(name, 0.0) for name in _HOURS]
        _write_record(task, "started", *hours)
        log = open(_beside(task, "log"), "ab", opener=without_waiting)
        process = subprocess.Popen(
            [sys.executable, *self.machine.command(task, slot), *resume],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": str(self.machine.threads)},
            start_new_session=True,  # an interrupt comes once, from here
            pass_fds=[lock],  # it holds the lock, should this process be killed
        )
        return _Child(task, slot, process, time.time() - 3600 * hours[0], log, hours[1])

    def _end(self, child: _Child, number: int, total: int) -> bool:
        """Note and say how a process ended; whether it ended well."""
        child.log.close()
        task, status = child.task, child.process.returncode
        hours = (time.time() - child.start) / 3600
        well = status == 0 and (task.folder / RESULT[task.stage]).is_file()
        said = read_regular(_beside(task, "log"), _MOST_BYTES)
        lines = said.decode("utf-8", "replace").splitlines()
        last = lines[-1] if lines else "it printed nothing"
        _write_record(task, "done" if well else "failed", hours, child.processor_hours, last)
        state = "" if well else f"failed with status {status}: "
        self.say(f"[{number}/{total}] {task.name}, {60 * hours:.1f} min: {state}{last}")
        return well

    def stop(self) -> None:
        """End what runs, each with a checkpoint if it has the time."""
        for child in self._running:
            child.process.terminate()  # a shell's background processes ignore SIGINT
        for child in self._running:
            before = _processor_hours()
            try:
                child.process.wait(self.patience)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            child.processor_hours += _processor_hours() - before
            child.log.close()
        for child in self._running:
            hours = (time.time() - child.start) / 3600
            _write_record(child.task, "cut off", hours, child.processor_hours)
        self._running = []


def _write_record(
    task: Task, status: str, hours: float, processor_hours: float, last: str = ""
) -> None:
    took = dict(zip(_HOURS, (hours, processor_hours)))
    record = {"status": status, "options": task.options, **took, "last_line": last}
    write_json(_beside(task, "json"), record)


def _processor_hours() -> float:
    """Of all processes that ended so far and were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (usage.ru_utime + usage.ru_stime) / 3600


@contextmanager
def locked(path: Path, wait: float = 0.0) -> Iterator[int]:
    """One process at a time has the file; a run that outlives its own counts, too.

    It is waited for so many seconds: a shared file system keeps the lock of a node that died for
    a while.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + wait
    with open(path, "w", opener=without_waiting) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ValueError(
                        f"{path.parent}: its runs are being made already, by another process"
                    ) from None
            except OSError as error:
                raise ValueError(
                    f"{path.parent} is on a disk without locks ({error.strerror}), so that a run "
                    "could be made twice: have it mounted with flock, or take another folder"
                ) from None
            time.sleep(1.0)
        yield file.fileno()


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM is an interrupt, as Ctrl-C is."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
