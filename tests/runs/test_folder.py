"""The run folder: what is in it, and that it is whole or not there."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from dsonas_mx import Architecture
from dsonas_mx.io import files
from dsonas_mx.io.files import atomic, write_json
from dsonas_mx.runs import folder as run
from dsonas_mx.runs.folder import Run, save_parameters
from dsonas_mx.runs.interrupted import Interrupted

import mxnet as mx
import numpy as np
import pytest


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_arguments_and_environment(tmp_path):
    folder = tmp_path / "new" / "run"
    options = {"lr": 0.1, "gpus": "", "width": None, "demo": True}
    Run(folder, options, quiet=True)
    written = json.loads((folder / "args.json").read_text())
    assert written["options"] == options
    assert written["environment"]["mxnet"] == mx.__version__
    assert written["environment"]["numpy"] == np.__version__
    assert names(folder) == ["args.json", "checkpoint"]


def test_rows_come_back_to_the_last_bit(tmp_path):
    values = [0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, float(np.float32(0.1)), -0.0, 1e-9]
    folder = Run(tmp_path / "run", {}, quiet=True)
    for epoch, value in enumerate(values):
        folder.tables.append("metrics.csv", {"epoch": epoch, "loss": value, "error": None})
        folder.tables.append("other.csv", {"x": np.float64(value), "name": "1.sep3->2.max"})
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "loss", "error"]
    assert [int(row["epoch"]) for row in rows] == list(range(len(values)))
    assert [float(row["loss"]) for row in rows] == values
    assert [row["loss"] for row in rows] == [repr(value) for value in values]
    assert {row["error"] for row in rows} == {""}
    with open(tmp_path / "run" / "other.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["x"] for row in rows] == [repr(value) for value in values]
    assert rows[0]["name"] == "1.sep3->2.max"


def test_rows_must_have_the_same_columns(tmp_path):
    folder = Run(tmp_path / "run", {}, quiet=True)
    folder.tables.append("metrics.csv", {"a": 1, "b": 2})
    for row in ({"b": 2, "a": 1}, {"a": 1}, {"a": 1, "b": 2, "c": 3}):
        with pytest.raises(ValueError, match=r"has the columns \['a', 'b'\], not"):
            folder.tables.append("metrics.csv", row)
    assert (tmp_path / "run" / "metrics.csv").read_text() == "a,b\n1,2\n"


def test_the_log(tmp_path, capsys):
    loud, quiet = Run(tmp_path / "loud", {}), Run(tmp_path / "quiet", {}, quiet=True)
    for folder in (loud, quiet):
        folder.log("λ is 0.5")
        folder.log("done")
    assert capsys.readouterr().out == "λ is 0.5\ndone\n"
    for name in ("loud", "quiet"):
        lines = (tmp_path / name / "log.txt").read_text(encoding="utf-8").splitlines()
        assert [line.split(" ", 2)[2] for line in lines] == ["λ is 0.5", "done"]


@pytest.mark.parametrize("quiet", [False, True])
def test_a_warning_is_heard_of_every_worker(tmp_path, capsys, quiet):
    with Run(tmp_path / "run", {}, quiet=quiet) as one:
        one.warn("record 7 is damaged")
    heard = capsys.readouterr()
    assert (heard.out, heard.err)[quiet] == "record 7 is damaged\n"
    assert (heard.out, heard.err)[not quiet] == ""
    assert "record 7 is damaged" in (one.folder / "log.txt").read_text()


def test_what_ends_a_run_early_is_in_its_log(tmp_path, capsys):
    with pytest.raises(ArithmeticError), Run(tmp_path / "run", {}) as folder:
        folder.log("epoch 1")
        raise ArithmeticError("the loss is nan")
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.splitlines()[-1].endswith(" ended early: the loss is nan")
    assert capsys.readouterr().out == "epoch 1\n"  # whoever catches it prints it
    with Run(tmp_path / "other", {}) as folder:
        folder.log("epoch 1")
    assert "ended" not in (tmp_path / "other" / "log.txt").read_text()


def test_an_interrupt_after_the_last_epoch_says_how_to_go_on(tmp_path):
    with pytest.raises(KeyboardInterrupt), Run(tmp_path / "new", {}, quiet=True):
        raise KeyboardInterrupt  # there is nothing to go on from
    with pytest.raises(Interrupted, match="`resume`") as caught:
        with Run(tmp_path / "run", {}, quiet=True) as run:
            (run.checkpoints / "000001").mkdir()
            raise KeyboardInterrupt
    assert caught.value.status == 130


def test_a_second_run_is_refused(tmp_path):
    first = Run(tmp_path / "run", {"seed": 1}, quiet=True)
    first.tables.append("metrics.csv", {"a": 1})
    before = contents(tmp_path / "run")
    with pytest.raises(ValueError, match="run holds a run or something else already: remove it"):
        Run(tmp_path / "run", {"seed": 2}, quiet=True)
    assert contents(tmp_path / "run") == before


def test_a_folder_with_anything_in_it_is_refused(tmp_path):
    """A table of an earlier run would be continued."""
    (tmp_path / "metrics.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match="holds a run or something else already"):
        Run(tmp_path, {}, quiet=True)
    assert names(tmp_path) == ["metrics.csv"]


def test_an_empty_folder_will_do(tmp_path):
    Run(tmp_path, {}, quiet=True)
    assert names(tmp_path) == ["args.json", "checkpoint"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OSError):
            Run(place, {}, quiet=True)
    assert names(tmp_path) == ["file"]


# Going on with a run


def test_resuming_is_noted_in_the_arguments(tmp_path):
    for number in range(3):
        with Run(tmp_path / "run", {"seed": number}, quiet=True, resume=True):
            pass
    written = json.loads((tmp_path / "run" / "args.json").read_text())
    assert written["options"] == {"seed": 0}
    assert [start["options"] for start in written["resumed"]] == [{"seed": 1}, {"seed": 2}]
    assert written["resumed"][0]["environment"]["mxnet"] == mx.__version__
    (tmp_path / "run" / "args.json").write_text("damaged")
    with Run(tmp_path / "run", {"seed": 3}, quiet=True, resume=True):
        pass
    written = json.loads((tmp_path / "run" / "args.json").read_text())
    assert written["options"] == {"seed": 3}


def test_only_a_run_is_gone_on_with(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds thesis.txt, but no run to go on with: give"):
        Run(tmp_path, {}, quiet=True, resume=True)
    assert names(tmp_path) == ["thesis.txt"]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    with Run(tmp_path, {}, quiet=True):
        pass
    (tmp_path / ".4711.architecture.json").write_text("half")
    (tmp_path / ".4711.x").mkdir()
    (tmp_path / ".4711.x" / "model-symbol.json").write_text("half")
    (tmp_path / ".mine").write_text("")
    with Run(tmp_path, {}, quiet=True, resume=True):
        assert names(tmp_path) == [".mine", "args.json", "checkpoint"]


def test_finished_is_what_ended_well(tmp_path):
    with pytest.raises(ArithmeticError), Run(tmp_path, {}, quiet=True) as folder:
        raise ArithmeticError("nan")
    assert not folder.finished
    with Run(tmp_path, {}, quiet=True, resume=True) as folder:
        assert not folder.finished
    assert folder.finished
    folder.reopen()
    assert not folder.finished


def test_tables_are_cut_back(tmp_path):
    """To what they were; what is not in the list is begun again with its next row."""
    with Run(tmp_path, {}, quiet=True) as folder:
        folder.tables.append("a.csv", {"x": 1, "y": 0.1})
        lengths = folder.tables.lengths()
        assert lengths == {"a.csv": 10}
        folder.tables.append("a.csv", {"x": 2, "y": 0.2})
        folder.tables.append("b.csv", {"z": 1})
    with open(tmp_path / "a.csv", "a") as file:
        file.write("3,0.")  # the disk was full
    with Run(tmp_path, {}, quiet=True, resume=True) as folder:
        folder.tables.cut(lengths)
        assert (tmp_path / "a.csv").read_text() == "x,y\n1,0.1\n"
        with pytest.raises(ValueError, match=r"has the columns \['x', 'y'\], not \['x'\]"):
            folder.tables.append("a.csv", {"x": 2})
        folder.tables.append("a.csv", {"x": 5, "y": 0.5})
        folder.tables.append("b.csv", {"w": 7})
        assert (tmp_path / "a.csv").read_text() == "x,y\n1,0.1\n5,0.5\n"
        assert (tmp_path / "b.csv").read_text() == "w\n7\n"
        with pytest.raises(ValueError, match="../a.csv is not the name of a table"):
            folder.tables.cut({"../a.csv": 1})


@pytest.mark.parametrize("left", ["x,y\n1,0.5\n2,", "x", None])
def test_rows_that_somebody_removed_end_no_run(tmp_path, capsys, left):
    """In mid-run, or before it goes on: what is left of the table is continued."""
    kept = left and left[: left.rfind("\n") + 1]
    after = (kept or "x,y\n") + "3,0.5\n"
    for gone_on in (False, True):
        folder = tmp_path / str(gone_on)
        table = folder / "a.csv"
        with Run(folder, {}, quiet=True) as run:
            for x in (1, 2):
                run.tables.append("a.csv", {"x": x, "y": 0.5})
            lengths = run.tables.lengths()
            if left is None:
                table.unlink()
            else:
                table.write_text(left)
            if not gone_on:
                run.tables.append("a.csv", {"x": 3, "y": 0.5})
        if gone_on:
            with Run(folder, {}, quiet=True, resume=True) as run:
                run.tables.cut(lengths)
                run.tables.append("a.csv", {"x": 3, "y": 0.5})
        assert table.read_text() == after
        assert run.tables.lengths() == {"a.csv": len(after)}
        gone = f"{table}: rows that were written are gone: it goes on without them\n"
        assert capsys.readouterr().err == gone


# What is said decides over no run


@pytest.mark.parametrize("place", ["closed", "/dev/full", "latin-1"])
def test_words_that_cannot_be_said(tmp_path, monkeypatch, place):
    folder = tmp_path / os.fsdecode(b"caf\xe9")  # a name that is not UTF-8
    stream = open("/dev/full" if place == "/dev/full" else os.devnull, "w", encoding="latin-1")
    if place == "closed":
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    with Run(folder, {"save_dir": str(folder)}) as run:
        run.log(f"λ of {folder}")
        run.warn("λ")
    log = (folder / "log.txt").read_text(encoding="utf-8")
    assert "λ of " in log
    assert r"caf\udce9" in log
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        with Run(folder, {}, resume=True) as run:
            run.log("λ")
            (folder / "log.txt").unlink()
            (folder / "log.txt").symlink_to("/dev/full")
            run.log("λ")


# The lock


HOLD = """
import sys, time
from dsonas_mx.runs.folder import Run
with Run(sys.argv[1], {}, resume=True):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that is at the run in `tmp_path`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_two_processes_cannot_have_one_folder(tmp_path, holder):
    before = contents(tmp_path)
    message = f"{tmp_path} is in use by process {holder.pid}: wait for it, or end it"
    with pytest.raises(ValueError, match=message):
        Run(tmp_path, {}, quiet=True, resume=True)
    assert contents(tmp_path) == before
    holder.kill()  # a dead process holds nothing
    holder.wait()
    with Run(tmp_path, {}, quiet=True, resume=True) as folder:
        assert not folder.finished


def test_one_process_cannot_have_a_folder_twice(tmp_path):
    with Run(tmp_path, {}, quiet=True):
        with pytest.raises(ValueError, match="is in use by this process"):
            Run(tmp_path, {}, quiet=True, resume=True)
    with Run(tmp_path, {}, quiet=True, resume=True):
        pass


def test_children_do_not_inherit_the_lock(tmp_path):
    """Neither a forked nor a spawned one, though they live on: a data worker may."""
    with Run(tmp_path, {}, quiet=True):
        read, write = os.pipe()
        forked = os.fork()
        if not forked:
            os.close(write)
            os.read(read, 1)  # until the parent says so
            os._exit(0)
        spawned = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        check = f"from dsonas_mx.runs.folder import Run; Run({str(tmp_path)!r}, {{}}, resume=True)"
        subprocess.run([sys.executable, "-c", check], check=True, cwd=Path(__file__).parents[2])
    finally:
        os.write(write, b".")
        os.waitpid(forked, 0)
        spawned.communicate(b"\n")


# Files that are whole or not there


@pytest.mark.parametrize("old", [None, "old"])
def test_a_write_that_fails_half_way(tmp_path, monkeypatch, old):
    """A full disk: half of the text, then an OSError."""
    path = tmp_path / "architecture.json"
    if old:
        path.write_text(old)

    def full(self, text, encoding=None, errors=None):
        with open(self, "w", encoding=encoding) as file:
            file.write(text[: len(text) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"a": list(range(100))})
    assert names(tmp_path) == (["architecture.json"] if old else [])
    if old:
        assert path.read_text() == old


def test_a_replace_that_fails(tmp_path, monkeypatch):
    def fail(*paths):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_json(tmp_path / "a.json", {})
    assert names(tmp_path) == []


def test_what_json_does_not_know_is_not_written(tmp_path):
    for content in ({"a": float("nan")}, {"a": float("inf")}, {"a": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json(tmp_path / "a.json", content)
    assert names(tmp_path) == []


def test_the_temporary_file_is_beside_the_target(tmp_path):
    """On another file system it could not be moved in one step."""
    with atomic(tmp_path / "a.bin") as temporary:
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"1")
        assert not (tmp_path / "a.bin").exists()
    assert names(tmp_path) == ["a.bin"]


def test_parameters_come_back(tmp_path, tiny_space, randomised):
    """Those of the first device, statistics included."""
    contexts = [mx.cpu(0), mx.cpu(1)]
    net = randomised(Architecture.complete(tiny_space()), contexts, weighted=True)
    path = tmp_path / "model.params"
    save_parameters(path, net)
    arrays = mx.nd.load(str(path))
    parameters = net.collect_params()
    assert set(arrays) == set(parameters)
    for name, array in arrays.items():
        expected = parameters[name].data(contexts[0]).asnumpy()
        np.testing.assert_array_equal(array.asnumpy(), expected, err_msg=name)
    statistic = parameters["stem_bn_running_mean"]
    assert (statistic.data(contexts[1]).asnumpy() != arrays[statistic.name].asnumpy()).all()

    def full(name, arrays):
        with open(name, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    content = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "write_params", full)
        with pytest.raises(OSError, match="No space"):
            save_parameters(path, net)
    assert names(tmp_path) == ["model.params"]
    assert path.read_bytes() == content


def test_two_runs_may_write_at_once(tmp_path):
    """Each has its own temporary file."""
    with atomic(tmp_path / "a") as temporary:
        assert str(os.getpid()) in temporary.name
        temporary.write_text("")
