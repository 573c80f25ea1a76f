"""The demo: it removes nothing of others, goes the whole way, and ends with what failed."""

import json
import subprocess
from pathlib import Path

from dsonas_mx import Architecture, SearchSpace

import pytest

ROOT = Path(__file__).resolve().parents[2]

SEARCH, TRAIN, EXPORT = "train/search_cifar.py", "train/train_cifar.py", "tools/export.py"


@pytest.mark.parametrize(
    "place, content",
    [
        ("thesis.txt", "mine"),
        ("search/notes.txt", "mine"),
        ("search/args.json", '{"options": {"demo": false}}'),  # somebody's own search
        ("train/args.json", "damaged"),
    ],
)
def test_the_demo_removes_nothing_but_a_demo(script, tmp_path, place, content):
    precious = tmp_path / "folder" / place
    precious.parent.mkdir(parents=True)
    precious.write_text(content)
    status, out, err = script("tools/demo.py", "--folder", tmp_path / "folder")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "is not from a demo: remove it, or give another --folder" in err
    assert precious.read_text() == content


@pytest.mark.parametrize("complete", [True, False])
def test_the_demo_goes_the_whole_way(script, tmp_path, monkeypatch, complete):
    """Which scripts it runs, in order, and its summary; what they do is tested above."""
    folder = tmp_path / "demo"
    (folder / "search").mkdir(parents=True)
    if complete:
        (folder / "result.json").write_text("{}")
    (folder / "search" / "args.json").write_text('{"options": {"demo": true}}')
    space = SearchSpace(blocks=(1, 1, 1), width=8, in_channels=1, image_size=28)
    found = Architecture.random(space, 0, connections=20)
    errors = iter([0.25, 0.5])
    called = []

    def run(command, check):
        name = Path(command[1]).relative_to(ROOT).as_posix()
        words = dict(zip(command[2:], command[3:]))
        called.append(name)
        target = Path(words["--save-dir"]) if "--save-dir" in words else None
        if name == SEARCH:
            assert folder.exists() != complete  # a complete demo is gone, another goes on
            assert "--resume" in command
            target.mkdir(parents=True, exist_ok=True)
            found.save(target / "architecture.json")
        elif name == TRAIN:
            target.mkdir()
            option = "--architecture" if target.name == "train" else "--like"
            assert Architecture.load(words[option]) == found
            assert words.get("--random") == (None if target.name == "train" else "share")
            result = {"test_error": next(errors), "parameters": 1, "multiply_adds": 2}
            result["connections"] = 20
            (target / "result.json").write_text(json.dumps(result))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    status, out, err = script("tools/demo.py", "--folder", folder)
    assert (status, err) == (0, "")
    assert called == [SEARCH, TRAIN, TRAIN, EXPORT, "tools/plot.py", "tools/plot.py"]
    assert json.loads((folder / "result.json").read_text()) == {
        "connections": 20,
        "parameters": 1,
        "multiply_adds": 2,
        "test_error": 0.25,
        "random_test_error": 0.5,
    }
    for shown in ("20 of 124", "25.00%", "50.00%"):
        assert shown in out


def test_the_demo_ends_with_the_script_that_failed(script, tmp_path, monkeypatch):
    monkeypatch.setattr(
        subprocess, "run", lambda command, check: subprocess.CompletedProcess([], 3)
    )
    status, _, _ = script("tools/demo.py", "--folder", tmp_path / "demo")
    assert status == 3
    assert not (tmp_path / "demo" / "result.json").exists()
