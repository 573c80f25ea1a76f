"""A training step beside busy processes: its speed over its fair share; idle, over spinning."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Dict, Iterator, List

from dsonas_mx import SearchSpace
from dsonas_mx._compat import WAITING, usable_cpus

BESIDE = (0, 1, 4)  # busy processes
POLICIES: Dict[str, Dict[str, str]] = {
    "ours": {},
    "bounded": {"GOMP_SPINCOUNT": "500"},
    "spinning": {"GOMP_SPINCOUNT": "300000"},  # GNU's own
}
SERVE = "import sys; sys.path[:0] = sys.argv[1:]; from bench.busy import serve; serve()"
PLACES = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]


def measure(options: argparse.Namespace) -> Dict[str, Any]:
    """Processes that wait in our way, that spin for 20 µs, and that spin, take turns.

    A process of T threads has min(1, C/(T + B)) of its speed beside B others on C cores, if it
    loses nothing. What else runs on the machine is counted as if it were not there.
    """
    rates: Dict[str, Dict[int, List[float]]] = {p: {b: [] for b in BESIDE} for p in POLICIES}
    load, cpus = os.getloadavg()[0], max(1, round(usable_cpus()))
    with ExitStack() as stack:
        stepping = {p: stack.enter_context(steps_of(policy)) for p, policy in POLICIES.items()}
        for _ in range(options.rounds):
            for beside in BESIDE:
                with busy(beside):
                    for policy, process in stepping.items():
                        if policy != "spinning" or beside < 2:  # a minute a round, for nothing new
                            rates[policy][beside].append(rate(process, options.steps))

    def share(policy: str, beside: int) -> float:
        fair = min(1, cpus / (cpus + beside))
        return over(rates[policy][beside], rates[policy][0]) / fair

    return {
        "share": {str(beside): share("ours", beside) for beside in BESIDE[1:]},
        "share_bounded": {str(beside): share("bounded", beside) for beside in BESIDE[1:]},
        "share_spinning": {"1": share("spinning", 1)},
        "idle": over(rates["ours"][0], rates["spinning"][0]),
        "idle_bounded": over(rates["bounded"][0], rates["spinning"][0]),
        "steps_s": median(rates["ours"][0]),
        "cpus": cpus,
        "load": load,
    }


def over(these: List[float], those: List[float]) -> float:
    """The median ratio of what was measured in turn."""
    return median(one / other for one, other in zip(these, those))


@contextmanager
def steps_of(policy: Dict[str, str]) -> Iterator[subprocess.Popen]:
    """A process that takes as many steps as it is told, whenever it is told."""
    kept = {k: v for k, v in os.environ.items() if k not in (*WAITING, "OMP_NUM_THREADS")}
    command = [sys.executable, "-c", SERVE, *PLACES]
    pipe, environment = subprocess.PIPE, {**kept, **policy}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True) as process:
        rate(process, 2)  # the first ones take longer
        yield process
        process.communicate()


def rate(process: subprocess.Popen, steps: int) -> float:
    """Steps a second."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{steps}\n")
    process.stdin.flush()
    return steps / float(process.stdout.readline())


def serve() -> None:
    """For each line of the input, take so many steps; print the seconds."""
    import mxnet as mx

    from .step import batch, both_steps, supernet  # with MXNet, as this process has set it up

    space = SearchSpace.cifar10(width=16, blocks=(1, 1, 1))
    take = both_steps(supernet(space, 32)[0], *batch(space, 32))
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            take()
        mx.nd.waitall()
        print(time.perf_counter() - start, flush=True)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that do nothing, as fast as they can."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.2 * bool(count))  # they start
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
