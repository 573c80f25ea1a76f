"""What SLURM is asked for; tests/cluster has a real one."""

import fcntl
import os
import threading
from types import SimpleNamespace

from dsonas_mx.experiments import cluster
from dsonas_mx.experiments.cluster import Allocation, known_jobs, queued
from dsonas_mx.experiments.experiment import Task
from dsonas_mx.experiments.runner import Machine, locked

import pytest


@pytest.mark.parametrize(
    ("time", "minutes"),
    [
        ("90", 90),
        ("90:00", 90),
        ("90:01", 91),
        ("24:00:00", 1440),
        ("0:30:30", 31),
        ("2-0", 2880),
        ("2-12:30", 3630),
        ("1-00:00:01", 1441),
    ],
)
def test_time_is_read_as_slurm_does(time, minutes):
    assert Allocation(time).minutes == minutes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"time": "a day"}, "time must be as 90, 24:00:00 or 2-00:00:00, got 'a day'"),
        ({"time": "1:2:3:4"}, "time must be as"),
        ({"time": "5"}, "at least three times the grace of 120 s, got 5"),
        ({"grace": 5}, "grace must be at least 15, got 5"),
        ({"gpus": -1}, "gpus must be at least 0"),
    ],
)
def test_what_no_run_could_use_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Allocation(**options)


def test_sbatch_gets_what_else_is_given():
    parameters = Allocation(gpus=2, cpus=3, sbatch={"qos": "long"}).parameters()
    assert parameters["slurm_additional_parameters"] == {"requeue": True, "qos": "long"}
    assert parameters["slurm_gpus_per_node"] == 2
    assert "--cpus-per-task=3" in parameters["slurm_srun_args"]


def test_a_damaged_list_of_jobs_is_refused(tmp_path):
    assert known_jobs(tmp_path) == {}
    (tmp_path / "slurm.json").write_text('{"search": 3}')
    with pytest.raises(ValueError, match="is damaged: see squeue"):
        known_jobs(tmp_path)


@pytest.fixture
def slurm(monkeypatch):
    """What is submitted, as (what it waits for, names), and the queue, instead of a SLURM."""
    pytest.importorskip("submitit")
    submitted, queue = [], {}

    class Executor:
        def __init__(self, **options):
            self.after = None

        def update_parameters(self, slurm_dependency=None, **parameters):
            self.after = slurm_dependency

        def map_array(self, job, array):
            submitted.append((self.after, [task.name for task in array]))
            numbers = [f"{len(submitted)}_{place}" for place in range(len(array))]
            queue.update(dict.fromkeys(numbers, "pending"))
            return [SimpleNamespace(job_id=number) for number in numbers]

    monkeypatch.setattr("submitit.AutoExecutor", Executor)
    monkeypatch.setattr(cluster, "queued", lambda jobs: queue)
    return submitted, queue


@pytest.fixture
def runs(tmp_path):
    """Two searches, a training of each, and one that needs none."""
    searches = [Task("search", "a", seed, {}, tmp_path / f"a/{seed}/search") for seed in (0, 1)]
    trainings = [Task("train", "a", s.seed, {}, s.folder.with_name("train"), s) for s in searches]
    return searches, trainings, Task("train", "b", 0, {}, tmp_path / "b/0/train")


def test_arrays_wait_for_what_they_need(tmp_path, slurm, runs):
    (submitted, queue), (searches, trainings, other) = slurm, runs
    tasks = [searches[0], trainings[0], searches[1], trainings[1], other]
    lines = cluster.submit(tasks, Machine({}), Allocation(), tmp_path, "mine")
    assert submitted == [
        (None, [searches[0].name, searches[1].name, other.name]),
        ("afterany:1_0", [trainings[0].name]),
        ("afterany:1_1", [trainings[1].name]),
    ]
    numbers = ("1_0", "2_0", "1_1", "3_0", "1_2")
    named = list(zip((task.name for task in tasks), numbers))
    assert lines == [f"{name}: submitted, job {number}" for name, number in named]
    lines = cluster.submit(tasks, Machine({}), Allocation(), tmp_path, "mine")
    assert lines == [f"{name}: pending, job {number}" for name, number in named]
    assert len(submitted) == 3
    queue.clear()
    lines = cluster.submit(tasks[:1], Machine({}), Allocation(), tmp_path, "mine")
    ended = "failed: job 1_0 ended before it was done; submitted, job 4_0"
    assert lines == [f"{searches[0].name}: {ended}"]


def test_no_more_jobs_at_a_time_than_an_array_may_have(tmp_path, slurm, runs):
    (submitted, _), (searches, trainings, other) = slurm, runs
    cluster.submit(
        [*searches, *trainings, other], Machine({}), Allocation(max_running=2), tmp_path, "mine"
    )
    assert submitted == [
        (None, [searches[0].name, searches[1].name, other.name]),
        ("afterany:1_0:1_1:1_2", [trainings[0].name, trainings[1].name]),
    ]
    assert Allocation(max_running=2).parameters()["slurm_array_parallelism"] == 2
    assert "slurm_array_parallelism" not in Allocation().parameters()


def test_ones_own_filters_hide_no_job(tmp_path, monkeypatch):
    squeue = tmp_path / "squeue"
    squeue.write_text(
        '#!/bin/sh\n[ -z "$SQUEUE_STATES" ] && echo "7_0 PENDING Priority" \\\n'
        '&& echo "8_0 RUNNING None" && echo "6 PENDING launch failed requeued held"\n'
    )
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SQUEUE_STATES", "running")
    assert queued(["7_0", "9_0"]) == {"7_0": "pending"}
    why = "held (launch failed requeued held; scontrol release 6)"
    assert queued(["8_0", "6"]) == {"8_0": "running", "6": why}
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="there is no squeue here"):
        queued(["7_0"])


def test_threads_are_the_cpus_of_the_job(monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert Machine({}).threads == 1


def test_a_lock_that_is_soon_free_is_waited_for(tmp_path):
    path = tmp_path / "lock"
    with open(path, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="are being made already"), locked(path):
            pass
        later = threading.Timer(0.5, lambda: fcntl.flock(held, fcntl.LOCK_UN))
        later.start()
        with locked(path, 20):
            later.join()


def test_a_disk_without_locks_is_refused(tmp_path, monkeypatch):
    def none(*arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(ValueError, match="a disk without locks"), locked(tmp_path / "lock"):
        pass
