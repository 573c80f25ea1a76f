"""Error against cost: what is drawn is what the runs have."""

import json

from dsonas_mx.cost.count import count
from dsonas_mx.plots import draw_pareto, draw_runs
from dsonas_mx.plots.pareto import Point, front
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import SearchSpace

import numpy as np
import pytest
from matplotlib.image import imread

SCRIPT = "tools/plot.py"


def point(budget, error, cost):
    costs = {"multiply_adds": cost, "parameters": 2 * cost, "memory_access": 3 * cost}
    return Point(budget, "share", error, costs)


def test_front():
    #         best   beaten  best  beaten at the same cost  best
    costs = [1, 2, 3, 3, 7]
    errors = [0.5, 0.6, 0.4, 0.45, 0.1]
    assert front(costs, errors) == [0, 2, 4]
    assert front([7, 1], [0.1, 0.05]) == [1]


def test_points_and_fronts_of_each_budget():
    points = [point("none", 0.3, 10), point("none", 0.35, 20), point("mac", 0.2, 15)]
    figure = draw_pareto(points)
    assert len(figure.axes) == 3
    for axes, factor in zip(figure.axes, (1, 2, 3)):
        drawn = {c.get_gid(): np.array(c.get_offsets()).tolist() for c in axes.collections}
        assert drawn == {
            "none": [[10 * factor, 0.3], [20 * factor, 0.35]],
            "mac": [[15 * factor, 0.2]],
        }
        lines = {line.get_gid(): line.get_xdata() for line in axes.lines}
        assert list(lines["front of none"]) == [10 * factor]  # the other has a larger error
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["no budget", "adaptive MAC"]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "no network to draw"),
        ([point("power", 0.1, 1)], "budget must be none, flops, mac, latency, got 'power'"),
        ([point("none", float("nan"), 1)], "must be finite"),
    ],
)
def test_refused(points, message):
    with pytest.raises(ValueError, match=message):
        draw_pareto(points)


@pytest.fixture
def runs(tmp_path):
    """Folders of trainings: one of a budget, one from before there were any."""
    folders = []
    for seed, origin in enumerate(({"budget": "flops"}, {})):
        space = SearchSpace(blocks=(1, 1), width=4)
        folder = tmp_path / str(seed)
        folder.mkdir()
        found = Architecture.random(space, seed, connections=12, origin=origin)
        found.save(folder / "architecture.json")
        (folder / "result.json").write_text(json.dumps({"test_error": 0.1 + 0.1 * seed}))
        folders.append(folder)
    return folders


def test_runs_are_drawn(runs, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("dsonas_mx.plots.draw_pareto", lambda p: seen.extend(p) or draw_pareto(p))
    path = draw_runs(runs, tmp_path / "pictures")
    assert path == tmp_path / "pictures" / "pareto.png" and imread(path).std() > 0
    assert [(p.budget, p.scope, p.error, p.name) for p in seen] == [
        ("flops", "share", 0.1, "0"),
        ("none", "share", 0.2, "1"),
    ]
    expected = count(Architecture.load(runs[0] / "architecture.json"))
    assert seen[0].costs["memory_access"] == expected.memory_access


def test_the_tool_draws_many_runs(runs, tmp_path, script):
    status, out, _ = script(SCRIPT, "pareto", *runs, "--out", tmp_path)
    assert (status, out) == (0, f"{tmp_path / 'pareto.png'}\n")
    assert (tmp_path / "pareto.png").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [("{}", "no test_error that is a number"), ("x", "no test_error"), (None, "No such file")],
)
def test_the_tool_refuses_in_one_line(runs, content, message, script):
    path = runs[1] / "result.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    status, _, err = script(SCRIPT, "pareto", *runs)
    assert status == 2 and len(err.splitlines()) == 1
    assert str(path) in err and message in err


def test_one_run_at_a_time_without_pareto(runs, script):
    status, _, err = script(SCRIPT, *runs)
    assert status == 2 and "one run at a time" in err


def test_marks_are_told_apart_and_points_have_names():
    costs = (28_400, 28_410, 28_420)
    points = [
        point("none", 0.1700 + 0.0002 * number, cost)._replace(name=f"run{number}")
        for number, cost in enumerate(costs)
    ]
    figure = draw_pareto(points)
    figure.canvas.draw()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            marks = [label.get_text() for label in axis.get_ticklabels()]
            assert len(set(marks)) == len(marks) > 2
        assert {text.get_text() for text in axes.texts} == {"run0", "run1", "run2"}
    many = [
        point("none", 0.1 + index / 100, 1 + index)._replace(name=str(index)) for index in range(13)
    ]
    assert [text.get_text() for text in draw_pareto(many).axes[0].texts] == ["0"]  # the front
