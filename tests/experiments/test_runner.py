"""Running what is missing, with scripts that only pretend; and what comes out as results."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.cost.count import count
from dsonas_mx.experiments import files, results, runner
from dsonas_mx.experiments.experiment import STAGES
from dsonas_mx.experiments.runner import LOCK, Machine, Runner
from dsonas_mx.search.budget import flops_by_block

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Its errors depend on the seed; with --wd 1 it fails, with --lr 1 it lasts.
SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
words = sys.argv[1:]
options = dict(zip(words[::2], words[1::2]))
folder = Path(options["--save-dir"])
folder.mkdir(exist_ok="--resume" in words)
if options.get("--lr") == "1":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell
(folder / "started").write_text(str(os.getpid()))
if options.get("--lr") == "1":
    time.sleep(60)
if options.get("--wd") == "1":
    sys.exit("it went wrong")
environment = {"commit": "c", "machine": "m", "threads": os.environ["OMP_NUM_THREADS"]}
(folder / "args.json").write_text(json.dumps({"environment": environment, "words": words}))
text = ARCHITECTURE
(folder / "architecture.json").write_text(text)
names = ["epoch", "1.sep3->output", "1.sep5->output", "1.max->output", "1.avg->output"]
scales = ([epoch] + [1 + epoch * i for i in range(4)] for epoch in range(3))
rows = [names, *([str(value) for value in row] for row in scales)]
(folder / "lambdas.csv").write_text("".join(",".join(row) + chr(10) for row in rows))
size = {"parameters": 1000 + 10 * ("--random" in options), "connections": 2, "multiply_adds": 3}
error = 0.1 * int(options["--seed"]) ** 2 + 0.1 * ("--random" in options)
(folder / "result.json").write_text(json.dumps({"test_error": error, **size}))
print("fine")
"""
DATA = {
    "name": "some",
    "data_set": "cifar",
    "seeds": [0, 1, 2],
    "reference": "found",
    "rows": {
        "found": {"search": {}},
        "random": {"of": "found", "train": {"random": "share"}},
    },
    "scales": {"small": {}},
}


@pytest.fixture
def scripts(tmp_path):
    architecture = Architecture.complete(SearchSpace(levels=1, blocks=(1,), width=4))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("ARCHITECTURE", repr(json.dumps(architecture.to_json()))))
    return {stage: script for stage in STAGES}


@pytest.fixture
def run(scripts, tmp_path):
    """`run(data, jobs=1, seeds=None)` → tasks, failed tasks, lines said."""

    def runs(data=DATA, jobs=1, seeds=None):
        tasks = files.from_json(data, "small").tasks(tmp_path / "out", seeds)
        lines = []
        runner.check_options(tasks)
        failed = Runner(Machine(scripts, jobs=jobs), lines.append).run(
            tasks, tmp_path / "out" / LOCK
        )
        return tasks, failed, lines

    return runs


@pytest.mark.parametrize(
    "gpus, jobs, message",
    [
        ("0,", 2, "`gpus` must be numbers such as 0,1, got '0,'"),
        ("0, ", 2, "`gpus` must be numbers such as 0,1, got '0, '"),
        ("a", 1, "`gpus` must be numbers such as 0,1, got 'a'"),
        ("0,0", 2, "`gpus` must name each GPU once, got '0,0'"),
        ("0,-1", 2, "`gpus` must name each GPU once, got '0,-1'"),
        ("0,1", 3, "3 jobs need as many GPUs, got 0,1"),
    ],
)
def test_gpus_that_jobs_cannot_share(scripts, gpus, jobs, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Machine(scripts, jobs=jobs, gpus=gpus)


@pytest.mark.parametrize("gpus, shares", [("0, 1", ["0", "1"]), ("2,0,1", ["2,1", "0"])])
def test_each_job_has_gpus_of_its_own(scripts, tmp_path, gpus, shares):
    task = files.from_json(DATA, "small").tasks(tmp_path / "out")[0]
    machine = Machine(scripts, jobs=2, gpus=gpus)
    commands = [machine.command(task, slot) for slot in (0, 1)]
    assert [words[words.index("--gpus") + 1] for words in commands] == shares


def test_blank_gpus_are_the_cpu(scripts, tmp_path):
    task = files.from_json(DATA, "small").tasks(tmp_path / "out")[0]
    assert "--gpus" not in Machine(scripts, jobs=2, gpus=" ").command(task, 1)


def with_options(**rows):
    return {**DATA, "rows": {**DATA["rows"], **rows}}


def test_only_what_is_missing_is_run(run):
    tasks, failed, lines = run(seeds=[0])
    assert not failed and len(lines) == len(tasks) == 3
    assert all(runner.is_done(task) for task in tasks)
    assert lines[0].startswith("[1/3] seed 0, found, search") and lines[0].endswith("fine")
    tasks, failed, lines = run(jobs=2)
    assert not failed and len(lines) == 6
    assert not any("seed 0" in line for line in lines)
    assert run()[2] == []


def test_a_removed_search_takes_its_trainings_along(run):
    tasks, _, _ = run(seeds=[0])
    (tasks[0].folder / "architecture.json").unlink()
    assert len(run(seeds=[0])[2]) == 3


def test_a_run_that_was_cut_off_goes_on(run):
    tasks, _, _ = run(seeds=[0])
    (tasks[1].folder / "result.json").unlink()
    record = tasks[1].folder.with_name("train.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "hours": 2.0}))
    assert len(run(seeds=[0])[2]) == 1
    words = json.loads((tasks[1].folder / "args.json").read_text())["words"]
    assert words[-1] == "--resume"
    assert 2 < runner.record_of(tasks[1])["hours"] < 2.1  # of all its parts
    words = json.loads((tasks[2].folder / "args.json").read_text())["words"]
    assert "--resume" not in words


def test_other_options_are_not_mixed(run, tmp_path):
    run(seeds=[0])
    with pytest.raises(ValueError, match="seed0/search was run with another gamma: remove it"):
        run({**DATA, "search": {"gamma": 1}}, seeds=[0])


def test_a_failed_run_does_not_stop_the_others(run):
    data = with_options(bad={"search": {"wd": 1}})
    tasks, failed, lines = run(data, jobs=2, seeds=[0])
    assert [task.name for task in failed] == ["seed 0, bad, search", "seed 0, bad, train"]
    assert sum(runner.is_done(task) for task in tasks) == 3
    (line,) = [line for line in lines if "status" in line]
    assert "bad, search" in line and line.endswith("failed with status 1: it went wrong")
    assert "seed 0, bad, train: not run, what it needs failed" in lines
    found = results.collect(files.from_json(data, "small"), tasks)
    assert found["rows"]["bad"]["failed"] == found["rows"]["bad"]["missing"] == [0]
    assert run(data, seeds=[0])[1] == failed  # and is tried again


def test_cores_and_gpus_are_divided(scripts, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    task = files.from_json(DATA, "small").tasks("out")[0]
    machine = Machine(scripts, {"search": "data"}, jobs=3, gpus="0,1,2,3")
    assert machine.threads == 2
    for slot, gpus in enumerate(("0,3", "1", "2")):
        words = machine.command(task, slot)[1:]
        assert words[:4] == ["--data-dir", "data", "--gpus", gpus]
    assert Machine(scripts, jobs=20).threads == 1
    with pytest.raises(ValueError, match="jobs must be at least 1"):
        Machine(scripts, jobs=0)
    with pytest.raises(ValueError, match="2 jobs need as many GPUs"):
        Machine(scripts, jobs=2, gpus="0")


def test_an_interrupt_ends_the_processes(run, tmp_path):
    folder = tmp_path / "out/slow/seed0/search"

    def interrupt():
        while not (folder / "started").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    data = {**DATA, "reference": "slow", "rows": {"slow": {"search": {"lr": 1}}}}
    with pytest.raises(KeyboardInterrupt):
        run(data, seeds=[0])
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "started").read_text()), 0)
    record = json.loads(folder.with_name("search.json").read_text())
    assert record["status"] == "cut off" and 0 < record["hours"] < runner.PATIENCE / 3600


def test_two_at_once_are_refused(run, scripts, tmp_path):
    """Also when only the process of a run is left of the first."""
    (tmp_path / "out").mkdir()
    with runner.locked(tmp_path / "out" / LOCK) as lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, pass_fds=[lock])
    try:
        with pytest.raises(ValueError, match="made already"):
            run()
    finally:
        child.communicate(b"\n")
    assert not run(seeds=[0])[1]


# Results


def test_columns_of_what_was_found(run):
    data = {**DATA, "columns": ["memory_access", "flops_spread"]}
    tasks, _, _ = run(data, seeds=[0])
    results_of = results.collect(files.from_json(data, "small"), tasks)
    found = Architecture.load(tasks[0].folder / "architecture.json")
    row = results_of["rows"]["found"]
    assert row["memory_access"]["values"] == [count(found).memory_access]
    blocks = flops_by_block(found)
    assert row["flops_spread"]["mean"] == pytest.approx(blocks.std() / blocks.mean())
    heading, rule, first = results.table(results_of).splitlines()[2:5]
    assert "| MAC, M | spread of FLOPs over blocks |" in heading
    assert heading.count("|") == rule.count("|") == first.count("|")
    with pytest.raises(ValueError, match="columns must be multiply_adds or memory_access or"):
        files.from_json({**DATA, "columns": ["speed"]}, "small")


def test_results(run):
    tasks, _, _ = run(jobs=2)
    found = results.collect(files.from_json(DATA, "small"), tasks)
    row = found["rows"]["random"]
    assert row["n"] == 3 and row["seeds"] == [0, 1, 2] and row["missing"] == []
    assert row["test_error"]["mean"] == pytest.approx((0.1 + 0.2 + 0.5) / 3)
    # Squares of 0.8/3 − (0.1, 0.2, 0.5), over n − 1.
    assert row["test_error"]["std"] == pytest.approx(0.2081666)
    assert row["width"]["values"] == [4, 4, 4]
    assert set(found["rows"]["found"]["hours"]) == {"search", "train"}
    assert set(row["hours"]) == {"train"}
    assert found["commits"] == ["c"] and found["machines"] == ["m"]
    assert found["runs_done"] == found["runs"] == 9
    hours = [runner.record_of(task)["hours"] for task in tasks]
    assert found["hours"] == pytest.approx(sum(hours)) and min(hours) > 0
    assert list(found["comparisons"]) == ["random"]
    versus = found["comparisons"]["random"]
    assert versus["n"] == 3 and versus["reference"] == "found"
    assert versus["error_difference"]["mean"] == pytest.approx(0.1)
    assert versus["parameters_difference"]["values"] == [pytest.approx(0.01)] * 3
    assert found["note"] == "" and results.table({**found, "note": "It shows."}).split("\n")[
        2:4
    ] == [
        "It shows.",
        "",
    ]
    text = results.table(found)
    assert "| random | 26.67 ± 20.82 | 3 | 1,010 ± 0 | 4.0 ± 0.0 | 2.0 ± 0.0 | – |" in text
    assert "| random | found | +10.00 ± 0.00 | – | – | – | +1.0 ± 0.0 | 3 |" in text
    assert row["agreement"] is None  # it has no search of its own
    alike = found["rows"]["found"]["agreement"]
    assert alike["n"] == 3 and alike["jaccard"]["mean"] == 1
    assert [epoch["mean"] for epoch in alike["spearman"]] == pytest.approx([1, 1])
    assert "| found | 3 | 1.00 (1.00 to 1.00) | 1.00 | 1.00 (-0.65 to 0.65) |" in text
    assert "9 of 9 runs done" in text
    json.dumps(found, allow_nan=False)


def test_the_best_of_some_candidates(run):
    """They come first, with seeds of their own; the training has that of the least error."""
    candidates = {"number": 3, "train": {"validation": 5, "num-epochs": 1}}
    row = {"of": "found", "train": {"random": "share", "period": 7}, "candidates": candidates}
    data = with_options(best=row)
    tasks, failed, lines = run(data, jobs=2)
    assert not failed and len(lines) == 3 * 7
    own = [task for task in tasks if task.row == "best" and task.seed == 1]
    assert [task.folder.name for task in own] == [f"candidate{i}" for i in range(3)] + ["train"]
    words = [json.loads((task.folder / "args.json").read_text())["words"] for task in own]
    options = [dict(zip(line[::2], line[1::2])) for line in words]
    # Errors grow with the seed, so the first is the best of them.
    assert [line["--seed"] for line in options] == ["2000", "2001", "2002", "2000"]
    assert [line.get("--validation") for line in options] == ["5", "5", "5", None]
    assert {line["--period"] for line in options} == {"7"}
    found = results.collect(files.from_json(data, "small"), tasks)["rows"]["best"]
    assert found["n"] == 3 and found["test_error"]["values"][1] == pytest.approx(
        0.1 * 2000**2 + 0.1
    )
    assert (
        list(found["hours"]) == ["search", "train"] and len(found["hours"]["search"]["values"]) == 3
    )
    sums = [sum(runner.record_of(t)["hours"] for t in own if t.chooses)]
    assert found["hours"]["search"]["values"][1:2] == pytest.approx(sums)


def test_a_candidate_that_failed(run):
    row = {"of": "found", "candidates": {"number": 2, "train": {"validation": 5, "wd": 1}}}
    _, failed, lines = run(with_options(best=row), seeds=[0])
    assert {task.folder.name for task in failed} == {"candidate0", "candidate1", "train"}
    assert "seed 0, best, train: not run, what it needs failed" in lines


def test_time_of_processors_is_added_up(run, scripts):
    text = scripts["train"].read_text()
    scripts["train"].write_text(f"sum(i * i for i in range(2_000_000))\n{text}")
    tasks, _, _ = run(seeds=[0], jobs=2)
    hours = [runner.record_of(task)["processor_hours"] for task in tasks]
    assert all(0.01 < 3600 * hour < 60 for hour in hours)
    (tasks[1].folder / "result.json").unlink()
    run(seeds=[0])
    assert runner.record_of(tasks[1])["processor_hours"] > 1.2 * hours[1]


def test_fewer_seeds_are_reported_as_such(run):
    run(seeds=[1])
    tasks = files.from_json(DATA, "small").tasks(run(seeds=[1])[0][0].folder.parents[2])
    found = results.collect(files.from_json(DATA, "small"), tasks)
    assert found["rows"]["found"]["n"] == 1
    assert found["rows"]["found"]["test_error"]["std"] is None
    assert found["rows"]["found"]["missing"] == [0, 2]
    versus = found["comparisons"]["random"]
    assert versus["n"] == 1 and versus["error_difference"]["std"] is None
    assert versus["low"] is versus["high"] is versus["detectable"] is None
    assert found["rows"]["found"]["agreement"] is None
    assert "| found | 10.00 | 1 |" in results.table(found)


def test_results_have_the_seeds_that_are_not_run(run, script, tmp_path):
    run()
    path = tmp_path / "some.json"
    path.write_text(json.dumps(DATA))
    out = tmp_path / "out"
    words = (path, "--scale", "small", "--data-dir", tmp_path, "--out", out)
    status, said, _ = script("tools/run_experiment.py", *words, "--seeds", "1")
    assert status == 0 and "9 of 9 runs done" in said
    assert json.loads((out / "results.json").read_text())["rows"]["random"]["seeds"] == [0, 1, 2]
