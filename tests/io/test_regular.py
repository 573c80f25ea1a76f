"""What comes from others is opened at one border: regular files only, of a size that is known."""

import os
import signal

from dsonas_mx.data import recordio
from dsonas_mx.deploy.card import Card, sha256
from dsonas_mx.io.files import open_regular, read_regular
from dsonas_mx.io.params_file import read_params
from dsonas_mx.io.symbol_file import read_symbol
from dsonas_mx.latency.table import Table
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
