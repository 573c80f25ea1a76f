"""The picture of every seed of a table."""

import json

from dsonas_mx.plots import draw_seeds

import numpy as np
import pytest

ROWS = {
    "found": {"n": 3, "seeds": [0, 1, 2], "test_error": {"mean": 0.2, "values": [0.1, 0.2, 0.3]}},
    "random": {"n": 2, "seeds": [2, 1], "test_error": {"mean": 0.35, "values": [0.4, 0.3]}},
    "none": {"n": 0, "seeds": [], "test_error": None},
}
COMPARED = {"reference": "found", "error_difference": {"mean": 0.1}, "low": 0.05, "high": 0.15}
RESULTS = {"name": "some", "scale": "small", "rows": ROWS, "comparisons": {"random": COMPARED}}


def test_every_seed_is_there_and_pairs_are_joined():
    (axes,) = draw_seeds(RESULTS).axes
    dots = {part.get_gid(): part.get_offsets() for part in axes.collections if part.get_gid()}
    assert sorted(dots) == ["found", "random"]
    np.testing.assert_allclose(dots["found"], [(0, 0.1), (0, 0.2), (0, 0.3)])
    np.testing.assert_allclose(dots["random"], [(1, 0.4), (1, 0.3)])
    pairs = [list(line.get_ydata()) for line in axes.lines if line.get_gid() == "pair"]
    assert sorted(pairs) == [[0.2, 0.3], [0.3, 0.4]]  # seeds 1 and 2
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["found\n", "random\n+10.0 (+5.0 to +15.0)"]


def test_nothing_done():
    with pytest.raises(ValueError, match="no run is done"):
        draw_seeds({**RESULTS, "rows": {"none": ROWS["none"]}})


def test_of_a_file(script, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(RESULTS))
    status, said, _ = script("tools/plot.py", "seeds", path, "--out", tmp_path)
    assert status == 0 and (tmp_path / "seeds.png").is_file() and "seeds.png" in said
    status, _, error = script("tools/plot.py", "seeds", path, path)
    assert status and "seeds takes one file" in error


def test_a_damaged_file_is_one_line(script, tmp_path):
    path = tmp_path / "results.json"
    for damaged in ([], {}, {"rows": []}, {**RESULTS, "rows": {"found": {"n": 1}}}):
        path.write_text(json.dumps(damaged))
        status, _, error = script("tools/plot.py", "seeds", path, "--out", tmp_path)
        assert (status, len(error.splitlines())) == (2, 1) and "results.json" in error
