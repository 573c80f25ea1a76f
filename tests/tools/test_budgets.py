"""The experiment about budgets: what is run, and the table."""

import importlib.util
import json
from pathlib import Path

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.cost.count import count

import pytest

pytest.importorskip("dsonas_mx.latency.measure")
SCRIPT = Path(__file__).parents[2] / "tools" / "budgets.py"
KEYS = ["scope", "budget", "seed", "connections", "flops_spread", "mac"]
KEYS += ["latency_ms", "latency_noise_ms", "test_error"]


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """The tool with searches and trainings that take no time; what it ran is `tool.ran`."""
    spec = importlib.util.spec_from_file_location("tools_budgets", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ran = []

    def run_row(folder, key):
        module.ran.append(key)
        (folder / "train").mkdir(parents=True)
        space = SearchSpace(scope=key[0], blocks=(1, 1), width=4, image_size=8)
        connections = [20] if key[0] == "share" else [10, 30]
        Architecture.random(space, key[2], connections).save(folder / "architecture.json")
        result = {"test_error": 0.1 * (key[2] + 1)}
        (folder / "train" / "result.json").write_text(json.dumps(result))
        return "done"

    monkeypatch.setattr(module, "run_row", run_row)
    monkeypatch.setattr(module, "RUNS", 5)
    module.ask = lambda *words: module.main(
        module.arguments().parse_args(
            [*words, "--runs", str(tmp_path / "runs"), "--results", str(tmp_path)]
        )
    )
    return module


def test_rows_are_run_once(tool, tmp_path, capsys):
    tool.ask("--seeds", "2", "--rows", "full-mac,share-none")
    assert sorted(tool.ran) == [
        (s, b, i) for s, b in (("full", "mac"), ("share", "none")) for i in (0, 1)
    ]
    rows = json.loads((tmp_path / "budgets.json").read_text())
    assert [list(row) for row in rows] == [KEYS] * 4
    full = next(row for row in rows if row["scope"] == "full")
    found = Architecture.load(tmp_path / "runs" / "full-mac-0" / "architecture.json")
    assert (full["connections"], full["mac"]) == (40, count(found).memory_access)
    assert full["flops_spread"] > 0 and full["latency_ms"] > 0 and full["test_error"] == 0.1
    assert (tmp_path / "budgets.md").read_text() in capsys.readouterr().out
    tool.ran.clear()
    tool.ask("--seeds", "3", "--rows", "share-none")
    assert tool.ran == [("share", "none", 2)]
    assert len(json.loads((tmp_path / "budgets.json").read_text())) == 5


def test_the_table_has_means_and_deviations(tool):
    row = dict.fromkeys(KEYS, 0.5)
    rows = [{**row, "scope": "share", "budget": "none", "mac": mac} for mac in (1000, 3000, 5000)]
    head, rule, line = tool.table_of(rows).splitlines()
    assert head.startswith("| scope | budget | seeds | connections |")
    assert head.count("|") == rule.count("|") == line.count("|")
    assert line.startswith("| share | none | 3 |")
    assert "| 3 ± 2 |" in line  # over n − 1, as all other tables
    assert "| 50.00 ± 0.00 |" in line  # per cent
    assert "| 1 |" in tool.table_of(rows[:1]).splitlines()[2]  # of one there is none


def test_rows_that_are_not_known(tool):
    with pytest.raises(ValueError, match="--rows must be out of full-none,"):
        tool.ask("--rows", "full-power")
