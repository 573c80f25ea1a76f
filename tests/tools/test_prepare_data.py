"""tools/prepare_data.py: nothing is lost, MXNet reads it, and a search takes its parts."""

import pickle

from dsonas_mx.data import DATA_SETS, cifar, load_parts
from dsonas_mx.data.loader import split
from dsonas_mx.search.search import Search

import cv2
import mxnet as mx
import numpy as np
import pytest

PREPARE = "tools/prepare_data.py"
NAMES = ("train", "val", "train1", "train2")


@pytest.fixture
def prepare(script, small_cifar, tmp_path):
    """`prepare(*words)`: the tiny CIFAR into `tmp_path/'out'`."""

    def run(*words):
        return script(PREPARE, "cifar10", small_cifar, "--out", tmp_path / "out", *words)

    return run


def listed(path):
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [(int(key), float(label), name) for key, label, name in rows]


def test_nothing_is_lost(prepare, small_cifar, tmp_path):
    status, out, err = prepare("--split", "3:1", "--seed", 5)
    assert (status, err) == (0, "")
    first, second, third, _ = out.splitlines()
    assert first == "train: 120 images, 10 to 15 a class"
    assert second == "val: 20 images, 2 to 2 a class"
    assert third.startswith("train1: 90 images, ")
    folder = tmp_path / "out"
    files = [name + suffix for name in NAMES for suffix in (".rec", ".idx", ".lst")]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*files, "classes.txt"])
    names = (folder / "classes.txt").read_text().splitlines()
    assert tuple(names) == DATA_SETS["cifar10"].classes
    for half in (True, False):
        before, after = cifar.load_cifar(small_cifar, half), cifar.load_cifar(folder, half)
        np.testing.assert_array_equal(before.images, after.images)
        np.testing.assert_array_equal(before.labels, after.labels)
    train = cifar.load_cifar(small_cifar)
    parts = split(None, train.labels, (3, 1), 5)
    for name, images, indices in zip(NAMES[2:], load_parts("cifar10", str(folder)), parts):
        np.testing.assert_array_equal(images.images, train.images[indices])
        rows = listed(folder / f"{name}.lst")
        assert [row[0] for row in rows] == indices.tolist()
        assert [row[1] for row in rows] == train.labels[indices].tolist()
        assert rows[0][2] == f"train/{train.classes[int(rows[0][1])]}/{indices[0]:05d}.png"


def test_mxnet_reads_it(prepare, small_cifar, tmp_path):
    """By number, and with the iterator that the authors use, which gives RGB."""
    prepare()
    folder, train = tmp_path / "out", cifar.load_cifar(small_cifar)
    places = str(folder / "train2.idx"), str(folder / "train2.rec")
    reader = mx.recordio.MXIndexedRecordIO(*places, "r")
    key = reader.keys[7]
    header, image = mx.recordio.unpack(reader.read_idx(key))
    assert (header.id, header.label) == (key, train.labels[key])
    np.testing.assert_array_equal(mx.image.imdecode(image).asnumpy(), train.images[key])
    reader.close()
    iterator = mx.io.ImageRecordIter(
        path_imgrec=places[1], path_imgidx=places[0], data_shape=(3, 32, 32), batch_size=60
    )
    batch = iterator.next()
    keys = [row[0] for row in listed(folder / "train2.lst")]
    np.testing.assert_array_equal(batch.data[0].asnumpy().transpose(0, 2, 3, 1), train.images[keys])
    np.testing.assert_array_equal(batch.label[0].asnumpy(), train.labels[keys])


def test_cifar_100(script, tmp_path):
    generator = np.random.RandomState(0)
    for name, count in (("train", 400), ("test", 100)):
        labels = (np.arange(count) % 100).tolist()
        pixels = generator.randint(0, 256, (count, 3072)).astype(np.uint8)
        batch = {"data": pixels, "fine_labels": labels, "coarse_labels": [0] * count}
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol=2))
    out = tmp_path / "out"
    status, _, _ = script(PREPARE, "cifar100", tmp_path, "--out", out, "--split", "none")
    assert status == 0
    assert len(list(out.iterdir())) == 7  # with classes.txt
    images = cifar.load_cifar(out, name="cifar100")
    np.testing.assert_array_equal(images.labels, np.arange(400) % 100)


@pytest.mark.parametrize(
    "data_set, words, message",
    [
        ("cifar10", "--split 0:1", "split must have parts of at least 1, as 4:1, got 0:1"),
        ("cifar10", "--seed -1", "seed must lie between 0 and 2**64 - 1, got -1"),
        ("cifar10", "--out file", "file is a file: give a folder"),
        ("cifar10", "--out file/below", "file is a file: give a folder"),
        ("coco-voc", "--out file", "file is a file: give a folder"),
        ("cifar10", "--copy", "--copy is for coco-voc and sbd: leave it out"),
        ("coco-voc", "--split 4:1", "--split is for cifar10 and cifar100: leave it out"),
        ("sbd", "--seed 0", "--seed is for cifar10 and cifar100: leave it out"),
    ],
)
def test_refuses_before_it_reads(script, monkeypatch, tmp_path, data_set, words, message):
    """The source is not there: that would be the message of what reads it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    status, out, err = script(PREPARE, data_set, "nowhere", "--out", "out", *words.split())
    assert (status, out, err.count("\n")) == (2, "", 1) and message in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def batches(script, monkeypatch, *words):
    """The first batches of weights and λ that a search would take."""
    found = {}

    def stop(self, build, architecture, weight_data, lambda_data, *rest, **options):
        found["data"] = weight_data, lambda_data
        raise ValueError("enough")

    monkeypatch.setattr(Search, "__init__", stop)
    _, _, err = script(
        *["train/search_cifar.py", "--levels", 1, "--blocks", "1,1", "--width", 4, *words],
        *["--batch-size", 12],
    )
    assert "enough" in err
    return [next(loader.epoch(0)) for loader in found["data"]]


def test_a_search_takes_the_parts(prepare, script, small_cifar, tmp_path, monkeypatch):
    """The same samples in the same order as with its own split of that seed."""
    prepare("--split", "3:1", "--seed", 5)
    words = ["--split", "3:1", "--seed", 5]
    own = batches(script, monkeypatch, *words, "--data-dir", small_cifar)
    given = batches(script, monkeypatch, *words, "--split-files", tmp_path / "out")
    for one, other in zip(own, given):
        np.testing.assert_array_equal(one.data, other.data)
        np.testing.assert_array_equal(one.labels, other.labels)
    assert (own[0].data != own[1].data).any()


def test_parts_of_another_ratio_are_refused(prepare, script, tmp_path):
    prepare("--split", "3:1")
    words = ["train/search_cifar.py", "--split-files", tmp_path / "out"]
    status, _, err = script(*words, "--split", "1:1")
    assert status == 2
    assert err.endswith("90 and 30 images are not 1:1: give their ratio as --split\n")
    status, _, err = script(*words, "--split", "none")
    assert err.endswith("--split none takes no --split-files: leave out one of the two\n")
    (tmp_path / "out" / "train2.rec").unlink()
    status, _, err = script(*words, "--split", "3:1")
    assert "train2.rec: not there; make it with tools/prepare_data.py cifar10" in err


@pytest.mark.parametrize(
    "words, message",
    [
        (["--split", "0:1"], "split must have parts of at least 1, as 4:1, got 0:1"),
        (["--split", "half"], "--split must be as 4:1, or none, got 'half'"),
        (["--split", "1:200"], "split 1:200 leaves a part of 120 samples empty"),
        (["--seed", -1], "seed must lie between 0 and 2**64 - 1, got -1"),
    ],
)
def test_bad_options(prepare, tmp_path, words, message):
    status, out, err = prepare(*words)
    assert (status, out) == (2, "")
    assert message in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(prepare, script, tmp_path):
    prepare()
    before = (tmp_path / "out" / "train.rec").read_bytes()
    for source in (tmp_path / "out", tmp_path):
        status, _, err = script(PREPARE, "cifar10", source, "--out", tmp_path / "out")
        assert status == 2
        assert "train.rec is there already: remove it, or give another" in err
    assert (tmp_path / "out" / "train.rec").read_bytes() == before
    status, _, err = script(PREPARE, "cifar10", tmp_path / "no", "--out", tmp_path / "new")
    assert "no such folder; get cifar-10-python.tar.gz from https://" in err


def test_a_folder_of_pictures(script, tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.full((9, 12, 3), 20 * number, np.uint8)
            cv2.imwrite(str(tmp_path / "photos" / name / f"{number}.png"), pixels)
    (tmp_path / "photos" / "bee" / "broken.png").write_bytes(b"x")
    words = ["tools/prepare_data.py", "folder", tmp_path / "photos", "--out", tmp_path / "rec"]
    status, out, err = script(*words)
    assert (status, err) == (0, "")
    assert "train: 10 images\n" in out and "val: 2 images\n" in out
    assert "skipped bee/broken.png: not an image that can be read\n" in out
    assert out.endswith("rec: 2 classes: ant, bee\n")
    assert (tmp_path / "rec" / "classes.txt").read_text() == "ant\nbee\n"
    status, _, err = script(*words)
    assert status == 2 and "train.rec is there already: remove it, or give another" in err
    status, _, err = script(*words, "--split", "1:1")
    assert status == 2 and "--split is for cifar10 and cifar100: leave it out" in err
