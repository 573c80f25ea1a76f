"""What comes from others is opened at one border: regular files only, of a size that is known."""

import ast
import os
import signal
from pathlib import Path

from dsonas_mx.data import recordio
from dsonas_mx.deploy.card import Card
from dsonas_mx.io.files import open_regular, read_regular, sha256
from dsonas_mx.io.params_file import read_params
from dsonas_mx.io.symbol_file import read_symbol
from dsonas_mx.latency.table import Table
from dsonas_mx.report import write_report
from dsonas_mx.runs.folder import Run
from dsonas_mx.space.mobile_architecture import load_architecture

import pytest

READERS = {
    "architecture": load_architecture,
    "card": Card.load,
    "digest": sha256,
    "index": recordio.read_index,
    "params": read_params,
    "records": lambda path: list(recordio.read(path)),
    "scan": lambda path: list(recordio.scan(path, [])),
    "symbol": read_symbol,
    "table": lambda path: Table.load(path, None),
}


@pytest.fixture
def in_time():
    """What waits for a writer that never comes fails instead."""

    def late(*_):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", READERS)
def test_nobody_waits_for_a_pipe_or_reads_a_device(in_time, tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(path)
        with pytest.raises(ValueError, match="link: no regular file, but a pipe or a device"):
            READERS[name](tmp_path / "link")
    with pytest.raises(IsADirectoryError):
        READERS[name](tmp_path)


def test_a_size_that_nobody_needs_is_not_read(tmp_path):
    path = tmp_path / "holes"
    with open(path, "wb") as file:
        file.truncate(2**40)  # takes no room
    with pytest.raises(ValueError, match="holes: has more than 67,108,864 bytes"):
        Card.load(path)
    with pytest.raises(ValueError, match="has more than 3 bytes"):
        read_regular(path, 3)
    path.write_bytes(b"abc")
    assert read_regular(path, 3) == b"abc"
    with open_regular(path) as file:
        assert file.read(2) == b"ab"


OPENING = {"read_text", "read_bytes", "copyfile"}  # and open()
# Who opens anything by itself, and why that waits for nobody.
BY_THEMSELVES = {
    "_compat": "what the kernel tells",
    "data/coco": "an image that is a regular file",
    "data/packing": "a temporary file",
    "data/recordio": "a temporary file",
    "deploy/server": "what its parent has checked",
    "engine/memory": "what the kernel tells",
    "engine/native": "what the kernel tells, and its own sources",
    "experiments/paper": "a file of the package",
    "experiments/runner": "without waiting",
    "io/files": "the border itself",
    "io/params_file": "a temporary file",
    "latency/measure": "what the kernel tells",
    "report/page": "a file of the package",
    "runs/folder": "without waiting",
    "runs/lock": "where `check_folder` has looked",
    "runs/tables": "where `check_folder` has looked",
}


def test_there_is_no_other_border():
    """Whoever opens a file by itself is listed, with why nobody can make it wait."""
    package = Path(__file__).resolve().parents[2] / "dsonas_mx"
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                attribute = getattr(node.func, "attr", "")
                if getattr(node.func, "id", "") == "open" or attribute in OPENING:
                    found.add(path.relative_to(package).with_suffix("").as_posix())
    assert found == set(BY_THEMSELVES)


@pytest.mark.parametrize(
    "name", ["architecture.json", "args.json", "log.txt", "metrics.csv", "checkpoint/lock"]
)
def test_a_run_waits_for_no_pipe_in_its_folder(in_time, tmp_path, name):
    folder = tmp_path / "run"
    with Run(folder, {}, quiet=True):
        pass
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(ValueError, match=f"{name}: no regular file, but a pipe: remove it"):
        Run(folder, {}, quiet=True, resume=True)


def test_a_table_that_is_a_device_is_not_read(in_time, tmp_path):
    with Run(tmp_path / "run", {}, quiet=True) as run:
        (run.folder / "metrics.csv").symlink_to("/dev/zero")
        with pytest.raises(ValueError, match=r"metrics.csv: no regular file"):
            run.tables.cut({"metrics.csv": 10})


def test_a_report_waits_for_no_picture(in_time, tmp_path):
    (tmp_path / "run" / "pictures").mkdir(parents=True)
    (tmp_path / "run" / "result.json").write_text("{}")
    os.mkfifo(tmp_path / "run" / "pictures" / "0.png")
    with pytest.raises(ValueError, match="0.png: no regular file"):
        write_report([tmp_path / "run"], tmp_path / "page.html")
