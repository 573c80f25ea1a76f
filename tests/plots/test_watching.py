"""Watching a run: TensorBoard's events, JSON lines, pictures that follow."""

import json
import struct
import sys
import threading
import time
from pathlib import Path

from dsonas_mx.plots.follow import follow
from dsonas_mx.plots.tensorboard import Board
from dsonas_mx.runs.folder import Run
from dsonas_mx.space.mobile import MobileSpace
from dsonas_mx.space.mobile_architecture import MobileArchitecture

import numpy as np
import pytest

SEARCH = ["--demo", "--levels", 1, "--operations", "avg,sep3", "--width", 4, "--batch-size", 1000]
SEARCH += ["--pretrain-epochs", 1, "--num-epochs", 1]
ROW = {"epoch": 0, "learning_rate": 0.1, "train_loss": 1.0, "train_error": 0.5, "test_loss": 2.0}
ROW["test_error"] = 0.6


def events(folder):
    """What is in the event files of a folder, in order."""
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(Path(folder).glob("events.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            found.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += 16 + length
    return found


def values(found, tag):
    return [(event.step, v) for event in found for v in event.summary.value if v.tag == tag]


def test_board_has_scalars_scales_and_the_block(tmp_path, tiny_space, some_architecture):
    architecture = some_architecture(tiny_space())
    board = Board(tmp_path)
    scales = {"input->1.sep3": 0.0, "input->1.max": 0.5, "1.max->output": 1.5}
    for epoch in range(2):
        row = {"epoch": epoch, "phase": "search", "weight_loss": 2.5 - epoch, "lambda_loss": None}
        board.add(row, scales, architecture)
    board.close()
    found = events(tmp_path / "tensorboard")
    losses = [(step, value.simple_value) for step, value in values(found, "weight_loss")]
    assert losses == [(0, 2.5), (1, 1.5)]
    assert not values(found, "phase") and not values(found, "lambda_loss")
    (_, first), _ = values(found, "lambdas")
    assert (first.histo.num, first.histo.sum, first.histo.max) == (3, 2.0, 1.5)
    ((step, picture),) = values(found, "block")  # once: it has not changed
    assert step == 0
    assert picture.image.encoded_image_string[:4] == b"\x89PNG"
    assert picture.image.height > 100


@pytest.mark.parametrize("what", ["share", "full", "mobile"])
def test_board_has_every_kind_of_architecture(tmp_path, tiny_space, some_architecture, what):
    if what == "mobile":
        architecture = MobileArchitecture.complete(MobileSpace(8, 8, (8,) * 6, 8, (1,) * 6, 3))
    else:
        architecture = some_architecture(tiny_space(scope=what))
    board = Board(tmp_path, note=pytest.fail)
    board.add({"epoch": 1}, None, architecture)
    board.close()
    assert len(values(events(tmp_path / "tensorboard"), "block")) == 1


def test_board_gives_up_and_says_so_once(tmp_path, monkeypatch):
    """On a full disk, from any moment on; without a thread that others wait for."""
    notes = []
    (tmp_path / "file").write_text("")
    board = Board(tmp_path / "file", note=notes.append)
    board.add(ROW)
    board.close()
    assert notes == [
        f"{tmp_path}/file/tensorboard: [Errno 20] Not a directory: "
        f"'{tmp_path}/file/tensorboard': TensorBoard gets no more of this run"
    ]
    threads = threading.active_count()
    board = Board(tmp_path, note=notes.append)
    assert threading.active_count() == threads
    board._writer._py_recordio_writer._writer.close()
    board._writer._py_recordio_writer._writer = open("/dev/full", "wb")
    for _ in range(20):
        board.add(ROW)
    board.close()
    (note,) = notes[1:]
    assert "No space left on device" in note


def test_search_writes_events_and_json(script, tmp_path):
    run = tmp_path / "run"
    status, out, err = script(
        "train/search_cifar.py", *SEARCH, "--save-dir", run, "--tensorboard", "--log-format", "json"
    )
    assert (status, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert all(set(line) >= {"time", "message"} for line in lines)
    epochs = [line for line in lines if "epoch" in line]
    assert [line["epoch"] for line in epochs] == [1, 2]
    rows = np.genfromtxt(run / "metrics.csv", delimiter=",", names=True)
    assert [line["weight_loss"] for line in epochs] == rows["weight_loss"].tolist()
    assert lines[-1]["message"].startswith("saved ")
    found = events(run / "tensorboard")
    losses = [value.simple_value for _, value in values(found, "weight_loss")]
    np.testing.assert_allclose(losses, rows["weight_loss"], rtol=1e-6)
    assert len(values(found, "lambdas")) == 2
    assert values(found, "block")
    # Neither changes the result, so neither has to be given again.
    status, out, _ = script("train/search_cifar.py", *SEARCH, "--save-dir", run, "--resume")
    assert status == 0
    assert "is finished: nothing to do" in out
    assert "tensorboard" not in (run / "architecture.json").read_text()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--gamma", "high"], "argument --gamma: invalid float value: 'high'"),
        (["--gpus", "0"], "--gpus 0: this MXNet was built without CUDA; install requir"),
        (["--lr", "1e30"], "use a learning rate below 1e+30"),
    ],
)
def test_an_error_is_a_line_of_json(script, tmp_path, words, message):
    words = [*SEARCH, *words, "--save-dir", tmp_path / "run", "--log-format", "json"]
    status, out, err = script("train/search_cifar.py", *words)
    (line,) = err.splitlines()
    line = json.loads(line)
    assert set(line) == {"time", "message", "status"}
    assert message in line["message"]
    assert status == line["status"] == (1 if "--lr" in words else 2)
    assert all(json.loads(line)["message"] for line in out.splitlines())


def test_a_missing_tensorboardx_is_one_line(script, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    status, _, err = script(
        "train/search_cifar.py", *SEARCH, "--save-dir", tmp_path / "run", "--tensorboard"
    )
    assert status == 2
    assert err == (
        "search_cifar.py: --tensorboard needs tensorboardX: "
        "pip install -r requirements-tensorboard.txt\n"
    )
    assert not (tmp_path / "run").exists()


def test_pictures_follow_a_run_to_its_end(tmp_path):
    folder = tmp_path / "run"
    goes_on = threading.Event()

    def work():
        with Run(folder, {}, quiet=True) as run:
            ready.set()
            for epoch in range(2):
                run.tables.append("metrics.csv", {**ROW, "epoch": epoch})
                assert goes_on.wait(20)
                goes_on.clear()

    ready = threading.Event()
    worker = threading.Thread(target=work)
    worker.start()
    assert ready.wait(60)
    drawn = []
    for path in follow(folder, seconds=0.02):
        drawn.append(path)
        goes_on.set()
    worker.join()
    assert len(drawn) >= 2
    assert set(drawn) == {folder / "curves.png"}
    before = (folder / "curves.png").read_bytes()
    assert list(follow(folder)) == [folder / "curves.png"]  # finished: once
    assert (folder / "curves.png").read_bytes() == before


def test_follow_waits_for_the_folder_the_first_epoch_and_who_goes_on(tmp_path):
    folder = tmp_path / "run"

    def begin(epoch):
        time.sleep(0.2)
        with pytest.raises(KeyboardInterrupt), Run(folder, {}, quiet=True, resume=epoch > 1) as run:
            time.sleep(0.2)
            run.tables.cut(run.tables.lengths() if epoch == 1 else {"metrics.csv": length})
            run.tables.append("metrics.csv", {**ROW, "epoch": epoch})
            raise KeyboardInterrupt  # it never ends well

    pictures = follow(folder, seconds=0.02)
    for epoch in (1, 2):
        before = time.monotonic()
        worker = threading.Thread(target=begin, args=(epoch,))
        worker.start()
        next(pictures)
        assert time.monotonic() - before >= 0.4
        worker.join()
        length = (folder / "metrics.csv").stat().st_size
