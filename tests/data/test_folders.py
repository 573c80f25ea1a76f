"""One's own data: folders of classes, arrays and records, as small or large images."""

import os
import zipfile

from dsonas_mx.data import arrays, recordio, small
from dsonas_mx.data.folders import list_folder
from dsonas_mx.data.imagenet import ImageNetAugmentation, centre, mean_std_at
from dsonas_mx.data.images import Images
from dsonas_mx.data.labels import coverage
from dsonas_mx.data.loader import Loader
from dsonas_mx.data.packing import pack
from dsonas_mx.data.picture import read_picture, stretched
from dsonas_mx.data.records import Records
from dsonas_mx.data.registry import DATA_SETS, DataSet
from dsonas_mx.data.small import Stretched, small_images
from dsonas_mx.data.source import kind_of, open_source

import numpy as np
import pytest
from PIL import Image

CLASSES = ("ant", "bee", "Cow")


def plain(steps, length, what):
    return steps


def save(path, value, size=(20, 14), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.RandomState(value).randint(0, 40, (*size[::-1], 3))
    Image.fromarray((noise + value).astype(np.uint8)).save(path, **options)


@pytest.fixture
def photos(tmp_path):
    """Ten pictures of three classes each, and what else lies in people's folders."""
    root = tmp_path / "photos"
    for number, name in enumerate(CLASSES):
        for i in range(10):
            save(root / name / f"{i}.{'jpg' if i % 2 else 'png'}", 60 * number + 10 + i)
    (root / "ant" / "notes.txt").write_text("x")
    (root / "bee" / "broken.jpg").write_bytes(b"\xff\xd8nothing")
    (root / "bee" / "._0.png").write_bytes(b"x")
    (root / ".cache").mkdir()
    (root / "README").write_text("x")
    return root


def test_classes_are_the_folders_names(photos):
    listing = list_folder(photos)
    assert listing.classes == ("Cow", "ant", "bee")
    assert [len(listing.train[name]) for name in listing.classes] == [8, 8, 9]
    assert [len(listing.test[name]) for name in listing.classes] == [2, 2, 2]
    for name in listing.classes:
        assert not set(listing.train[name]) & set(listing.test[name])
    skipped, held_out = listing.notes
    assert skipped.endswith("2 files are no pictures and are skipped: ant/notes.txt, README")
    assert "6 pictures are held out" in held_out


def test_what_is_held_out_depends_on_names_alone(photos):
    before = list_folder(photos)
    os.utime(photos / "ant" / "3.jpg", (0, 0))
    save(photos / "Cow" / "more.png", 3)
    after = list_folder(photos)
    assert after.test["ant"] == before.test["ant"]
    assert len(set(after.test["Cow"]) - set(before.test["Cow"])) <= 1
    assert list_folder(photos, seed=1).test != before.test


@pytest.mark.parametrize("part", ["val", "test"])
def test_parts_that_are_there(tmp_path, part):
    for half, count in (("train", 3), (part, 2)):
        for name in CLASSES[:2]:
            for i in range(count):
                save(tmp_path / half / name / f"{i}.webp", i, lossless=True)
    listing = list_folder(tmp_path)
    assert listing.classes == ("ant", "bee") and not listing.held_out
    assert listing.test["bee"] == [f"{part}/bee/0.webp", f"{part}/bee/1.webp"]
    (tmp_path / part / "cat").mkdir()
    with pytest.raises(ValueError, match="cat: no class of"):
        list_folder(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "bus"):
        for i in range(2):
            save(tmp_path / name / f"{i}.png", i)
    assert list_folder(tmp_path).classes == ("bus", "train")


@pytest.mark.parametrize(
    "files, message",
    [
        (["a/0.png", "a/1.png"], "needs a folder for each of two classes at least, has only a"),
        (["0.png"], "needs a folder for each of two classes at least, has none"),
        (["a/0.png", "a/1.png", "b/x.txt"], r"b: no pictures \(.bmp, "),
        (["a/0.png", "a/1.png", "A/0.png", "A/1.png"], "A and a differ only in case"),
        (["a/0.png", "b/0.png", "b/1.png"], "a: has one picture, and none to test on"),
        (["a\x1b/0.png", "b/0.png"], "is no name that can be shown"),
    ],
)
def test_what_is_no_folder_of_classes(tmp_path, files, message):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"x")
    with pytest.raises(ValueError, match=message):
        list_folder(tmp_path)


def test_small_images_in_memory_and_as_needed(photos, monkeypatch):
    """The same pixels by the rule that a card states; what cannot be read is told of."""
    source = open_source(str(photos))
    inside = small_images(source.train, 16, 3, plain)
    assert isinstance(inside, Images) and inside.images.shape == (24, 16, 16, 3)
    assert list(source.train.skipped) == ["bee/broken.jpg"]
    monkeypatch.setattr(small, "MOST_IN_MEMORY", 1000)
    outside = small_images(open_source(str(photos)).train, 16, 3, plain)
    assert isinstance(outside, Stretched) and len(outside) == 25
    chosen = np.array([3, 17])
    np.testing.assert_array_equal(outside.take(chosen, True)[0], inside.images[chosen])
    first = stretched(read_picture(photos / source.train.keys[3]), 16, 16)
    np.testing.assert_array_equal(inside.images[3], first)
    np.testing.assert_allclose(outside.mean_std(), inside.mean_std(), rtol=1e-12)
    some = outside.subset(np.array([5, 3]))
    np.testing.assert_array_equal(some.take(np.array([1]), True)[0][0], first)


def test_large_images_of_a_folder(photos):
    """Batches repeat, and stand-ins are found for what is broken."""
    source = open_source(str(photos), 16, 2, channels=3)
    mean, std = mean_std_at(source.train, 16, plain)
    good = [i for i, key in enumerate(source.train.keys) if key != "bee/broken.jpg"]
    centres = np.stack([centre(source.train.read(i), 16) for i in good]) / 255
    np.testing.assert_allclose(mean, centres.mean((0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(std, centres.std((0, 1, 2)), rtol=1e-9)
    augment = ImageNetAugmentation(16, mean=mean, std=std)
    loader = Loader(source.train, None, 5, augment, seed=3)
    batches = [[batch.data for batch in loader.epoch(1)] for _ in range(2)]
    assert len(batches[0]) == 5
    np.testing.assert_array_equal(*batches)
    assert list(source.train.skipped) == ["bee/broken.jpg"]
    middle = augment.plain()([source.train.read(0)])[0]
    expected = (centres[0] - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(middle.transpose(1, 2, 0), expected, atol=1e-4)


def test_arrays(tmp_path):
    images = np.random.RandomState(0).randint(0, 256, (20, 18, 18)).astype(np.uint8)
    labels = np.arange(20) % 2
    path = str(tmp_path / "some.npz")
    np.savez_compressed(path, images=images, labels=labels, class_names=np.array(["no", "yes"]))
    assert kind_of(path) == "arrays"
    source = open_source(path)
    assert (source.classes, source.channels, source.side) == (("no", "yes"), 1, 18)
    assert (len(source.train), len(source.test)) == (16, 4)
    assert np.bincount(source.test.labels).tolist() == [2, 2]
    number = int(source.held_out[0])
    np.testing.assert_array_equal(source.test.read(0)[..., 0], images[number])
    assert open_source(path, channels=3).train.read(0).shape == (18, 18, 3)
    np.savez(path, images=images[..., None].repeat(3, 3), labels=labels)
    assert open_source(path).classes == ("0", "1")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"images": np.zeros((4, 2, 2))}, "images must be uint8 of N×H×W"),
        ({"images": np.zeros((4, 2, 2, 4), np.uint8)}, "images must be uint8 of N×H×W"),
        ({"labels": np.zeros(3)}, "labels must be 4 numbers"),
        ({"labels": np.array([0, 1, 0.5, 1])}, "image 2 has label 0.5, not a whole number"),
        ({"labels": np.array([0, 1, -1, 1])}, "image 2 has label -1"),
        ({"labels": np.array([0, 1, 2, 1]), "class_names": ["a", "b"]}, "image 2 has label 2, not"),
        ({"labels": np.array([0, "x", 1, 1], object)}, "labels has Python objects"),
        ({"class_names": ["a", "a"]}, "class_names must name at least 2 different"),
        ({"images": None}, "has no array 'images'"),
    ],
)
def test_what_is_no_arrays(tmp_path, changes, message):
    path = tmp_path / "some.npz"
    content = {"images": np.zeros((4, 2, 2), np.uint8), "labels": np.array([0, 1, 0, 1]), **changes}
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    with pytest.raises(ValueError, match=f"some.npz: {message}"):
        arrays.read_arrays(path)


def test_damaged_arrays(tmp_path):
    path = tmp_path / "some.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="some.npz: no .npz file, or damaged"):
        arrays.read_arrays(path)
    head = np.lib.format.magic(1, 0) + b"v\0" + b"{'descr': '|u1', 'fortran_order': False, "
    head += b"'shape': (900000, 900000), }".ljust(0x76 - 41) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", head)
        archive.writestr("labels.npy", head)
    with pytest.raises(ValueError, match="some.npz: .*(more than 8 GB|header)"):
        arrays.read_arrays(path)


def test_a_folder_as_records(photos, tmp_path):
    """Pixels, labels and names are those of the folder; what was stopped goes on."""
    out = tmp_path / "rec"
    out.mkdir()
    listing = list_folder(photos)
    written = pack(listing, out, True, None, plain)
    assert written.written == 24
    assert list(written.skipped) == ["bee/broken.jpg"]
    pack(listing, out, False, None, plain)
    (out / "classes.txt").write_text("\n".join(listing.classes))
    records = Records(out / "train.rec", None, 16)
    assert records.classes == ("Cow", "ant", "bee") and len(records) == 24 and not records.notes
    lines = [line.split("\t") for line in (out / "train.lst").read_text().splitlines()]
    for index, (key, label, name) in enumerate(lines):
        assert records.keys[index] == int(key) and records.labels[index] == float(label)
        assert records.classes[records.labels[index]] == name.split("/")[0]
        np.testing.assert_array_equal(records.read(index), read_picture(photos / name))
    assert sorted(path.name for path in out.iterdir()) == [
        *["classes.txt", "train.idx", "train.lst", "train.rec"],
        *["val.idx", "val.lst", "val.rec"],
    ]
    assert kind_of(str(out)) == "records"
    source = open_source(str(out))
    assert (source.kind, source.classes, source.side) == ("records", records.classes, None)


def test_records_that_were_stopped_go_on(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("dsonas_mx.data.packing.PART", 10)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    listing = list_folder(photos)
    pack(listing, whole, True, 7, plain)

    def stopped(steps, length, what):
        yield from steps[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(listing, parts, True, 7, stopped)
    assert not (parts / "train.rec").exists()
    read = []
    monkeypatch.setattr(
        "dsonas_mx.data.packing.read_regular",
        lambda path, most: read.append(path) or path.read_bytes(),
    )
    pack(listing, parts, True, 7, plain)
    pictures = [path for path in read if path.parent != parts]
    assert len(pictures) <= 7  # five of the last part, and the reasons of what is skipped
    for name in ("train.rec", "train.idx", "train.lst"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    records = Records(whole / "train.rec", None, 16)
    assert {min(records.read(i).shape[:2]) for i in range(len(records))} == {7}


def test_kinds(photos, tmp_path):
    assert kind_of(None) is None and kind_of(str(tmp_path / "nothing")) is None
    assert kind_of(str(photos)) == "folder" and kind_of(str(photos / "ant")) == "folder"
    folder = tmp_path / "rec"
    folder.mkdir()
    for name in ("train", "val"):
        entries = [recordio.Entry(i, i % 3, b"x", "x") for i in range(6)]
        recordio.write(folder / f"{name}.rec", entries)
    assert kind_of(str(folder)) == "records"  # though its labels are below 10
    (folder / "classes.txt").write_text("\n".join(DATA_SETS["cifar10"].classes))
    assert kind_of(str(folder)) == "cifar10"


def test_what_is_said_of_classes():
    train, test = np.array([0, 0, 1, 4]), np.array([0, 3])
    assert coverage(train, test, "abcde") == [
        "2 of 5 classes (c, d) occur in no training image",
        "1 of 5 classes (d) occur in test images alone",
        "2 of 5 classes (b, e) occur in no test image",
    ]
    assert coverage(train[:3], train[:3], "ab") == []
    with pytest.raises(ValueError, match="all training images are of one class, b"):
        coverage(np.array([1, 1]), test, "abcd")


def test_a_data_set_as_json():
    about = DataSet("folder", 9, 32, 3, ("a", "b"), (0.5,) * 3, (0.25,) * 3, 4, 127)
    assert DataSet.from_json(about.to_json()) == about
    for changes, message in (
        ({"classes": [1]}, "classes must be text"),
        ({"mean": [0.5]}, "mean must have 3 entries"),
        ({"std": ["x"] * 3}, "std must have numbers"),
        ({"resize": "no"}, "resize must be stretch"),
        ({"more": 1}, "unknown field"),
    ):
        with pytest.raises(ValueError, match=message):
            DataSet.from_json({**about.to_json(), **changes})
