"""Experiments and searches on a real SLURM, started here: `make test-cluster`."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dsonas_mx.experiments import files
from dsonas_mx.experiments.cluster import Allocation, known_jobs, queued, submit
from dsonas_mx.experiments.experiment import STAGES
from dsonas_mx.experiments.runner import Machine, is_done, record_of

import pytest
from slurm import Cluster, missing

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(missing()), reason=f"no {missing()}")]
ROOT = Path(__file__).resolve().parents[2]

# A run that takes --steps tenths of a second, goes on from its checkpoint, and notes its starts.
SCRIPT = """
import argparse, json, os, pathlib, signal, sys, time
parser = argparse.ArgumentParser()
for name in ("save-dir", "seed", "steps", "gpus", "architecture"):
    parser.add_argument(f"--{name}")
parser.add_argument("--resume", action="store_true")
options = parser.parse_args()
folder = pathlib.Path(options.save_dir)
folder.mkdir(exist_ok=options.resume, parents=True)
with open(folder / "starts", "a") as file:
    print(*map(os.environ.get, ("SLURM_JOB_ID", "SLURMD_NODENAME", "OMP_NUM_THREADS")), file=file)
checkpoint = folder / "checkpoint"
done = int(checkpoint.read_text()) if checkpoint.exists() else 0
def end(number, frame):
    checkpoint.write_text(str(done))
    print("ended with a checkpoint at", done, flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGUSR1, end)
while done < int(options.steps):
    time.sleep(0.1)
    done += 1
    if done % 10 == 0:
        checkpoint.write_text(str(done))
(folder / "architecture.json").write_text("{}")
(folder / "result.json").write_text(json.dumps({"test_error": 0.5, "steps": done}))
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of two processors each."""
    pytest.importorskip("submitit")
    started = Cluster(Path(tempfile.mkdtemp(prefix="slurm")))
    before = dict(os.environ)
    try:
        started.start()
        os.environ.update(started.environment)
        yield started
    finally:
        started.stop()
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(started.folder)


@pytest.fixture
def tasks(tmp_path):
    """`tasks(steps, seeds)`: searches and trainings of one row, in a folder of their own."""

    def made(steps, seeds, train=5):
        data = {
            "name": "test",
            "data_set": "cifar",
            "seeds": list(seeds),
            "reference": "searched",
            "search": {"steps": steps},
            "train": {"steps": train},
            "rows": {"searched": {"search": {}}},
            "scales": {"small": {}},
        }
        return files.from_json(data, "small").tasks(tmp_path / "out")

    return made


@pytest.fixture
def send(cluster, tmp_path):
    """`send(tasks, **allocation)`: submit what is missing."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    machine = Machine({stage: script for stage in STAGES})

    def submitted(tasks, **options):
        options = {"time": "5", "cpus": 1, "grace": 15, **options}
        return submit(tasks, machine, Allocation(**options), tmp_path / "out", "test")

    return submitted


def wait(ready, seconds=240):
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.3)


def starts(task):
    path = task.folder / "starts"
    return path.read_text().splitlines() if path.exists() else []


def job_of(task):
    return known_jobs(task.folder.parents[2])[task.name]


def test_an_array_runs_two_at_a_time_and_never_twice(tasks, send):
    wanted = tasks(30, range(3))
    said = send(wanted, max_running=2)
    assert all(": submitted, job " in line for line in said)
    most = 0
    while not all(map(is_done, wanted)):
        running = [*queued([job_of(task) for task in wanted]).values()]
        most = max(most, running.count("running"))
        assert not any("submitted" in line for line in send(wanted, max_running=2))
        time.sleep(0.5)
    assert most == 2
    assert [len(starts(task)) for task in wanted] == [1] * 6
    assert {starts(task)[0].split()[2] for task in wanted} == {"1"}, "threads, as cpus"
    assert {line.rsplit(": ")[-1] for line in send(wanted)} == {"done"}


@pytest.mark.parametrize("how", ["signal", "time limit", "preempted"])
def test_a_run_that_has_to_go_writes_a_checkpoint_and_goes_on(how, tasks, send, cluster):
    limit = how == "time limit"
    wanted = [task for task in tasks(1000 if limit else 60, [0]) if task.stage == "search"]
    # SLURM may warn up to a minute before it has to.
    send(wanted, time="2" if limit else "5", grace=20)
    wait(lambda: starts(wanted[0]))
    if how == "signal":
        time.sleep(2)
        cluster.run("scancel", "--signal=USR1", job_of(wanted[0]))
    if how == "preempted":  # SIGTERM, and at the end of the grace SLURM puts it back
        time.sleep(2)
        cluster.run("scancel", "--signal=TERM", job_of(wanted[0]))
        wait(lambda: record_of(wanted[0])["status"] == "cut off")
        assert queued([job_of(wanted[0])]) == {job_of(wanted[0]): "running"}
        cluster.run("scontrol", "requeue", job_of(wanted[0]))
    wait(lambda: is_done(wanted[0]))
    log = wanted[0].folder.with_name(f"{wanted[0].folder.name}.log").read_text()
    assert "ended with a checkpoint at" in log
    assert len(starts(wanted[0])) >= 2
    assert record_of(wanted[0])["hours"] * 3600 > (60 if limit else 5)


def test_a_node_that_fails_costs_what_followed_the_last_checkpoint(tasks, send, cluster):
    wanted = [task for task in tasks(100, [0]) if task.stage == "search"]
    send(wanted)
    wait(lambda: starts(wanted[0]))
    time.sleep(3)
    node = starts(wanted[0])[0].split()[1]
    cluster.fail(node)
    try:
        wait(lambda: is_done(wanted[0]))
    finally:
        cluster.mend(node)
    assert len(starts(wanted[0])) == 2
    assert starts(wanted[0])[1].split()[1] != node


def test_the_controller_may_die(tasks, send, cluster):
    wanted = [task for task in tasks(60, range(3)) if task.stage == "search"]
    send(wanted)
    wait(lambda: starts(wanted[0]))
    cluster.kill("slurmctld")
    time.sleep(2)
    with pytest.raises(ValueError, match="squeue failed, so nothing was submitted"):
        send(wanted)
    cluster.start_controller()
    wait(lambda: all(map(is_done, wanted)))
    assert [len(starts(task)) for task in wanted] == [1] * 3


def test_what_fails_is_said_and_submitted_again(tasks, send, tmp_path):
    wanted = tasks(1, [0])
    (tmp_path / "script.py").write_text("raise SystemExit('no luck')")
    send(wanted)
    wait(lambda: not queued([job_of(task) for task in wanted]))
    assert record_of(wanted[0])["last_line"] == "no luck"
    assert not is_done(wanted[1])  # it was not run without what it needs
    (tmp_path / "script.py").write_text(SCRIPT)
    said = send(wanted)
    assert all("submitted" in line for line in said)
    assert said[0].startswith(f"{wanted[0].name}: failed: no luck; submitted, job ")
    wait(lambda: all(map(is_done, wanted)))


def test_what_slurm_refuses_is_one_line(tasks, send):
    with pytest.raises(ValueError, match=r"^SLURM: [^\n]*nowhere"):
        send(tasks(1, [0]), partition="nowhere")


def test_the_command(cluster, tmp_path):
    """Of a real search and training, on embedded images."""
    data = {
        "name": "mine",
        "data_set": "cifar",
        "seeds": [0],
        "reference": "searched",
        "search": {
            "demo": True,
            "width": 2,
            "levels": 1,
            "operations": "max,avg",
            "gamma": 0.01,
            "batch-size": 500,
            "pretrain-epochs": 0,
            "num-epochs": 1,
        },
        "train": {"demo": True, "width": 2, "batch-size": 500, "num-epochs": 1},
        "rows": {"searched": {"search": {}}},
        "scales": {"small": {}},
    }
    (tmp_path / "mine.json").write_text(json.dumps(data))
    command = [sys.executable, str(ROOT / "tools/run_experiment.py"), str(tmp_path / "mine.json")]
    command += ["--out", str(tmp_path / "out/small")]
    slurm = [*command, "--slurm", "--cpus-per-run", "1", "--time", "10"]

    def run(words):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run(slurm).count("submitted, job") == 2
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "are jobs of SLURM" in refused.stderr
    wait(lambda: not queued(known_jobs(tmp_path / "out/small").values()))
    assert run(slurm).count(": done") == 2
    assert "| searched |" in run([*command, "--collect"])


SEARCH = (
    "train/search_cifar.py --demo --width 2 --levels 1 --operations max,avg --batch-size 500 "
    "--pretrain-epochs 1 --num-epochs 2 --gamma 0.01 --shrink-every 1"
).split()


@pytest.fixture
def batch(cluster, tmp_path):
    """`batch(nodes, *command)`: submit a command for so many nodes; the number of its job."""

    def submitted(nodes, *command, options=()):
        words = ["sbatch", "--parsable", f"--nodes={nodes}", "--requeue", *options]
        words += [f"--output={tmp_path}/job.log", "--open-mode=append", "--wrap"]
        line = "exec " + " ".join([sys.executable, *map(str, command)])
        done = subprocess.run([*words, line], capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return submitted


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of that search by one process with two devices."""
    folder = tmp_path_factory.mktemp("search") / "alone"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *SEARCH, "--cpus", "2", "--save-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def ends_as(alone, job, folder):
    wait(lambda: not queued([job]))
    for name in ("architecture.json", "metrics.csv", "lambdas.csv", "model.params"):
        assert (folder / name).exists(), (folder.parent / "job.log").read_text()
        assert (folder / name).read_bytes() == (alone / name).read_bytes(), name


def test_a_search_over_two_nodes_is_that_of_two_devices(batch, alone, tmp_path):
    words = [*SEARCH, "--kv-store", "dist_sync", "--save-dir", tmp_path / "nodes"]
    job = batch(2, "tools/launch.py", "--slurm", sys.executable, *words)
    ends_as(alone, job, tmp_path / "nodes")


def test_a_node_of_a_search_dies(batch, alone, cluster, tmp_path):
    words = [*SEARCH, "--kv-store", "dist_sync", "--save-dir", tmp_path / "nodes"]
    job = batch(2, "tools/launch.py", "--slurm", sys.executable, *words)
    metrics = tmp_path / "nodes/metrics.csv"
    wait(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 1)
    cluster.fail("n2", told=False)  # it is the launcher that notices
    end = time.monotonic() + 30
    while queued([job]).get(job) == "running":
        assert time.monotonic() < end
        time.sleep(0.2)
    cluster.mend("n2")
    ends_as(alone, job, tmp_path / "nodes")
    assert "this job goes back into the queue" in (tmp_path / "job.log").read_text()
    assert "going on from" in (tmp_path / "nodes/log.txt").read_text()


def test_a_search_that_meets_its_time_limit_goes_on(batch, cluster, alone, tmp_path):
    """Warned as docs/cluster.md has it; here by hand, for SLURM's limits are minutes."""
    words = [*SEARCH, "--kv-store", "dist_sync", "--save-dir", tmp_path / "nodes"]
    job = batch(2, "tools/launch.py", "--slurm", sys.executable, *words)
    metrics = tmp_path / "nodes/metrics.csv"
    wait(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 1)
    cluster.run("scancel", "--batch", "--signal=USR1", job)
    ends_as(alone, job, tmp_path / "nodes")
    assert "going on from" in (tmp_path / "nodes/log.txt").read_text()


def test_a_search_that_is_refused_stays_out_of_the_queue(batch, cluster, tmp_path):
    words = [
        *SEARCH,
        "--kv-store",
        "dist_sync",
        "--save-dir",
        tmp_path / "nodes",
        "--split",
        "half",
    ]
    job = batch(2, "tools/launch.py", "--slurm", sys.executable, *words)
    wait(lambda: not queued([job]))
    log = (tmp_path / "job.log").read_text()
    assert "--split must be as 4:1" in log and "the job ends" in log
    assert "goes back" not in log
