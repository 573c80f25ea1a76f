"""train/search_imagenet.py and train/train_imagenet.py on small records."""

import json
import re

from dsonas_mx import Architecture
from dsonas_mx.data import recordio
from dsonas_mx.plots import draw_run
from dsonas_mx.space.mobile_architecture import load_architecture
from dsonas_mx.training.transfer import parameters_file, read_parameters, take_over

import pytest

from symbols.mobile import proxyless
from symbols.segmentation import deeplab

SEARCH, TRAIN = "train/search_imagenet.py", "train/train_imagenet.py"
CLASSES = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory, striped_records):
    """60 images to train and 15 to test."""
    return striped_records(tmp_path_factory.mktemp("records"), {"train": 60, "val": 15}, width=40)


def words(folder, save, *more):
    return [
        *("--small", "--data-dir", folder, "--num-classes", CLASSES, "--num-samples", 60),
        *("--image-size", 32, "--save-dir", save, "--batch-size", 6, *more),
    ]


def search_words(folder, save, *more):
    tiny = ("--levels", 1, "--width", 4, "--num-epochs", 1, "--budget", "none")
    return [SEARCH, *words(folder, save, *tiny, *more)]


def test_search_and_train(script, folder, tmp_path):
    status, _, err = script(*search_words(folder, tmp_path / "search"))
    assert (status, err) == (0, "")
    found = Architecture.load(tmp_path / "search" / "architecture.json")
    assert found.origin["data"] == "imagenet"
    keys = [
        {int(line.split("\t")[0]) for line in (tmp_path / "search" / name).open()}
        for name in ("weights.lst", "lambdas.lst")
    ]
    assert [len(part) for part in keys] == [48, 12]
    assert keys[0] | keys[1] == set(range(60))
    supernet = deeplab(Architecture.complete(found.space), weighted=True)
    supernet.initialize()
    file = parameters_file(tmp_path / "search", pretrained=True)
    taken = take_over(supernet, read_parameters(file), supernet.backbone)
    assert (file.name, taken.missing, taken.other) == ("pretrained.params", [], [])
    status, _, err = script(
        TRAIN,
        *words(folder, tmp_path / "train", "--num-epochs", 1),
        *("--architecture", tmp_path / "search" / "architecture.json"),
    )
    assert (status, err) == (0, "")
    result = json.loads((tmp_path / "train" / "result.json").read_text())
    assert "test_top5_error" not in result  # of three classes
    assert (tmp_path / "train" / "model-symbol.json").is_file()


def test_skipped_records_are_in_the_log(script, folder, tmp_path):
    for name in ("train.rec", "train.idx", "val.rec", "val.idx"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    content = bytearray((tmp_path / "train.rec").read_bytes())
    offsets = recordio.read_index(tmp_path / "train.idx")
    content[offsets[7] + 32 : offsets[7] + 132] = b"\0" * 100
    content[offsets[5] : offsets[5] + 4] = b"\0" * 4
    (tmp_path / "train.rec").write_bytes(bytes(content))
    (tmp_path / "train.idx").unlink()
    more = ("--split", "none", "--num-samples", 59)
    status, _, err = script(*search_words(tmp_path, tmp_path / "search", *more))
    assert (status, err) == (0, "")
    log = (tmp_path / "search" / "log.txt").read_text()
    assert "1 records skipped (new: 7): record 7: its image is not an image that" in log
    assert log.count("records skipped") == 1
    assert log.count(f"index was made again; no record can be read at byte [{offsets[5]}]") == 1


def test_blocks_of_cifar_go_into_the_network_for_imagenet(script, tmp_path, tiny_space):
    path = tmp_path / "found.json"
    Architecture.complete(tiny_space(scope="share")).save(path)
    status, out, _ = script(TRAIN, "--dry-run", "--architecture", path, "--target-flops", "600M")
    assert status == 0
    adds = int(re.search(r"multiply-adds +([\d,]+)", out)[1].replace(",", ""))
    assert 0.93 * 600e6 < adds <= 600e6


@pytest.mark.slow
def test_the_papers_search(script):
    """12,459,688 parameters, on eight devices, with less than the 3.2G of the paper."""
    status, out, _ = script(SEARCH, "--dry-run", "--cpus", 8, "--mirror", 3000)
    assert status == 0
    assert re.search(r"^parameters +12,459,688$", out, re.M)
    assert re.search(r"^steps an epoch +5,000$", out, re.M)
    assert float(re.search(r"^MB a device +([\d,]+)$", out, re.M)[1].replace(",", "")) < 3200


def test_no_data(script, tmp_path):
    status, _, err = script(SEARCH)
    assert status == 2
    assert err.startswith("search_imagenet.py: ImageNet needs --data-dir")
    status, _, err = script(SEARCH, "--data-dir", tmp_path)
    assert status == 2
    assert "train.rec: not there" in err


def test_more_samples_than_there_are(script, folder, tmp_path):
    status, _, err = script(*search_words(folder, tmp_path / "run", "--num-samples", 61))
    assert status == 2
    assert "train.rec has 60 records that can be found, not 61: give --num-samples 60 or" in err


def test_mobile_search_train_export_draw(script, folder, tmp_path):
    search, train = tmp_path / "search", tmp_path / "train"
    narrow = ("--space", "mobile-gpu", "--blocks", 1, "--width-multiplier", 0.01)
    status, out, err = script(SEARCH, *words(folder, search, *narrow, "--num-epochs", 2))
    assert (status, err) == (0, "")
    assert "one operation in every block" in out
    found = load_architecture(search / "architecture.json")
    assert found.num_connections == 6
    with (search / "gammas.csv").open() as file:
        last = [float(value) for value in list(file)[-1].split(",")[1:]]
    assert len(last) == 36
    status, _, err = script(
        TRAIN,
        *words(folder, train, "--num-epochs", 1, "--architecture", search / "architecture.json"),
    )
    assert (status, err) == (0, "")
    status, out, err = script("tools/export.py", train, "--out", tmp_path / "deployed")
    assert (status, err) == (0, "")
    assert float(re.search(r"^difference +(\S+)", out, re.M)[1]) < 1e-4
    names = {path.name for path in draw_run(search)}
    assert names == {"blocks.png", "lambdas.png", "curves.png"}


def test_mobile_search_goes_on(script, folder, tmp_path):
    """A search that is cut off between two epochs ends with the same bits."""
    narrow = ("--space", "mobile-gpu", "--blocks", 1, "--width-multiplier", 0.01)
    narrow += ("--budget", "none", "--num-epochs", 2)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert script(SEARCH, *words(folder, whole, *narrow))[0] == 0
    found = sorted((whole / "checkpoint").glob("0*"))
    more = ("--resume-from", found[0])
    assert script(SEARCH, *words(folder, halves, *narrow, *more))[0] == 0
    for name in ("architecture.json", "model.params"):
        assert (whole / name).read_bytes() == (halves / name).read_bytes()


def test_mobile_options(script, tmp_path):
    status, _, err = script(SEARCH, "--space", "mobile-cpu", "--budget", "mac", "--dry-run")
    assert (status, err.strip()) == (
        2,
        "search_imagenet.py: --budget mac is for the normal setting: latency or none",
    )
    path = tmp_path / "found.json"
    proxyless("mobile-gpu").save(path)
    status, _, err = script(TRAIN, "--dry-run", "--architecture", path, "--width", 8)
    assert status == 2
    assert "--width is not for the mobile setting" in err


@pytest.mark.parametrize("name", ["mobile-gpu", pytest.param("mobile-cpu", marks=pytest.mark.slow)])
def test_the_papers_mobile_search_fits(script, name):
    status, out, _ = script(SEARCH, "--space", name, "--dry-run", "--cpus", 8, "--mirror", 3200)
    assert status == 0
    assert float(re.search(r"^MB a device +([\d,]+)$", out, re.M)[1].replace(",", "")) < 3200
