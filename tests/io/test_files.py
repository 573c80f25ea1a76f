"""Files that are written whole: where the path is a link, a device, or a pipe."""

import os
import stat
import subprocess
import sys
from pathlib import Path

from dsonas_mx.io.files import atomic, write_json

import pytest


def test_a_link_stays_one(tmp_path):
    """Its target is replaced, be it there already or not, in whichever folder."""
    (tmp_path / "far").mkdir()
    for name, old in (("old", "before"), ("new", None)):
        target, link = tmp_path / "far" / name, tmp_path / name
        if old is not None:
            target.write_text(old)
        link.symlink_to(Path("far") / name)
        write_json(link, [1])
        assert link.is_symlink()
        assert target.read_text() == "[\n 1\n]\n"
    assert sorted(os.listdir(tmp_path)) == ["far", "new", "old"]
    assert sorted(os.listdir(tmp_path / "far")) == ["new", "old"]


def test_a_pipe_is_written_to(tmp_path):
    """If somebody reads: nobody is waited for."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="a pipe that nobody reads: .*pipe'"):
        write_json(pipe, {"a": 1})
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_json(pipe, {"a": 1})
    assert os.read(reader, 99) == b'{\n "a": 1\n}\n'
    os.close(reader)
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_device_stays_one(tmp_path):
    """/dev/null, and a link to a device that is full, which is said with the name that was given.

    The device is a node of our own where one can be made, so that a failure breaks no machine.
    """
    link = tmp_path / "link"
    link.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as error:
        write_json(link, {})
    assert error.value.filename == str(link)
    null = tmp_path / "null"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except OSError:
        pytest.skip("making a device needs root")
    write_json(null, {})
    assert stat.S_ISCHR(os.stat(null).st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "null"]


def test_standard_output_is_not_begun_anew(tmp_path):
    """Where it is a file, what was printed before stays, and nothing takes its place."""
    program = (
        "from dsonas_mx.io.files import write_json; import os; os.write(1, b'first\\n')\n"
        "write_json('/dev/stdout', {}); print('last')"
    )
    with open(tmp_path / "out", "ab") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True, cwd=ROOT)
    assert (tmp_path / "out").read_text() == "first\n{}\nlast\n"


def test_nothing_is_left_of_a_block_that_fails(tmp_path):
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(KeyError), atomic(tmp_path / "link") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert os.listdir(tmp_path) == ["link"]


ROOT = Path(__file__).resolve().parents[2]
