"""Experiments as files: what is run for them, and what they refuse."""

import copy
import json
import re
from pathlib import Path

from dsonas_mx.experiments import experiment, files

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "experiments").glob("*.json"))
SCALES = [(path, scale) for path in FILES for scale in json.loads(path.read_text())["scales"]]
DATA = {
    "name": "some",
    "description": "a test",
    "data_set": "cifar",
    "seeds": [3, 5],
    "reference": "found",
    "search": {"width": 1, "gamma": 1},
    "train": {"wd": 1},
    "rows": {
        "found": {"search": {"levels": 1}},
        "random, share": {"of": "found", "train": {"random": "share", "wd": 2}},
        "full": {"train": {"full-network": True}},
    },
    "scales": {
        "paper": {},
        "small": {
            "seeds": [7],
            "search": {"width": 2, "levels": 9},
            "rows": {"found": {"search": {"gamma": 3}}},
        },
    },
}


def changed(path, value):
    data = copy.deepcopy(DATA)
    *parents, last = path.split("/")
    place = data
    for name in parents:
        place = place[name]
    place[last] = value
    return data


def test_tasks():
    tasks = files.from_json(DATA, "paper").tasks("out")
    names = [task.name for task in tasks]
    assert names[:4] == [
        "seed 3, found, search",
        "seed 3, found, train",
        "seed 3, random, share, train",
        "seed 3, full, train",
    ]
    assert len(names) == 8 and names[4] == "seed 5, found, search"
    search, train, random, full = tasks[:4]
    found = "out/found/seed3/search"
    assert search.words() == f"--width 1 --gamma 1 --levels 1 --seed 3 --save-dir {found}".split()
    assert (
        train.words()
        == (
            f"--wd 1 --seed 3 --architecture {found}/architecture.json "
            "--save-dir out/found/seed3/train"
        ).split()
    )
    assert (
        random.words()
        == (
            f"--wd 2 --random share --seed 3 --like {found}/architecture.json "
            "--save-dir out/random-share/seed3/train"
        ).split()
    )
    assert random.search is train.search is search
    assert full.search is None
    assert full.words() == "--wd 1 --full-network --seed 3 --save-dir out/full/seed3/train".split()


def test_the_nearer_option_wins():
    """All rows < the scale < the row < the row at that scale."""
    search = files.from_json(DATA, "small").tasks("out")[0]
    assert search.options == {"width": 2, "gamma": 3, "levels": 1, "seed": 7}


def test_false_takes_a_flag_away():
    assert (
        experiment.words({"a": True, "b": False, "c": 0, "d": 0.5}) == "--a --c 0 --d 0.5".split()
    )


def test_a_row_is_compared_with_its_own_reference():
    data = changed("rows/full/reference", "random, share")
    rows = {row.name: row.reference for row in files.from_json(data, "small").rows}
    assert rows == {"found": None, "random, share": "found", "full": "random, share"}


def test_tasks_of_some_rows():
    tasks = files.from_json(DATA, "paper").tasks("out", [0])
    chosen = experiment.of_rows(tasks, ["random, share"])
    assert [task.name for task in chosen] == [
        "seed 0, found, search",
        "seed 0, random, share, train",
    ]
    with pytest.raises(ValueError, match="no row 'other', only found, full, random, share"):
        experiment.of_rows(tasks, ["other"])


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("other", 1, "unknown field 'other'"),
        ("name", "a b", "name must be of small letters"),
        ("data_set", "../x", "data_set must be of small letters"),
        ("seeds", [], "seeds must be a list"),
        ("seeds", [1, 1], "more than once"),
        ("seeds", [True], "whole numbers"),
        ("scales/small/seeds", [-1], "at least 0"),
        ("scales", {"paper": {}}, "no scale 'small', only paper"),
        ("scales/small/other", 1, "scale 'small' has an unknown field 'other'"),
        ("scales/small/rows", {"x": {}}, "unknown field 'x'"),
        ("reference", "x", "reference must be one of the rows"),
        ("reference", ["x"], "reference must be one of the rows"),
        ("rows/found/reference", "x", "row 'found': reference must be one of the rows"),
        ("scales/small/transfer", "Image Net", "transfer must be of small letters"),
        ("rows", {}, "at least one row"),
        ("rows/found", 1, "row 'found' must be an object"),
        ("rows/found/steps", 1, "row 'found' has an unknown field 'steps'"),
        ("rows/found/of", "full", "leave out 'of'"),
        ("rows/full/of", "x", "which is no row"),
        ("rows/full/of", "random, share", "which has no search"),
        ("rows/Found", {}, "another name"),
        ("rows/λ", {}, "another name"),
        ("rows/full/candidates", {"train": {}}, "candidates of row 'full' has no field 'number'"),
        ("rows/full/candidates", {"number": 0}, "number must be"),
        ("rows/full/candidates", {"number": 2}, "must not see test images"),
        ("search/seed", 1, "sets seed"),
        ("search/gpus=7", True, "'gpus=7' is no name of an option"),
        ("search/gpus 7", True, "'gpus 7' is no name of an option"),
        ("search/cpus", 64, "sets cpus"),
        ("rows/red \x1b[31m", {}, "a row must be text without control characters"),
        ("description", "\x1b]0;title\x07", "description must be text without control"),
        ("description", 7, "description must be text"),
        ("train/pretrained", "/etc/x", "sets pretrained"),
        ("search/gamma", [1], "gamma must be a number"),
    ],
)
def test_refused(path, value, message):
    with pytest.raises(ValueError, match=message):
        files.from_json(changed(path, value), "small")


def test_a_field_that_is_missing():
    with pytest.raises(ValueError, match="no field 'rows'"):
        files.from_json({k: v for k, v in DATA.items() if k != "rows"}, "small")


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(changed("seeds", 1)))
    with pytest.raises(ValueError, match="x.json: seeds must"):
        files.read_experiment(path, "small")
    path.write_text('{"name": "a", "name": "b"}')
    with pytest.raises(ValueError, match="x.json: field 'name' is there more than once"):
        files.read_experiment(path, "small")


@pytest.mark.parametrize("path, scale", SCALES, ids=lambda value: getattr(value, "stem", value))
def test_files_of_the_project(path, scale, script):
    """Each is a list of valid commands at each scale."""
    status, out, err = script("tools/run_experiment.py", path, "--scale", scale, "--list")
    assert (status, err) == (0, "")
    assert files.read_experiment(path, scale).name == path.stem
    assert len(files.read_experiment(path, scale).seeds) >= 3
    for line in out.splitlines():
        assert "python" in line
        embedded = {"--demo", "fashion_mnist"} & set(line.split())
        (data_set,) = re.findall(r"/(?:search|train)_([a-z]+)\.py", line)
        assert line.endswith(f' --data-dir "${data_set.upper()}_DIR"') != bool(embedded)


@pytest.mark.parametrize("name", ["table8", "table9"])
def test_the_papers_scale_transfers_blocks_to_imagenet(script, name, tmp_path):
    """As tables 8 and 9 do: searched on CIFAR-10, trained on ImageNet."""
    folders = [tmp_path / data for data in ("cifar", "imagenet")]
    for folder in folders:
        folder.mkdir()
    words = ("--scale", "paper", "--seeds", "0", "--list", "--data-dir", folders[0])
    words += ("--transfer-data-dir", folders[1])
    status, out, _ = script("tools/run_experiment.py", ROOT / f"experiments/{name}.json", *words)
    assert status == 0
    searches, trainings = out.splitlines()[:4], out.splitlines()[4:]
    for line in searches:
        assert "train/search_cifar.py" in line and f"--data-dir {folders[0]}" in line
    for line in trainings:
        assert "train/train_imagenet.py" in line and f"--data-dir {folders[1]}" in line
        assert "--target-flops 600000000" in line and "--architecture" in line


def test_a_bad_option_is_named(script, tmp_path):
    path = tmp_path / "x.json"
    for options, message in (
        ({"gama": 1}, "row 'found', search: unrecognized arguments: --gama 1"),
        ({"gamma": "x"}, "row 'found', search: argument --gamma: invalid float value: 'x'"),
        ({"scope": "x"}, "argument --scope: invalid choice: 'x'"),
        ({"gam": 1}, "unrecognized arguments: --gam 1"),
    ):
        path.write_text(json.dumps(changed("search", options)))
        status, _, err = script("tools/run_experiment.py", path, "--scale", "paper")
        assert status == 2 and message in err and err.count("\n") == 1
    path.write_text(json.dumps(changed("data_set", "voc9")))
    status, _, err = script("tools/run_experiment.py", path)
    assert status == 2 and "there is no" in err and "search_voc9.py" in err


def test_embedded_data_needs_no_folder(script, tmp_path):
    """It gets as far as the folder of the runs, which is a file here."""
    out = tmp_path / "file"
    out.write_text("")
    status, _, err = script(
        "tools/run_experiment.py", ROOT / "experiments/table8.json", "--out", str(out)
    )
    assert status == 2
    assert str(out) in err and "--data-dir" not in err


@pytest.mark.parametrize(
    "words, message",
    [
        (("table1",), "seed 0, searched, share, search needs --data-dir"),
        (("table1", "--transfer-data-dir", "."), "scale small transfers to no other data"),
        (("table8", "--scale", "paper", "--data-dir", "."), "M = 2, train needs --transfer-data"),
        (("table1", "--data-dir", "/nowhere"), "--data-dir /nowhere is no folder"),
        (("table8", "--data-dir", "."), "leave out --data-dir: seed 0, M = 2, search is on"),
        (("table8", "--gpus", "7"), "--gpus 7: this MXNet was built without CUDA"),
        (("table8", "--docs", ROOT / "README.md"), "README.md"),
        (("table8", "--seeds", "1,1"), "each once"),
    ],
)
def test_refused_before_anything_runs(script, tmp_path, words, message):
    name, *others = words
    out = tmp_path / "out"
    file = ROOT / f"experiments/{name}.json"
    status, said, err = script("tools/run_experiment.py", file, *others, "--out", str(out))
    assert (status, said) == (2, "") and message in err and err.count("\n") == 1
    assert not out.exists()


def test_seeds_choose_runs(script, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(changed("seeds", [3, 5])))
    words = ("tools/run_experiment.py", path, "--scale", "paper", "--list")
    _, all_lines, _ = script(*words)
    status, some, _ = script(*words, "--seeds", "5,9")
    assert status == 0 and len(some.splitlines()) == len(all_lines.splitlines())
    assert "--seed 3" not in some and "--seed 9" in some


def test_an_architecture_of_a_file_and_a_measure(tmp_path):
    """For a row without search; the file is beside the experiment's."""
    (tmp_path / "found.json").write_text("{}")
    data = changed("rows/full", {"architecture": "found.json"})
    data["measure"] = "mean_iou"
    found = files.from_json(data, "paper", tmp_path)
    assert found.measure == "mean_iou"
    (task,) = [task for task in found.tasks("out", [0]) if task.row == "full"]
    words = task.words()
    assert words[words.index("--architecture") + 1] == str(tmp_path / "found.json")
    for row in ({"architecture": "none.json"}, {"architecture": "found.json", "of": "found"}):
        with pytest.raises(ValueError, match="row 'full': architecture must be a file"):
            files.from_json(changed("rows/full", row), "paper", tmp_path)
    with pytest.raises(ValueError, match="measure must be test_error or mean_iou, got 'speed'"):
        files.from_json({**DATA, "measure": "speed"}, "paper")
