"""Checkpoints: whole or not there, exact, and nothing in them is believed unchecked."""

import hashlib
import json
import os
import struct
import sys
from pathlib import Path

from dsonas_mx.runs import checkpoint
from dsonas_mx.runs.checkpoint import Checkpoints, is_checkpoint, read_checkpoint
from dsonas_mx.training.state import State, take

import numpy as np
import pytest

STATE = State(
    {"epoch": 3, "rate": 0.1 + 0.2, "names": ["λ", "w"], "none": None},
    {
        "net.0/w": np.float32([[0.1, -0.0], [np.float32(1e-45), 3]]),
        "tally/weights": np.zeros((0, 3), np.float32),
        "counts": np.int64([1, 2]),
    },
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_same(first, second):
    assert first.values == second.values
    assert list(first.arrays) == list(second.arrays)
    for name, array in first.arrays.items():
        other = second.arrays[name]
        assert (array.dtype, array.shape) == (other.dtype, other.shape)
        assert array.tobytes() == other.tobytes()


def numbered(number):
    return State({"number": number}, {"x": np.full((2,), number, np.float32)})


def test_a_state_comes_back_to_the_last_bit(tmp_path):
    path = Checkpoints(tmp_path / "checkpoint").save(STATE)
    assert path == tmp_path / "checkpoint" / "000001"
    assert names(path) == ["arrays.params", "state.json"]
    assert_same(read_checkpoint(path), STATE)


def test_those_that_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(numbered(1), best="000001")
    checkpoints.save(numbered(2), keep={"000001"})
    assert names(tmp_path) == ["000001", "000002", "best"]
    checkpoints.save(numbered(3), keep={"000001", "000002"})
    checkpoints.save(numbered(4), keep={"000003"}, best="000004")
    assert names(tmp_path) == ["000003", "000004", "best"]
    assert read_checkpoint(tmp_path / "best").values == {"number": 4}
    again = Checkpoints(tmp_path)
    assert [path.name for path in again.paths()] == ["000004", "000003"]
    assert again.next.name == "000005"
    assert Checkpoints(tmp_path / "none").newest(print) is None


def test_best_where_there_are_no_links(tmp_path, monkeypatch):
    """As on exFAT: a file with its name."""

    def refuse(*paths, **how):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    checkpoints = Checkpoints(tmp_path)
    for name in ("000001", "000002"):
        checkpoints.save(numbered(int(name)), best=name)
        assert (tmp_path / "best").read_text() == f"{name}\n"
        assert is_checkpoint(tmp_path / "best")
        assert read_checkpoint(tmp_path / "best").values == {"number": int(name)}
    assert names(tmp_path) == ["000002", "best"]
    (tmp_path / "best").write_text("../000002")
    assert not is_checkpoint(tmp_path / "best")


# Damage


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = {
    "cut off": lambda content: content[:-5],
    "empty": lambda content: b"",
    "one bit": flip,
    "other": lambda content: b"[1, 2]",
}


@pytest.mark.parametrize("file", ["state.json", "arrays.params"])
@pytest.mark.parametrize("damage", [*DAMAGE, "gone"])
def test_the_one_before_is_taken(tmp_path, file, damage):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(numbered(1))
    newest = checkpoints.save(numbered(2), keep={"000001"}) / file
    if damage == "gone":
        newest.unlink()
    else:
        newest.write_bytes(DAMAGE[damage](newest.read_bytes()))
    notes = []
    path, state = checkpoints.newest(notes.append)
    assert (path.name, state.values) == ("000001", {"number": 1})
    (note,) = notes
    assert str(newest) in note and note.endswith("; trying the one before")
    with pytest.raises((ValueError, OSError), match="000002"):
        read_checkpoint(newest.parent)
    newest = tmp_path / "000001" / file
    newest.unlink()
    with pytest.raises(ValueError, match="no checkpoint in .* can be used: start again"):
        checkpoints.newest(notes.append)


def test_any_bit_may_be_wrong(tmp_path):
    path = Checkpoints(tmp_path).save(STATE)
    for name in ("state.json", "arrays.params"):
        whole = (path / name).read_bytes()
        generator = np.random.RandomState(0)
        for position in generator.choice(len(whole), 60, replace=False):
            bit = 1 << generator.randint(8)
            damaged = bytearray(whole)
            damaged[position] ^= bit
            (path / name).write_bytes(damaged)
            try:
                assert_same(read_checkpoint(path), STATE)  # white space between two fields
                assert whole[position : position + 1].isspace()
            except (ValueError, OSError) as error:
                assert "000001" in str(error)
        for length in range(0, len(whole), 7):
            (path / name).write_bytes(whole[:length])
            with pytest.raises((ValueError, OSError), match="000001"):
                read_checkpoint(path)
        (path / name).write_bytes(whole)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def rewrite(path, change):
    """Change state.json and mend its checksum, as whoever means harm would."""
    content = json.loads((path / "state.json").read_text())
    change(content)
    content["sha256"]["state"] = sha256(json.dumps(content["state"], sort_keys=True).encode())
    (path / "state.json").write_text(json.dumps(content))


def test_what_is_not_finite_is_refused(tmp_path):
    path = Checkpoints(tmp_path).save(STATE)
    arrays = (path / "arrays.params").read_bytes()
    nan = arrays.replace(struct.pack("<f", 3), struct.pack("<f", np.nan))
    (path / "arrays.params").write_bytes(nan)
    rewrite(path, lambda content: content["sha256"].update(arrays=sha256(nan)))
    with pytest.raises(ValueError, match=r"net.0/w is not finite"):
        read_checkpoint(path)
    (path / "state.json").write_text('{"format": 1, "state": NaN}')
    with pytest.raises(ValueError, match="NaN is no number"):
        read_checkpoint(path)


def test_hostile_json_is_refused(tmp_path):
    path = Checkpoints(tmp_path).save(STATE)
    for text in ("[" * 100_000, "{}", '{"format": 1, "sha256": 1, "state": {}}', "null", '"x'):
        (path / "state.json").write_text(text)
        with pytest.raises(ValueError, match="state.json is damaged"):
            read_checkpoint(path)


def test_another_format_is_refused(tmp_path):
    path = Checkpoints(tmp_path).save(STATE)
    rewrite(path, lambda content: content.update(format=2))
    with pytest.raises(ValueError, match="is of format 2, this program reads 1"):
        read_checkpoint(path)


def test_shapes_and_names_are_checked():
    arrays = {"a": np.zeros((2, 3))}
    with pytest.raises(ValueError, match=r"a has the shape \(2, 3\), not \(3,\)"):
        take(dict(arrays), "a", (3,))
    with pytest.raises(ValueError, match="b is missing"):
        take(arrays, "b", (3,))
    assert take(arrays, "a", (2, 3)).shape == (2, 3)
    assert not arrays


# Writing


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    """What was there stays, what was begun goes."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(numbered(1))
    before = (tmp_path / "000001" / "state.json").read_bytes()

    def full(path, content):
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(numbered(2))
    assert names(tmp_path) == ["000001"]
    assert (tmp_path / "000001" / "state.json").read_bytes() == before
    monkeypatch.undo()
    assert checkpoints.save(numbered(2)).name == "000002"


KILLED = """
import os, signal, sys
from dsonas_mx.runs.checkpoint import Checkpoints
from dsonas_mx.training.state import State
import numpy as np

left = int(sys.argv[2])

def hook(event, arguments):
    global left
    if event.startswith(("open", "os.", "shutil.")) and sys.argv[1] in str(arguments):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

checkpoints = Checkpoints(sys.argv[1])
for number in (1, 2, 3):
    if number == 3:
        sys.addaudithook(hook)
    keep = {f"{number - 1:06d}"}
    checkpoints.save(State({"number": number}, {"x": np.ones(number)}), keep, f"{number:06d}")
print(left)
"""


def test_killed_at_every_call_to_the_file_system(tmp_path):
    """Forked before each, since importing MXNet takes longer than all of it."""
    program = compile(KILLED, "killed", "exec")
    found = []
    for count in range(1, 100):
        folder = tmp_path / str(count)
        folder.mkdir()
        child = os.fork()
        if not child:
            sys.argv[1:] = [str(folder), str(count)]
            with open(os.devnull, "w") as sys.stdout:
                exec(program, {})
            os._exit(0)
        _, status = os.waitpid(child, 0)
        path, state = Checkpoints(folder).newest(pytest.fail)
        assert path.name == f"00000{state.values['number']}"
        assert read_checkpoint(folder / "best").values["number"] in (2, 3)
        assert not any(name.startswith(".") for name in names(folder))
        found.append(state.values["number"])
        if not os.WIFSIGNALED(status):
            break
    assert len(found) > 15
    assert found == sorted(found)
    assert set(found) == {2, 3}
