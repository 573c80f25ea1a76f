"""tools/compare.py latency, and the networks that it compares with."""

import json
from pathlib import Path

from dsonas_mx.cost.traced import count_traced
from dsonas_mx.io.markdown import renew

import pytest

from symbols.published import NETWORKS, SIDE

ROOT = Path(__file__).resolve().parents[2]
CLOSE = 0.02
# Where the count is another than the published one: DARTS has the parameters that others count too,
# and their multiply-adds of convolutions and classifier; 3.4M are MobileNetV2's 3.47M without BN.
COUNTED = {"DARTS": (4_718_752, 529.9e6), "MobileNetV2": (3_503_872, 3e8)}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_size(name):
    network = NETWORKS[name]
    cost = count_traced(network.build(), SIDE)
    parameters, adds = COUNTED.get(name, (network.parameters, network.multiply_adds))
    assert cost.multiply_adds == pytest.approx(adds, rel=CLOSE)
    if parameters is not None:
        assert cost.parameters == pytest.approx(parameters, rel=CLOSE)


def test_latency_beside_the_papers(script, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "tools")
    words = ("latency", "--networks", "MobileNetV2", "--rounds", 2)
    status, out, err = script("tools/compare.py", *words, "--json")
    assert (status, err) == (0, "")
    rows = json.loads(out)["networks"]
    assert rows["MobileNet"]["ratio"] == 1
    assert rows["MobileNetV2"]["ratio"] == pytest.approx(
        rows["MobileNetV2"]["ms"] / rows["MobileNet"]["ms"]
    )
    assert rows["MobileNetV2"]["table3_ratio"] == pytest.approx(20.5 / 11.7)
    assert rows["MobileNetV2"]["table5_ratio"] is None
    document = tmp_path / "document.md"
    document.write_text("before\n<!-- latency-1 -->\nold\n<!-- /latency-1 -->\nbehind\n")
    status, out, _ = script("tools/compare.py", *words, "--into", document)
    text = document.read_text(encoding="utf-8")
    assert text == f"before\n<!-- latency-1 -->\n{out}<!-- /latency-1 -->\nbehind\n"
    document.write_text("before\n")
    with pytest.raises(ValueError, match="document.md has no lines <!-- latency-1 --> and"):
        renew(document, "latency-1", "table")
    line = next(line for line in out.splitlines() if "MobileNetV2" in line)
    assert line.startswith("| MobileNetV2 | 3.50M (3.4M) | 300.8M (300M) |")
    assert line.endswith("| 1.75 | – |")


def test_tables_fit_into_a_terminal(script, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.setenv("COLUMNS", "60")
    words = ("tools/compare.py", "tables", "--tables", "7")
    status, out, err = script(*words, "--format", "text")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 60
    assert "run_experiment.py" in out and "  exact here: supernet: 10,031,130 parameters" in out
    assert script(*words)[1].startswith("## ")  # not a terminal
