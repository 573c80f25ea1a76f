"""paper.json has what the paper says; tools/compare.py tables puts ours beside it."""

import csv
import io
import json
import re
from pathlib import Path

from dsonas_mx.experiments.paper import TABLES, paper_difference, read_paper

import pytest

ROOT = Path(__file__).resolve().parents[2]
SEED = ROOT.parents[1] / "shared" / "seed"


def numbers(value):
    """A value as the paper prints it."""
    if isinstance(value, dict):
        return [printed for part in value.values() for printed in numbers(part)]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return []
    return [value]


def test_every_table_is_there():
    tables = read_paper()
    assert tuple(tables) == TABLES
    counts = [len(table["rows"]) for table in tables.values()]
    assert counts == [24, 21, 6, 4, 5, 8, 8, 4, 4]
    for table in tables.values():
        keys = {"name", *(column["key"] for column in table["columns"])}
        assert all(set(row) == keys for row in table["rows"])
        names = [row["name"] for row in table["rows"]]
        assert len(set(names)) == len(names)


def test_values_by_hand():
    tables = read_paper()
    rows = {(n, row["name"]): row for n, table in tables.items() for row in table["rows"]}
    assert rows["1", "DSO-NAS-share+cutout"]["error"] == {"mean": 2.74, "std": 0.07}
    assert rows["1", "random-full+cutout"]["parameters"] == {"mean": 3.5e6, "std": 1e5}
    assert rows["2", "OSNAS [44]"]["top5_error"] is None
    assert rows["2", "Inception-v1 [2]"]["multiply_adds"] == 1448e6
    assert rows["3", "DSO-NAS(CPU)"]["cpu_latency_ms"] == 21.9
    assert rows["4", "DSO-NAS-seg"]["miou"] == 76.4
    assert rows["5", "DARTS"]["top1_error"] == 26.9  # the names stand in one cell of the first row
    assert rows["5", "DSO-Nas-share+AL"]["cpu_latency_ms"] == 15.93
    assert rows["6", "60 epochs, full"]["error"] == {"mean": 3.08, "std": 0.10}
    assert rows["6", "150 epochs, share"]["pretrain_accuracy"] == 88.75
    assert rows["7", "no split, full"]["parameters"] == 2.9e6
    assert rows["8", "M = 5"]["search_gpu_hours"] == 30
    assert rows["9", "N = 2"]["top5_error"] == 8.6


def test_differences_by_hand():
    random = paper_difference("table1", "searched, share", "random, share")
    assert random == pytest.approx(0.0348 - 0.0274)
    assert paper_difference("table4", "DSO-NAS-seg", "MobileNetV2") == pytest.approx(-0.007)
    assert paper_difference("table9", "N = 4", "N = 2") == pytest.approx(0.001)
    assert paper_difference("imagenet", "full", "random, share") == pytest.approx(0.008)
    assert paper_difference("table1", "searched, share", "mine") is None


@pytest.mark.parametrize("number", TABLES)
def test_every_value_stands_in_the_paper(number):
    """Each number of a row is on one of the lines of its table in the paper's text."""
    texts = sorted(SEED.glob("*.txt"))
    if not texts:
        pytest.skip("the paper is not here")
    lines = texts[0].read_text(encoding="utf-8").splitlines()
    heading = next(i for i, line in enumerate(lines) if re.match(rf"TABLE {number}\b", line))
    part = lines[heading : heading + 32]
    end = next((i for i, line in enumerate(part[3:], 3) if line.startswith("TABLE")), len(part))
    found = [
        [float(word) for word in re.findall(r"\d+(?:\.\d+)?", line.replace(",", ""))]
        for line in part[:end]
    ]
    rows = read_paper()[number]["rows"]
    for row in rows:
        wanted = []
        for key, value in row.items():
            scale = 1e6 if key in ("parameters", "multiply_adds") else 1
            if key not in ("operations", "levels"):
                wanted += [number_ / scale for number_ in numbers(value)]
        assert wanted, row
        fits = [line for line in found if all(value in line for value in wanted)]
        assert fits, row["name"]


def test_experiments_do_rows_of_the_paper():
    for number, table in read_paper().items():
        names, rows = {row["name"] for row in table["rows"]}, table["runs"]
        path = ROOT / f"experiments/{table['experiment']}.json"
        given = json.loads(path.read_text("utf-8"))["rows"]
        done = {name for name, row in given.items() if "candidates" not in row}  # not the paper's
        assert set(rows) <= names
        if path.stem == f"table{number}":
            assert set(rows.values()) == done
        else:  # of several tables
            assert set(rows.values()) < done


@pytest.fixture
def results(tmp_path):
    row = {
        "n": 2,
        "test_error": {"mean": 0.25, "std": 0.01, "values": [0.24, 0.26]},
        "parameters": {"mean": 39000.0, "std": None, "values": [39000]},
        "connections": None,
        "hours": {"search": {"mean": 0.5, "std": 0.1, "values": [0.4, 0.6]}},
    }
    content = {"rows": {"searched, share": row}}
    (tmp_path / "table1_small.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def rows(script, results):
    """`rows(number)`: those of a table beside ours, by what they begin with."""

    def read(number):
        words = ("tables", "--tables", number, "--results", results)
        status, out, err = script("tools/compare.py", *words)
        assert (status, err) == (0, "")
        return by_first_cell(out)

    return read


def by_first_cell(text):
    return {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if "|" in line}


def test_tables(rows):
    lines = rows(1)
    ours = lines["DSO-NAS-share+cutout"]
    assert "2.74 ± 0.07" in ours
    assert "supernet: 10,031,130 parameters" in ours and "124 connections" in ours
    assert "--scale paper --rows 'searched, share'" in ours
    assert "error 25.00 ± 1.00 %, n = 2, 39,000 parameters, search 0.50 ± 0.10 hours" in ours
    assert lines["random-full+cutout"].endswith("| not run |")
    assert "not run" not in lines["PNAS [16]"]
    assert "25,624,430 parameters" in lines["DenseNet [64]"]
    assert "10,031,130 | 10,031,130" in lines["CIFAR-10, share"]
    assert "12,459,688 | 12,459,688" in lines["ImageNet, share"]


def test_networks_of_others_and_the_mobile_setting(rows):
    """MobileNet has the 569M that its authors say; the supernet has at least Proxyless in it."""
    lines = rows(3)
    assert "4,231,976 parameters, 568,740,352 multiply-adds" in lines["MobileNet [75]"]
    assert "7,119,848 parameters, 465,260,160" in lines["Proxyless(GPU) [53]*"]
    assert "supernet without λ: 24," in lines["DSO-NAS(GPU)"]


def test_networks_of_segmentation(rows):
    """The head that all have, and backbones whose sizes lie as far apart as in the paper."""
    lines = rows(4)
    sizes = [
        int(re.search(r"([\d,]+) parameters", lines[name])[1].replace(",", ""))
        for name in ("Mobilenet v1 [46]", "Mobilenet v2 [46]", "DSO-NAS-seg")
    ]
    assert 6.6e6 < sizes[0] - sizes[1] < 6.8e6  # 11.2M and 4.5M
    assert "supernet" in lines["DSO-NAS-seg"]


def test_other_measures_and_experiments_of_several_tables(script, tmp_path):
    """mIoU in table 4; ImageNet's one experiment in tables 2, 3 and 5, with what it is small of."""
    size = {"n": 1, "parameters": {"mean": 9.0, "std": None}, "hours": {}}
    row = {**size, "mean_iou": {"mean": 0.5, "std": None}}
    content = {"measure": "mean_iou", "description": "scenes", "rows": {"DSO-NAS-seg": row}}
    (tmp_path / "table4_small.json").write_text(json.dumps(content))
    row = {**size, "test_error": {"mean": 0.75, "std": None}}
    names = ("full", "share", "mobile, CPU")
    content = {"description": "enlarged", "rows": dict.fromkeys(names, row)}
    (tmp_path / "imagenet_small.json").write_text(json.dumps(content))
    words = ("tables", "--tables", "2,3,4,5", "--results", tmp_path)
    status, out, err = script("tools/compare.py", *words)
    assert (status, err) == (0, "")
    lines = by_first_cell(out)
    assert lines["DSO-NAS-seg"].endswith("| mIoU 50.00 %, n = 1, 9 parameters |")
    for name in ("DSO-NAS-full", "DSO-Nas-share", "DSO-NAS(CPU)"):
        assert lines[name].endswith("| error 75.00 %, n = 1, 9 parameters |")
    assert "search_imagenet.py --budget latency" in lines["DSO-NAS-share"]
    assert lines["DSO-NAS-share"].endswith("| not run |")  # which has adaptive latency
    assert "not run" not in lines["DARTS+ [49]*"]
    assert out.count("Small scale here: enlarged.") == 3
    assert "train_voc.py --model mobilenet_v2" in lines["Mobilenet v2 [46]"]


def test_other_formats(script, results):
    words = ("tables", "--tables", "6,9", "--results", results, "--format")
    status, out, _ = script("tools/compare.py", *words, "csv")
    assert status == 0
    rows = list(csv.reader(io.StringIO(out)))
    titles = {row[0] for row in rows}
    assert len(titles) == 3 and any(title.startswith("Table 9.") for title in titles)
    status, out, _ = script("tools/compare.py", *words, "html")
    assert out.count("<table>") == out.count("</table>") == 3
    status, _, err = script("tools/compare.py", "tables", "--tables", "10")
    assert (status, err) == (2, "compare.py: --tables must be of 1 to 9, got 10\n")
