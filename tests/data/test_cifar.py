from __future__ import annotations

import os
import pickle
import shutil
import struct
from pathlib import Path

from dsonas_mx.data import DATA_SETS, cifar, load_cifar, recordio, registry

import cv2
import mxnet as mx
import numpy as np
import pytest

PER_FILE = 6
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10"


def random_set(count, seed):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return images, generator.integers(0, 10, count).astype(np.int32)


TRAIN, TEST = random_set(5 * PER_FILE, 0), random_set(PER_FILE, 1)


def files():
    for number in range(5):
        rows = slice(number * PER_FILE, (number + 1) * PER_FILE)
        yield f"data_batch_{number + 1}", TRAIN[0][rows], TRAIN[1][rows]
    yield ("test_batch", *TEST)


def planes(images):
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def python2_pickle(images, labels):
    """What cPickle of Python 2 wrote: str as SHORT_BINSTRING and BINSTRING, protocol 2."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    pixels = planes(images).tobytes()
    rows = struct.pack("<BH", ord("M"), len(images)) + b"M\x00\x0c\x86"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09"
        b"(K\x01" + rows + b"cnumpy\ndtype\nq\nU\x02u1K\x00K\x01\x87Rq\x0b"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T" + struct.pack("<I", len(pixels)) + pixels + b"tb"
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    names = b"](" + b"".join(text(b"truck_s_%d.png" % k) for k in range(len(labels))) + b"e"
    return (
        b"\x80\x02}q\x01(" + text(b"batch_label") + text(b"training batch 1 of 5")
        + text(b"labels") + numbers + text(b"data") + array + text(b"filenames") + names + b"u."
    )  # fmt: skip


def write_python(folder):
    for name, images, labels in files():
        (folder / name).write_bytes(python2_pickle(images, labels))


def write_binary(folder):
    for name, images, labels in files():
        rows = np.concatenate([labels[:, None].astype(np.uint8), planes(images)], axis=1)
        rows.tofile(str(folder / f"{name}.bin"))


def packed(image, label, number=0, extension=".png"):
    _, encoded = cv2.imencode(extension, np.ascontiguousarray(image[..., ::-1]))
    return mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), encoded.tobytes())


def write_records(folder):
    for name, (images, labels) in (("train", TRAIN), ("val", TEST)):
        index, record = str(folder / f"{name}.idx"), str(folder / f"{name}.rec")
        writer = mx.recordio.MXIndexedRecordIO(index, record, "w")
        for number, (image, label) in enumerate(zip(images, labels)):
            writer.write_idx(number, packed(image, float(label), number))
        writer.close()


LAYOUTS = {
    "python": (write_python, "cifar-10-batches-py", "data_batch_3"),
    "binary": (write_binary, "cifar-10-batches-bin", "data_batch_3.bin"),
    "records": (write_records, ".", "train.rec"),
}


@pytest.fixture(params=sorted(LAYOUTS))
def layout(request):
    return request.param


def assert_is(data, expected):
    images, labels = expected
    np.testing.assert_array_equal(data.images, images)
    np.testing.assert_array_equal(data.labels, labels)
    assert data.classes[0] == "airplane" and data.classes[9] == "truck"


def cut(path, size):
    data = path.read_bytes()
    path.write_bytes(data[:size] if size >= 0 else data[: len(data) + size])


# Reading each version


@pytest.mark.parametrize("nested", [False, True])
def test_each_version_is_read(tmp_path, layout, nested):
    write, inside, _ = LAYOUTS[layout]
    folder = tmp_path / inside if nested else tmp_path
    folder.mkdir(exist_ok=True)
    write(folder)
    assert_is(load_cifar(tmp_path, train=True), TRAIN)
    assert_is(load_cifar(str(tmp_path), train=False), TEST)


def test_the_hand_made_pickle_is_one():
    batch = pickle.loads(python2_pickle(*TEST), encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"], planes(TEST[0]))
    assert batch[b"labels"] == TEST[1].tolist()


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickles_of_python_3_are_read(tmp_path, protocol):
    for name, images, labels in files():
        batch = {"data": planes(images), "labels": labels.tolist()}
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol))
    assert_is(load_cifar(tmp_path), TRAIN)


def test_records_need_no_index(tmp_path):
    write_records(tmp_path)
    (tmp_path / "train.idx").unlink()
    assert_is(load_cifar(tmp_path), TRAIN)


def test_a_complete_version_wins_over_remains_of_another(tmp_path):
    write_records(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(b"")
    assert_is(load_cifar(tmp_path, train=False), TEST)


def test_default_mean_and_std_are_not_the_releases():
    assert DATA_SETS["cifar10"].mean == (0.4914, 0.4822, 0.4465) and DATA_SETS["cifar10"].std == (
        0.2470,
        0.2435,
        0.2616,
    )
    assert registry.RELEASE_MEAN[0] == 0.5071 and registry.RELEASE_STD[0] == 0.2675


@pytest.mark.skipif(not REAL.is_dir(), reason="the real records are not here")
def test_real_records(tmp_path):
    for name, count in (("train", 300), ("val", 50)):
        index = (REAL / f"{name}.idx").read_text().splitlines()[: count + 1]
        end = int(index.pop().split()[1])
        (tmp_path / f"{name}.idx").write_text("\n".join(index))
        with open(str(REAL / f"{name}.rec"), "rb") as source:
            (tmp_path / f"{name}.rec").write_bytes(source.read(end))
    data = load_cifar(tmp_path)
    assert data.images.shape == (300, 32, 32, 3)
    reader = mx.recordio.MXRecordIO(str(tmp_path / "train.rec"), "r")
    for number in range(300):
        header, payload = mx.recordio.unpack(reader.read())
        assert header.label == data.labels[number]
        if number < 30:
            image = mx.image.imdecode(payload).asnumpy().astype(int)
            assert abs(image - data.images[number]).max() <= 2
    reader.close()
    mean, std = data.mean_std()
    np.testing.assert_allclose(mean, DATA_SETS["cifar10"].mean, atol=0.03)
    np.testing.assert_allclose(std, DATA_SETS["cifar10"].std, atol=0.03)
    assert len(load_cifar(tmp_path, train=False)) == 50


# CIFAR-100


def write_100(folder, version, labels=TRAIN[1]):
    """Both halves of CIFAR-100, with fine labels of ten times those of `labels`."""
    for name, images, fine in (("train", TRAIN[0], 10 * labels), ("test", TEST[0], 3 + TEST[1])):
        if version == "python":
            batch = {
                "data": planes(images),
                "coarse_labels": [0] * len(images),
                "fine_labels": fine.tolist(),
            }
            (folder / name).write_bytes(pickle.dumps(batch, 2))
        elif version == "binary":
            both = np.stack([0 * fine, fine], axis=1).astype(np.uint8)
            np.concatenate([both, planes(images)], axis=1).tofile(str(folder / f"{name}.bin"))
        else:
            entries = [
                recordio.Entry(number, label, png(image), str(number))
                for number, (image, label) in enumerate(zip(images, fine))
            ]
            recordio.write(folder / ("train.rec" if name == "train" else "val.rec"), entries)


def png(image):
    return cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()


@pytest.mark.parametrize(
    "version, inside",
    [("python", "cifar-100-python"), ("binary", "cifar-100-binary"), ("records", ".")],
)
def test_cifar_100(tmp_path, version, inside):
    """The fine labels count."""
    folder = tmp_path / inside
    folder.mkdir(exist_ok=True)
    write_100(folder, version)
    train, test = (load_cifar(tmp_path, half, "cifar100") for half in (True, False))
    np.testing.assert_array_equal(train.images, TRAIN[0])
    np.testing.assert_array_equal(train.labels, 10 * TRAIN[1])
    np.testing.assert_array_equal(test.images, TEST[0])
    np.testing.assert_array_equal(test.labels, 3 + TEST[1])
    assert (train.classes[0], train.classes[99], len(train.classes)) == ("apple", "worm", 100)
    with pytest.raises((ValueError, FileNotFoundError)):
        load_cifar(tmp_path, name="cifar10")


def test_cifar_10_is_not_cifar_100(tmp_path):
    write_records(tmp_path)
    with pytest.raises(ValueError, match="no label is above 9: this is CIFAR-10, not CIFAR-100"):
        load_cifar(tmp_path, name="cifar100")


def test_damaged_cifar_100(tmp_path):
    write_100(tmp_path, "binary")
    cut(tmp_path / "train.bin", -1)
    with pytest.raises(ValueError, match=r"train\.bin: has 92,219 bytes, not a multiple of 3074"):
        load_cifar(tmp_path, name="cifar100")
    write_100(tmp_path, "binary", 20 + TRAIN[1])
    with pytest.raises(ValueError, match=r"not 0 to 99; the file is corrupt or not CIFAR-100"):
        load_cifar(tmp_path, name="cifar100")


def test_half_of_the_binary_training_file_is_noticed_beside_the_test_file(tmp_path, monkeypatch):
    write_100(tmp_path, "binary")
    monkeypatch.setattr(cifar, "OFFICIAL", PER_FILE)
    assert len(load_cifar(tmp_path, name="cifar100")) == 5 * PER_FILE
    cut(tmp_path / "train.bin", 4 * PER_FILE * 3074)
    with pytest.raises(ValueError, match=r"train\.bin: has 73,776 bytes where 92,220"):
        load_cifar(tmp_path, name="cifar100")


# Missing data


def test_no_folder_and_no_data(tmp_path):
    with pytest.raises(ValueError, match="needs `data_dir`"):
        load_cifar(None)
    with pytest.raises(FileNotFoundError, match="away: no such folder; get cifar-10"):
        load_cifar(tmp_path / "away")
    with pytest.raises(
        FileNotFoundError, match=r"no data_batch_1, data_batch_1\.bin or train\.rec"
    ):
        load_cifar(tmp_path)
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"tar xzf cifar-10-binary\.tar\.gz"):
        load_cifar(tmp_path)


@pytest.mark.parametrize("train", [True, False])
def test_a_missing_file_is_named(tmp_path, layout, train):
    write, _, name = LAYOUTS[layout]
    write(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}: not there"):
        load_cifar(tmp_path, train)


# Damaged data


@pytest.mark.parametrize("size", [0, 1, 10, 40, 3073, 9000, -3073, -1])
def test_a_truncated_file_is_named(tmp_path, layout, size):
    write, _, name = LAYOUTS[layout]
    write(tmp_path)
    cut(tmp_path / name, size)
    with pytest.raises(ValueError, match=f"{name}: ") as error:
        load_cifar(tmp_path)
    assert "\n" not in str(error.value) and "again" in str(error.value)


def test_a_malicious_pickle_is_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    write_python(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps({"data": Attack(), "labels": []}, 2))
    with pytest.raises(ValueError, match=r"data_batch_2: refused: .*mkdir"):
        load_cifar(tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"labels": [1] * (PER_FILE - 1)}, "6 images but 5 labels"),
        ({"labels": [1] * (PER_FILE - 1) + [10]}, "image 5 has label 10, not 0 to 9"),
        ({"labels": [1] * (PER_FILE - 1) + [-1]}, "image 5 has label -1"),
        ({"labels": np.full(PER_FILE, 3.5)}, "refused: an array of f8, not of whole numbers"),
        ({"labels": np.full(PER_FILE, 10)}, "image 0 has label 10, not 0 to 9"),
        ({"data": planes(TEST[0]).astype(np.int64)}, "'data' is not an array of uint8"),
        ({"labels": None}, "'labels' is not a list"),
        ({"labels": ["1"] * PER_FILE}, "'labels' is not a list"),
        ({"data": None}, "'data' is not an array"),
        ({"data": np.zeros((PER_FILE, 3071), np.uint8)}, "'data' is not an array of N×3072"),
        ({"data": np.zeros((0, 3072), np.uint8), "labels": []}, "holds no images"),
    ],
)
def test_a_wrong_python_batch_is_named(tmp_path, changes, message):
    write_python(tmp_path)
    batch = {"data": planes(TEST[0]), "labels": TEST[1].tolist(), **changes}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, 4))
    with pytest.raises(ValueError, match=f"test_batch: {message}"):
        load_cifar(tmp_path, train=False)


def test_a_wrong_binary_label_is_named(tmp_path):
    write_binary(tmp_path)
    data = bytearray((tmp_path / "test_batch.bin").read_bytes())
    data[2 * 3073] = 77
    (tmp_path / "test_batch.bin").write_bytes(data)
    with pytest.raises(ValueError, match=r"test_batch\.bin: image 2 has label 77"):
        load_cifar(tmp_path, train=False)


def test_half_of_the_binary_test_file_is_noticed_beside_the_others(tmp_path, monkeypatch):
    write_binary(tmp_path)
    cut(tmp_path / "test_batch.bin", 3 * 3073)
    assert len(load_cifar(tmp_path, train=False)) == 3  # a small set of somebody's own
    monkeypatch.setattr(cifar, "OFFICIAL", PER_FILE)
    with pytest.raises(ValueError, match=r"test_batch\.bin: has 9,219 bytes where 18,438"):
        load_cifar(tmp_path, train=False)


def test_records_cut_between_two_are_noticed_by_the_index(tmp_path):
    write_records(tmp_path)
    offset = int((tmp_path / "val.idx").read_text().splitlines()[3].split()[1])
    cut(tmp_path / "val.rec", offset)
    with pytest.raises(ValueError, match=r"val\.rec: its 3 records are not those that val\.idx"):
        load_cifar(tmp_path, train=False)
    shutil.copy(str(tmp_path / "train.idx"), str(tmp_path / "val.idx"))
    with pytest.raises(ValueError, match=r"val\.rec: its 3 records"):
        load_cifar(tmp_path, train=False)


@pytest.mark.parametrize(
    "label, payload, message",
    [
        (1.0, b"no image", "byte 0 is not an image"),
        (1.0, b"", "byte 0 is not an image"),
        (1.0, "jpeg, cut", "byte 0 is truncated or corrupt"),
        (1.0, "png, cut", "byte 0 is truncated or corrupt"),
        (1.0, "28", "28×28, not 32×32"),
        (10.0, "32", "image 0 has label 10"),
        (0.5, "32", "image 0 has label 0.5"),
        (float("nan"), "32", "image 0 has label nan"),
    ],
)
def test_a_wrong_record_is_named(tmp_path, label, payload, message):
    write_records(tmp_path)
    image = TEST[0][0][:28, :28] if payload == "28" else TEST[0][0]
    record = packed(image, label, extension=".jpg" if payload == "jpeg, cut" else ".png")
    if isinstance(payload, bytes):
        record = mx.recordio.pack(mx.recordio.IRHeader(0, label, 0, 0), payload)
    elif "cut" in payload:
        record = record[: len(record) // 2]
    writer = mx.recordio.MXIndexedRecordIO(
        str(tmp_path / "val.idx"), str(tmp_path / "val.rec"), "w"
    )
    writer.write_idx(0, record)
    writer.close()
    with pytest.raises(ValueError, match=rf"val\.rec: .*{message}"):
        load_cifar(tmp_path, train=False)
