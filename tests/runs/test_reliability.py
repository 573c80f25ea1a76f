"""What can go wrong with a run, what it says then, and that nothing is lost.

Each test is a row of docs/reliability.md. Whatever happens, the run is resumed afterwards, and its
files compared with those of a run to which nothing happened.
"""

import importlib.util
import os
import re
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

from dsonas_mx.data.loader import Loader
from dsonas_mx.deploy import export
from dsonas_mx.runs.folder import Run
from dsonas_mx.training.loop import Loop

import mxnet as mx
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "train/search_cifar.py"
WORDS = ["--levels", 1, "--blocks", "1,1", "--width", 4, "--operations", "avg,sep3"]
WORDS += ["--batch-size", 20, "--pretrain-epochs", 1, "--num-epochs", 2]
AGAIN = "nothing: the steps since the last checkpoint are done again"
SAME = ("architecture.json", "metrics.csv", "lambdas.csv", "model.params")


@pytest.fixture
def search(script, small_cifar, tmp_path):
    """`search(*words)`: a start of a search of three epochs, 3 + 6 + 6 steps, in `tmp_path/run`."""

    def run(*words, folder="run"):
        folder = tmp_path / folder
        return script(SCRIPT, "--data-dir", small_cifar, *WORDS, "--save-dir", folder, *words)

    return run


@pytest.fixture(scope="module")
def files():
    """The files of an undisturbed run, which the first test that asks for them makes."""
    return {}


@pytest.fixture
def whole(files, search, tmp_path):
    """`whole()`: the content of each file of an undisturbed run."""

    def contents():
        if not files:
            assert search(folder="whole")[0] == 0
            files.update((name, (tmp_path / "whole" / name).read_bytes()) for name in SAME)
        return files

    return contents


@pytest.fixture
def lost_nothing(search, whole, tmp_path):
    """`lost_nothing()`: resume the run to its end; its files are those of an undisturbed one."""

    def check():
        status, _, err = search("--resume")
        assert (status, err) == (0, "")
        for name, expected in whole().items():
            assert (tmp_path / "run" / name).read_bytes() == expected, name

    return check


@pytest.fixture
def says(record_property, tmp_path, small_cifar):
    """`says(status, err, text)`: an exit with one line, which is noted for the table."""

    def check(status, err, text):
        line = err.strip().replace(f"{tmp_path}/", "runs/").replace(str(small_cifar), "data")
        assert len(line.splitlines()) == 1, err
        assert text in line
        line = re.sub(r"process \d+", "process 4711", line)
        record_property("happens", f"exit {status}: {line.split(': ', 1)[1]}")

    return check


def at_step(monkeypatch, step, do):
    """Do something when the so-manieth batch is asked for, in the thread that makes it."""
    count, batch = iter(range(1, 10**6)), Loader._batch

    def counted(self, *place):
        if next(count) == step:
            do()
        return batch(self, *place)

    monkeypatch.setattr(Loader, "_batch", counted)


@pytest.mark.fault("SIGKILL, or the machine stops", lost=AGAIN)
def test_a_kill(small_cifar, tmp_path, lost_nothing, record_property):
    """In a process of its own, at once after the second checkpoint; `make soak` does it often."""
    words = ["--data-dir", small_cifar, *WORDS, "--save-dir", tmp_path / "run"]
    command = [sys.executable, str(ROOT / SCRIPT), *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not (tmp_path / "run" / "checkpoint" / "000002").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "model.params").exists()
    record_property("happens", "nothing is said; `--resume` goes on from the newest checkpoint")
    lost_nothing()


@pytest.mark.parametrize(
    "number, status",
    [
        pytest.param(number, status, marks=pytest.mark.fault(fault, lost="nothing"))
        for number, status, fault in (
            (signal.SIGTERM, 143, "SIGTERM: a cluster wants its machine back"),
            (signal.SIGUSR1, 138, "SIGUSR1: a scheduler says that the time is nearly over"),
            (signal.SIGHUP, 129, "SIGHUP: the terminal is closed (under nohup nothing happens)"),
            (signal.SIGINT, 130, "Ctrl-C"),
        )
    ],
)
def test_what_asks_for_the_end(search, monkeypatch, lost_nothing, says, number, status):
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with monkeypatch.context() as patch:
            at_step(patch, 9, lambda: os.kill(os.getpid(), number))
            ended, _, err = search()
    finally:
        signal.signal(number, before)
    assert ended == status
    says(status, err.splitlines()[-1], f"ended by {number.name}, with a checkpoint")
    lost_nothing()


@pytest.mark.fault("The disk is full", lost=AGAIN)
def test_a_full_disk(search, lost_nothing, says, tmp_path):
    """A small disk where one can be mounted, else files that must not grow beyond a size."""
    assert search(folder="probe")[0] == 0
    checkpoints = (tmp_path / "probe" / "checkpoint").glob("0*/*")
    size = sum(path.stat().st_size for path in checkpoints) // 2
    folder = tmp_path / "run"
    folder.mkdir()
    # One or two checkpoints have room, the last ones have not.
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size * 3 // 2 + 40960}", "tmpfs", str(folder)]
    if os.geteuid() == 0 and not subprocess.run(mount, capture_output=True, check=False).returncode:
        try:
            status, _, err = search()
            names = {path.name for path in (folder / "checkpoint").glob("*0*")}
            assert "000001" in names <= {"000001", "000002", "000003"}  # nothing half-written
            subprocess.run(["mount", "-o", "remount,size=100m", str(folder)], check=True)
            says(status, err, "No space left on device: make room, and go on with --resume")
            lost_nothing()
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    else:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 4, before[1]))
        try:
            status, _, err = search()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        says(status, err, "File too large: make room, and go on with --resume")
        lost_nothing()


@pytest.mark.fault("The disk is full when the trained network is exported", lost="nothing")
def test_no_room_for_the_export(script, small_cifar, monkeypatch, says, tmp_path):
    words = ["train/train_cifar.py", "--data-dir", small_cifar, "--random", "share", "--width", 2]
    words += ["--blocks", "1,1,1", "--batch-size", 60, "--num-epochs", 1, "--auxiliary", 0]
    words += ["--save-dir"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    write = export.write_params

    def full(path, arrays):
        """From now on no file may grow, as on a full disk: the system's error, not one of ours."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        write(path, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(export, "write_params", full)
        try:
            status, _, err = script(*words, tmp_path / "run")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    says(status, err, "File too large: make room, and go on with --resume")
    assert not list((tmp_path / "run").glob("model-*"))  # no half of a pair, nothing left over
    assert script(*words, tmp_path / "run", "--resume")[0] == 0
    assert script(*words, tmp_path / "whole")[0] == 0
    for name in ("metrics.csv", "model-symbol.json", "model-0000.params", "result.json"):
        expected = (tmp_path / "whole" / name).read_bytes()
        assert (tmp_path / "run" / name).read_bytes() == expected, name


@pytest.mark.fault("Address space is limited to 5 GB: `ulimit -v 5000000`", lost="nothing")
def test_little_address_space(
    search, small_cifar, monkeypatch, record_property, lost_nothing, tmp_path
):
    """Checkpoints and parameters are read in as much memory as they have bytes."""
    with monkeypatch.context() as patch:
        at_step(patch, 9, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert search()[0] == 143
    words = ["--data-dir", small_cifar, *WORDS, "--save-dir", tmp_path / "run", "--resume"]
    most = 5_000_000 * 1024
    subprocess.run(
        [sys.executable, str(ROOT / SCRIPT), *map(str, words)],
        check=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
    )
    record_property("happens", "nothing: it goes on")
    lost_nothing()


def unheard(path, encoding="utf-8"):
    """An output stream as Python has it, strict, into a file or a device."""
    return open(path, "w", encoding=encoding, errors="strict")


def broken_pipe(_):
    read, write = os.pipe()
    os.close(read)
    return open(write, "w", encoding="utf-8")


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(output, marks=pytest.mark.fault(fault, lost="nothing"))
        for output, fault in (
            (lambda folder: unheard(folder / "out", "latin-1"), "The output's encoding has no λ"),
            (broken_pipe, "Nobody reads the output any more: a broken pipe"),
            (lambda folder: unheard("/dev/full"), "The disk that the output goes to is full"),
            (lambda folder: None, "Standard output and error are closed"),
        )
    ],
)
def test_nobody_hears_of_it(search, monkeypatch, record_property, lost_nothing, tmp_path, output):
    """Neither epochs, nor the note that a signal has come."""
    with monkeypatch.context() as patch:
        streams = output(tmp_path), output(tmp_path)
        for name, stream in zip(("stdout", "stderr"), streams):
            patch.setattr(sys, name, stream)
            patch.setattr(sys, f"__{name}__", stream)
        assert search()[0] == 0
        sys.stdout.flush()
    assert "search epoch 2" in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    if streams[0] is not None and streams[0].name == str(tmp_path / "out"):
        assert "; ?: loss" in (tmp_path / "out").read_text(encoding="latin-1")
    record_property("happens", "the run goes on; `log.txt` has all of it")
    lost_nothing()


@pytest.mark.fault("The log cannot be written", lost="lines of the log")
def test_a_log_on_a_full_disk(search, monkeypatch, record_property, lost_nothing, tmp_path):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:

        def full():
            (folder / "log.txt").unlink()
            (folder / "log.txt").symlink_to("/dev/full")

        at_step(patch, 9, full)
        assert search()[0] == 0
    record_property("happens", "the run goes on")
    lost_nothing()


@pytest.mark.fault("With `--tensorboard`, its files cannot be written", lost="pictures of the rest")
def test_tensorboard_on_a_full_disk(search, monkeypatch, record_property, lost_nothing, tmp_path):
    """Once more events than a queue takes are waiting: nobody waits for them."""
    writers = pytest.importorskip("tensorboardX.event_file_writer")
    writes = iter(range(1, 10**6))
    write = writers.EventsWriter.write_event

    def full(self, event):
        if next(writes) > 8:
            raise OSError(28, "No space left on device")
        write(self, event)

    with monkeypatch.context() as patch:
        patch.setattr(writers.EventsWriter, "write_event", full)
        status, out, err = search("--tensorboard")
    assert (status, err) == (0, "")
    said = "tensorboard: [Errno 28] No space left on device: TensorBoard gets no more of this run"
    assert out.count(said) == 1
    record_property("happens", "one line says so, and the run goes on")
    lost_nothing()


@pytest.mark.fault("`metrics.csv` is removed in mid-run", lost="its rows until then")
def test_a_table_that_is_removed(search, whole, monkeypatch, record_property, tmp_path):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(patch, 9, lambda: (folder / "metrics.csv").unlink())
        at_step(patch, 14, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert search()[0] == 143
    assert search("--resume")[0] == 0
    header, *rows = whole()["metrics.csv"].splitlines(keepends=True)
    assert (folder / "metrics.csv").read_bytes() == b"".join([header, *rows[1:]])
    for name in set(SAME) - {"metrics.csv"}:
        assert (folder / name).read_bytes() == whole()[name], name
    record_property("happens", "one line says so, and the run goes on with a table begun anew")


@pytest.mark.parametrize("file", ["arrays.params", "state.json"])
@pytest.mark.fault("The newest checkpoint is truncated or cannot be read", lost=AGAIN)
def test_a_damaged_checkpoint(search, monkeypatch, lost_nothing, record_property, tmp_path, file):
    at_step(monkeypatch, 13, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert search()[0] == 143
    newest = sorted((tmp_path / "run" / "checkpoint").glob("0*"))[-1]
    content = (newest / file).read_bytes()
    (newest / file).write_bytes(content[: len(content) // 2])
    lost_nothing()
    log = (tmp_path / "run" / "log.txt").read_text()
    assert f"cannot use a checkpoint: {newest / file}" in log and "going on from" in log
    record_property("happens", "`--resume` names it and goes on from the one before")


@pytest.mark.fault("No checkpoint can be read", lost="the run; nothing is overwritten")
def test_no_checkpoint_left(search, monkeypatch, says, tmp_path):
    at_step(monkeypatch, 13, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert search()[0] == 143
    paths = sorted((tmp_path / "run" / "checkpoint").glob("0*"))
    for path in paths:
        (path / "state.json").write_text("{}")
    table = (tmp_path / "run" / "metrics.csv").read_bytes()
    status, _, err = search("--resume")
    says(status, err, "no checkpoint in ")
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == table
    assert all(path.exists() for path in paths)


@pytest.mark.fault("The data are truncated", lost="nothing")
def test_truncated_data(script, small_cifar, lost_nothing, says, tmp_path):
    for path in small_cifar.iterdir():
        content = path.read_bytes()
        short = content[:-9] if path.name == "data_batch_3" else content
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / path.name).write_bytes(short)
    words = ["--data-dir", tmp_path / "data", *WORDS, "--save-dir", tmp_path / "run"]
    status, _, err = script(SCRIPT, *words)
    says(status, err, "data_batch_3")
    assert not (tmp_path / "run").exists()
    lost_nothing()


def read_error():
    raise OSError(5, "Input/output error")


def death():
    raise BrokenExecutor("a process in the process pool was terminated abruptly")


@pytest.mark.parametrize(
    "do, text",
    [
        pytest.param(
            read_error,
            "Input/output error",
            marks=pytest.mark.fault("Data cannot be read in mid-epoch", lost="nothing"),
        ),
        pytest.param(
            death,
            "a data worker died",
            marks=pytest.mark.fault("A data worker dies", lost="nothing"),
        ),
    ],
)
def test_data_that_fail(search, monkeypatch, lost_nothing, says, tmp_path, do, text):
    """Not even the steps of that epoch are done again."""
    with monkeypatch.context() as patch:
        at_step(patch, 15, do)
        status, _, err = search()
    says(status, err, text)
    lost_nothing()
    (line,) = [line for line in open(tmp_path / "run" / "log.txt") if "going on from" in line]
    assert "step 1\n" not in line


def poison(monkeypatch, step):
    """Make a parameter NaN after the so-manieth step, as a rate that is too high does."""
    count, take_step = iter(range(1, 10**6)), Loop._step

    def poisoned(self, *batch):
        take_step(self, *batch)
        if next(count) == step:
            self.net.collect_params()["fc_bias"].set_data(mx.nd.full((10,), np.nan))

    monkeypatch.setattr(Loop, "_step", poisoned)


@pytest.mark.fault("The loss turns NaN", lost=AGAIN)
def test_nan(search, monkeypatch, lost_nothing, says):
    with monkeypatch.context() as patch:
        poison(patch, 6)
        status, _, err = search()
    says(status, err, "the loss is nan in epoch 2, from step 4 of 6 on: use a learning rate below")
    lost_nothing()


@pytest.mark.fault(
    "The loss turns NaN, with `--on-nan rollback`", lost="the steps of that epoch are done anew"
)
def test_nan_with_rollback(search, monkeypatch, record_property, tmp_path):
    poison(monkeypatch, 6)
    assert search("--on-nan", "rollback")[0] == 0
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "; going back to " in log and "with 0.5 of the learning rate" in log
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]
    assert [row.split(",")[-1] for row in rows] == ["0.1", "0.05", "0.05"]
    assert '"rate_scale": 0.5' in (tmp_path / "run" / "architecture.json").read_text()
    record_property(
        "happens", "it goes back to the last end of an epoch and on with half the learning rate"
    )


@pytest.mark.fault("Every connection is removed", lost="the search: γ is too large")
def test_all_connections_pruned(search, says, tmp_path):
    status, _, err = search("--gamma", 1e3)
    says(status, err, "removed every connection: use a gamma below 1000.0")
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 2
    assert not (tmp_path / "run" / "architecture.json").exists()


@pytest.mark.fault("A run is started twice in one folder", lost="nothing")
def test_started_twice(search, says, tmp_path):
    """A fork has it: importing MXNet in another process takes longer than all of this."""
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        with Run(tmp_path / "run", {}, quiet=True):
            os.write(ready[1], b".")
            os.read(done[0], 1)
            os._exit(0)
    try:
        os.read(ready[0], 1)
        status, _, err = search("--resume")
    finally:
        os.write(done[1], b".")
        os.waitpid(child, 0)
    says(status, err, f"is in use by process {child}: wait for it, or end it")


@pytest.mark.fault("`--resume` with other options", lost="nothing")
def test_other_options(search, monkeypatch, lost_nothing, says):
    with monkeypatch.context() as patch:
        at_step(patch, 9, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert search()[0] == 143
    status, _, err = search("--resume", "--lr", 0.05, "--seed", 3)
    says(status, err, "other options: --seed is 3, was 0, --lr is 0.05, was 0.1; give the same")
    lost_nothing()


def test_with_more_devices_and_workers_it_goes_on(search, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        at_step(patch, 9, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert search()[0] == 143
    assert search("--resume", "--cpus", 2, "--mirror", "off")[0] == 0
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "number of devices was 1, is 2: it may not go on bit for bit" in log
    status, out, _ = search("--resume", "--cpus", 2)
    assert (status, out.splitlines()[-1]) == (0, f"{tmp_path / 'run'} is finished: nothing to do")


def test_a_training_goes_on(script, small_cifar, search, monkeypatch, tmp_path):
    """With dropout and cutout; the exported network is the same as well."""
    assert search(folder="search")[0] == 0
    words = ["--data-dir", small_cifar, "--architecture", tmp_path / "search/architecture.json"]
    words += ["--batch-size", 40, "--num-epochs", 3, "--auxiliary", 0, "--width", 4, "--save-dir"]
    train = "train/train_cifar.py"
    assert script(train, *words, tmp_path / "whole")[0] == 0
    with monkeypatch.context() as patch:
        at_step(patch, 8, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert script(train, *words, tmp_path / "run")[0] == 143
    mx.random.seed(7)
    assert script(train, *words, tmp_path / "run", "--resume")[0] == 0
    names = ("metrics.csv", "model.params", "result.json", "model-0000.params")
    for name in (*names, "model-symbol.json"):
        expected = (tmp_path / "whole" / name).read_bytes()
        assert (tmp_path / "run" / name).read_bytes() == expected, name
    found = (tmp_path / "search/architecture.json").read_text()
    (tmp_path / "other.json").write_text(found.replace('"width": 4', '"width": 6'))
    before = (tmp_path / "run" / "architecture.json").read_bytes()
    words[3] = tmp_path / "other.json"
    status, _, err = script(train, *words, tmp_path / "run", "--resume")
    assert (status, "--architecture is another; give the same" in err) == (2, True)
    assert (tmp_path / "run" / "architecture.json").read_bytes() == before


def faults():
    """The names of all marks of this file, and of that of the launcher."""
    path = ROOT / "tests" / "tools" / "test_launch.py"
    spec = importlib.util.spec_from_file_location("launch_faults", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for test in [*globals().values(), *vars(module).values()]:
        for mark in getattr(test, "pytestmark", []):
            sets = mark.args[1] if mark.name == "parametrize" else []
            for each in [mark, *(m for values in sets for m in getattr(values, "marks", ()))]:
                if each.name == "fault":
                    yield each.args[0]


def test_the_table_lists_every_fault():
    """`make faults` was run since the last of them was added."""
    table = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (.+?) \| .+ \| .+ \|$", table.split("<!-- faults -->")[1], re.M)
    assert len(listed) > 20
    assert sorted(listed[1:]) == sorted(faults())
