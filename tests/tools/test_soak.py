"""The soak, with few kills: `make soak` does fifty."""

import json

import pytest


@pytest.mark.slow
def test_a_few_kills(script, tmp_path):
    folder = tmp_path / "soak"
    status, out, err = script("tools/soak.py", "--folder", folder, "--kills", 4, "--seed", 1)
    assert (status, err) == (0, "")
    result = json.loads((folder / "result.json").read_text())
    assert sum(result["kills"].values()) == 4
    assert result["kills"]["inside a checkpoint"] > 0
    assert result["different"] == []
    assert "has ended; files that differ: 0" in out


def test_nothing_is_removed(script, tmp_path):
    """Not even another soak, or what looks like one."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "thesis.txt").write_text("mine")
    status, _, err = script("tools/soak.py", "--folder", tmp_path)
    assert status == 2
    assert f"{tmp_path} is not empty: remove it, or give another --folder" in err
    assert (tmp_path / "whole" / "thesis.txt").read_text() == "mine"
    status, _, err = script("tools/soak.py", "--folder", tmp_path / "new", "--kills", 0)
    assert (status, "--kills must be at least 1, got 0" in err) == (2, True)
