"""A session: from any checkpoint to the same end, and what it does about signals and NaN."""

import json
import os
import re
import signal
import threading
from dataclasses import replace
from hashlib import sha256

from dsonas_mx.engine.setup import Setup
from dsonas_mx.runs import session as module
from dsonas_mx.runs.checkpoint import read_checkpoint
from dsonas_mx.runs.folder import Run
from dsonas_mx.runs.session import Interrupted, Session
from dsonas_mx.training import loop
from dsonas_mx.training.fit import Fit
from dsonas_mx.training.loop import Diverged
from dsonas_mx.training.options import FitOptions

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model

OPTIONS = FitOptions(num_epochs=4, learning_rate=0.1, final_learning_rate=0.1, period=4)
IDENTITY = {"lr": 0.1, "seed": 0, "split": (4, 1)}


@pytest.fixture
def fits(tiny_space, some_architecture, loader, plain):
    """`fits()`: a new training of four epochs, three steps each, and two batches of test."""

    def build(options=OPTIONS, contexts=None):
        mx.random.seed(0)
        net = get_model("dsonas", some_architecture(tiny_space()))
        net.initialize(ctx=contexts or [mx.cpu()])
        test_data = loader(16, 8, 1, shuffle=False, drop_last=False)
        data = {"train_data": loader(24, 8), "test_data": test_data}
        return Fit(net, **data, options=options, setup=Setup(contexts or [mx.cpu()]))

    return build


def go(folder, fit, before_step=lambda fit: None, resume=True, path=None, identity=IDENTITY, **how):
    """One start of a run; `before_step` is called after each step, before the session is."""
    with Run(folder, {}, quiet=True, resume=resume) as run:
        session = Session(run, fit, identity, **how)
        if resume:
            session.resume(path)

        def record(epoch):
            run.tables.append("metrics.csv", epoch.row())

        after_step = session._after_step

        def first():
            before_step(fit)
            after_step()

        session._after_step = first
        session.train(record)
    return fit


def at(epoch, position, do):
    """Do something once, after a step."""
    left = [True]

    def check(fit):
        if left and (fit.epoch, fit.position) == (epoch, position):
            left.clear()
            do(fit)

    return check


def send(number):
    return lambda fit: os.kill(os.getpid(), number)


def poison(fit):
    fit.net.collect_params()["fc_bias"].set_data(mx.nd.full((3,), np.nan))


def crash(fit):
    raise RuntimeError("a crash")


def checkpoints(folder):
    """Epoch and position of each, by name."""
    paths = sorted((folder / "checkpoint").glob("0*"))
    loops = {path.name: read_checkpoint(path).values["loop"] for path in paths}
    return {name: (values["epoch"], values["position"]) for name, values in loops.items()}


def assert_same(folder, fit, whole_folder, whole):
    assert (folder / "metrics.csv").read_bytes() == (whole_folder / "metrics.csv").read_bytes()
    first, second = fit.state(), whole.state()
    assert first.values == second.values
    for name, array in first.arrays.items():
        assert array.tobytes() == second.arrays[name].tobytes(), name


@pytest.fixture
def whole(fits, tmp_path):
    """The folder and the training of a run that nothing has stopped."""
    return tmp_path / "whole", go(tmp_path / "whole", fits())


def test_a_checkpoint_at_the_end_of_every_epoch(whole):
    """The last two, and the best."""
    folder, fit = whole
    assert fit.epoch == 4
    values = checkpoints(folder)
    best = os.readlink(folder / "checkpoint" / "best")
    assert values == {best: values[best], "000004": (3, 0), "000005": (4, 0)}
    rows = (folder / "metrics.csv").read_text().splitlines()[1:]
    errors = [float(row.split(",")[-1]) for row in rows]
    assert values[best] == (errors.index(min(errors)) + 1, 0)


STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129, signal.SIGUSR1: 138}


@pytest.fixture(autouse=True)
def no_signal_is_ignored():
    """As some are in the background of a script, or under nohup."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in STATUS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "number, position", [(n, 1) for n in STATUS] + [(signal.SIGTERM, 3), (signal.SIGINT, 3)]
)
def test_a_signal_ends_after_the_step_with_a_checkpoint(
    whole, fits, tmp_path, capfd, number, position
):
    """Position 3 is the end of the steps, before the test."""
    folder = tmp_path / "run"
    with pytest.raises(Interrupted, match=f"ended by {number.name}, with a checkpoint") as ended:
        go(folder, fits(), at(1, position, send(number)))
    assert ended.value.status == STATUS[number]
    assert "ending after this step, with a checkpoint" in capfd.readouterr().err
    assert {signal.getsignal(n) for n in STATUS} == {signal.default_int_handler}
    assert list(checkpoints(folder).values())[-1] == (1, position)
    assert "ended early: ended by" in (folder / "log.txt").read_text()
    fit = go(folder, fits())
    assert_same(folder, fit, *whole)
    assert (
        f"going on from {folder}/checkpoint/000003: epoch 2, step {position + 1}"
        in (folder / "log.txt").read_text()
    )


def test_what_is_ignored_stays_so(fits, tmp_path):
    """Of SIGHUP by nohup, of SIGINT in the background of a script; the others end it."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)

    def both(fit):
        for number in (signal.SIGHUP, signal.SIGINT):
            os.kill(os.getpid(), number)

    assert go(tmp_path / "run", fits(), at(1, 1, both)).epoch == 4
    with pytest.raises(Interrupted):
        go(tmp_path / "other", fits(), at(1, 1, send(signal.SIGTERM)))
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_words_come_after_the_checkpoint(fits, tmp_path):
    """And rows before it: what is said cannot lose an epoch."""
    folder, said = tmp_path / "run", []

    def tell(epoch):
        rows = (folder / "metrics.csv").read_text().splitlines()
        said.append((len(rows) - 1, list(checkpoints(folder).values())[-1]))
        if epoch.epoch == 2:
            raise UnicodeEncodeError("latin-1", "λ", 0, 1, "a terminal that is too old")

    for resume in (False, True):
        with Run(folder, {}, quiet=True, resume=resume) as run:
            session = Session(run, fits(), IDENTITY)
            if resume:
                session.resume()
            try:
                session.train(lambda epoch: run.tables.append("metrics.csv", epoch.row()), tell)
            except UnicodeEncodeError:
                assert not resume
    assert said == [(epoch, (epoch, 0)) for epoch in (1, 2, 3, 4)]


def test_a_second_interrupt_is_left_to_the_system(fits, tmp_path):
    """It ends the process at once, whatever it waits for."""

    def twice(fit):
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL

    with pytest.raises(Interrupted):
        go(tmp_path / "run", fits(), at(0, 1, twice))


def test_outside_of_the_main_thread_signals_are_left_alone(fits, tmp_path):
    thread = threading.Thread(target=go, args=(tmp_path / "run", fits()))
    thread.start()
    thread.join()
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 5


def test_checkpoints_within_an_epoch(whole, fits, tmp_path, monkeypatch):
    """Every 30 minutes of steps of 20 minutes; the one of the epoch before is kept as well."""
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    seen = []

    def tick(fit):
        clock[0] += 20 * 60
        seen.append(list(checkpoints(tmp_path / "run").values()))
        if (fit.epoch, fit.position) == (2, 3):
            raise RuntimeError("a crash")

    with pytest.raises(RuntimeError, match="a crash"):
        go(tmp_path / "run", fits(), tick, minutes=30)
    # Two steps, and in each epoch two batches of test, between which a checkpoint may lie as well.
    assert seen[2] == [(0, 0), (0, 2)]
    assert (1, 2) in seen[8]
    assert all((fit_epoch, 0) in places for places, fit_epoch in zip(seen[6:8], (1, 1)))
    fit = go(tmp_path / "run", fits())
    assert_same(tmp_path / "run", fit, *whole)
    clock[0] = 0
    seen.clear()
    with pytest.raises(RuntimeError, match="a crash"):
        go(tmp_path / "other", fits(), tick, minutes=0)
    assert {position for _, position in checkpoints(tmp_path / "other").values()} == {0}


def test_rows_after_the_checkpoint_are_cut_off(whole, fits, tmp_path, monkeypatch):
    """Killed when the row was written and the checkpoint was not; then with half a row."""
    folder = tmp_path / "run"

    def no_room(*arguments):
        raise OSError(28, "No space left on device")

    fit = fits()
    with monkeypatch.context() as patch:

        def full(fit):
            patch.setattr(module.Checkpoints, "save", no_room)

        with pytest.raises(OSError, match="No space"):
            go(folder, fit, at(1, 2, full))
    assert len((folder / "metrics.csv").read_text().splitlines()) == 3
    assert list(checkpoints(folder).values())[-1] == (1, 0)
    with open(folder / "metrics.csv", "a") as file:
        file.write("3,0.1")
    assert_same(folder, go(folder, fits()), *whole)


def test_the_checkpoint_before_a_damaged_one(whole, fits, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError):
        go(folder, fits(), at(2, 1, crash))
    newest = sorted((folder / "checkpoint").glob("0*"))[-1]
    (newest / "arrays.params").write_bytes(b"")
    assert_same(folder, go(folder, fits()), *whole)
    log = (folder / "log.txt").read_text()
    assert f"cannot use a checkpoint: {newest}/arrays.params: not a .params file" in log
    assert "going on from" in log
    assert newest.exists() is False or read_checkpoint(newest)  # written again by now


def test_without_a_checkpoint_it_begins(whole, fits, tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "checkpoint" / "lock").touch()
    assert_same(folder, go(folder, fits()), *whole)


def test_a_finished_run(whole, fits):
    folder, fit = whole
    before = (folder / "metrics.csv").read_bytes()
    again = go(folder, fits(), crash)
    assert_same(folder, again, folder, fit)
    assert (folder / "metrics.csv").read_bytes() == before


# From a given checkpoint


def test_from_a_checkpoint_of_its_own(whole, fits, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError):
        go(folder, fits(), at(3, 1, crash))
    names = list(checkpoints(folder))
    path = folder / "checkpoint" / names[-2]
    with pytest.raises(RuntimeError):
        go(folder, fits(), at(3, 1, crash), path=path)
    assert list(checkpoints(folder))[-1] > names[-1]  # --resume goes on with these
    fit = go(folder, fits())
    assert_same(folder, fit, *whole)
    with Run(folder, {}, quiet=True, resume=True) as run:
        Session(run, fits(), IDENTITY).resume(path=sorted((folder / "checkpoint").glob("0*"))[0])
        assert not run.finished


def test_from_a_checkpoint_of_another_run(whole, fits, tmp_path):
    """Into a new folder, with the rows up to there."""
    first, second = tmp_path / "first", tmp_path / "second"
    with pytest.raises(RuntimeError):
        go(first, fits(), at(2, 1, crash))
    path = sorted((first / "checkpoint").glob("0*"))[-2]
    before = (first / "metrics.csv").read_bytes()
    assert_same(second, go(second, fits(), path=path), *whole)
    assert (first / "metrics.csv").read_bytes() == before
    with pytest.raises(ValueError, match="second has checkpoints of its own: give `resume`, or"):
        go(second, fits(), path=path)
    with pytest.raises(OSError):
        go(tmp_path / "third", fits(), path=tmp_path / "nowhere")


@pytest.mark.parametrize("place", ["loop", "about", "tables", "boundary"])
def test_a_checkpoint_of_something_else(fits, tmp_path, place):
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError):
        go(folder, fits(), at(1, 1, crash))
    path = sorted((folder / "checkpoint").glob("0*"))[-1]
    content = json.loads((path / "state.json").read_text())
    del content["state"][place]
    text = json.dumps(content["state"], sort_keys=True).encode()
    content["sha256"]["state"] = sha256(text).hexdigest()
    (path / "state.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"{path} is no checkpoint of such a run: .*{place}"):
        go(folder, fits())


# What must not change, and what may


def test_other_options_are_named_and_refused(fits, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError):
        go(folder, fits(), at(1, 1, crash))
    changed = {**IDENTITY, "lr": 0.2, "num_epochs": 7, "split": (1, 1)}
    message = r"with other options: `lr` is 0.2, was 0.1, `split` is \[1, 1\], was \[4, 1\]; give"
    for path in (None, sorted((folder / "checkpoint").glob("0*"))[-1]):
        with pytest.raises(ValueError, match=message):
            go(folder, fits(), path=path, identity=changed)
    with pytest.raises(ValueError, match="`seed` is 1, was 0; give the same, or start another"):
        go(folder, fits(), identity={"seed": 1})


def test_another_number_of_devices_is_noted(fits, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError):
        go(folder, fits(), at(1, 1, crash))
    fit = go(folder, fits(contexts=[mx.cpu(0), mx.cpu(1)]))
    assert fit.finished
    note = "number of devices was 1, is 2: it may not go on bit for bit"
    assert note in (folder / "log.txt").read_text()


def test_another_number_of_threads_is_noted(fits, tmp_path, monkeypatch):
    """Sums depend on it. Checkpoints that do not tell it are gone on with."""
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError):
        go(folder, fits(), at(1, 1, crash))
    path = sorted((folder / "checkpoint").glob("0*"))[-1]
    monkeypatch.setattr(loop, "threads", lambda: 77)
    with pytest.raises(RuntimeError):
        go(folder, fits(), at(1, 2, crash))
    log = (folder / "log.txt").read_text()
    assert re.search(r"number of threads was \d+, is 77: it may not go on bit for bit", log)
    content = json.loads((path / "state.json").read_text())
    del content["state"]["about"]["environment"]["number of threads"]
    text = json.dumps(content["state"], sort_keys=True).encode()
    content["sha256"]["state"] = sha256(text).hexdigest()
    (path / "state.json").write_text(json.dumps(content))
    assert go(folder, fits()).finished
    assert (folder / "log.txt").read_text().count("number of threads") == 1


# A loss that is not finite


def test_nan_ends_the_run_and_leaves_the_last_good_checkpoint(whole, fits, tmp_path):
    folder = tmp_path / "run"
    message = "^the loss is nan in epoch 2, from step 3 of 3 on: use a learning rate below 0.1; "
    with pytest.raises(Diverged, match=message + "parameters not finite by now: .*others$"):
        go(folder, fits(), at(1, 2, poison))
    assert len((folder / "metrics.csv").read_text().splitlines()) == 2
    assert list(checkpoints(folder).values())[-1] == (1, 0)
    assert_same(folder, go(folder, fits()), *whole)


def test_nan_of_the_last_step_is_never_saved(fits, tmp_path):
    """The test sees it, though no step has."""
    folder = tmp_path / "run"
    with pytest.raises(Diverged, match="^the test loss is nan in epoch 2: use a learning rate"):
        go(folder, fits(), at(1, 3, poison))
    assert list(checkpoints(folder).values())[-1] == (1, 0)


def test_rolling_back(fits, tmp_path):
    """To the end of the last epoch, with half the rate, which a resumed run has as well."""
    runs = []
    for name, stop in (("a", None), ("b", at(1, 1, send(signal.SIGTERM)))):
        folder, first = tmp_path / name, at(1, 2, poison)
        if stop:  # a checkpoint within the epoch, which is not where it goes back to
            with pytest.raises(Interrupted):
                go(folder, fits(), stop, roll_back=True)
        fit = go(folder, fits(), first, roll_back=True)
        log = (folder / "log.txt").read_text()
        assert "the loss is nan in epoch 2, from step 3 of 3 on" in log
        assert f"going back to {folder}/checkpoint/000002 with 0.5 of the learning rate" in log
        rows = [row.split(",") for row in (folder / "metrics.csv").read_text().splitlines()[1:]]
        assert [(int(row[0]), float(row[1])) for row in rows] == [
            (1, 0.1),
            (2, 0.05),
            (3, 0.05),
            (4, 0.05),
        ]
        runs += [folder, fit]
    assert_same(*runs)
    with pytest.raises(Interrupted):
        go(tmp_path / "c", fits(), at(2, 1, send(signal.SIGTERM)), roll_back=False)
    halved = fits()
    with Run(tmp_path / "a", {}, quiet=True, resume=True) as run:
        Session(run, halved, IDENTITY).resume()
    assert halved.rate_scale == 0.5


def test_rolling_back_comes_to_an_end(fits, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Diverged, match="use a learning rate below 3.125e[+]28"):
        go(folder, fits(replace(OPTIONS, learning_rate=1e30)), roll_back=True)
    log = (folder / "log.txt").read_text()
    assert log.count("going back to") == 5
    assert list(checkpoints(folder).values())[-1] == (0, 0)
