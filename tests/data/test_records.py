"""Images of RecordIO files: their index, damage, and ImageNet's augmentation."""

import struct

from dsonas_mx.data import recordio
from dsonas_mx.data.imagenet import (
    EIGENVALUES,
    EIGENVECTORS,
    ImageNetAugmentation,
    centre,
    jittered,
    lighting,
    normalised,
)
from dsonas_mx.data.loader import Loader, RecordLoader
from dsonas_mx.data.records import Records

import cv2
import numpy as np
import pytest

COUNT, CLASSES = 12, 3


def jpeg(number):
    """A photo of one grey, lighter by number, of 40×30."""
    image = np.full((30, 40, 3), 10 * number, np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "train.rec"
    recordio.write(
        path,
        [recordio.Entry(100 + n, n % CLASSES, jpeg(n), f"{n}.jpg") for n in range(COUNT)],
    )
    return path


def damage(path, record, what):
    """Overwrite a record's magic number, or its image, or cut the file inside it."""
    offset = recordio.read_index(path.with_suffix(".idx"))[record]
    content = bytearray(path.read_bytes())
    if what == "magic":
        content[offset : offset + 4] = b"\0\0\0\0"
    elif what == "image":
        content[offset + 32 : offset + 132] = b"\0" * 100
    else:
        del content[offset + 50 :]
    path.write_bytes(bytes(content))


def test_images_and_labels(file):
    records = Records(file, CLASSES, 8)
    images, labels = records.take(np.array([3, 7]), whole=True)
    assert [image.shape for image in images] == [(30, 40, 3)] * 2
    assert [round(image.mean()) for image in images] == [30, 70]
    assert labels.tolist() == [0, 1]
    assert records.keys.tolist() == list(range(100, 112))


def test_index_is_made_again(file):
    index = file.with_suffix(".idx")
    before = index.read_bytes()
    index.unlink()
    assert len(Records(file, CLASSES, 8)) == COUNT
    assert index.read_bytes() == before


def test_index_is_made_again_around_damage(file):
    damage(file, 4, "magic")
    damage(file, COUNT - 1, "cut")
    offsets = recordio.read_index(file.with_suffix(".idx"))
    file.with_suffix(".idx").unlink()
    records = Records(file, CLASSES, 8)
    assert records.keys.tolist() == [key for key in range(100, 111) if key != 104]
    assert records.damaged == [offsets[4], offsets[COUNT - 1]]


@pytest.mark.parametrize("what", ["magic", "image", "cut"])
def test_corrupt_record_is_skipped_with_its_key(file, what):
    record = COUNT - 1
    damage(file, record, what)
    records = Records(file, CLASSES, 8)
    loader = Loader(records, None, 4, ImageNetAugmentation(8), drop_last=False, shuffle=False)
    batches = list(loader.epoch(0))
    assert sum(len(batch.data) for batch in batches) == COUNT - 1
    assert list(records.skipped) == [100 + record]


def test_others_of_a_batch_stand_in(file):
    damage(file, 1, "image")
    records = Records(file, CLASSES, 8)
    images, labels = records.take(np.array([0, 1, 2]), whole=True)
    assert [round(image.mean()) for image in images] == [0, 20, 0]
    assert labels.tolist() == [0, 2, 0]
    with pytest.raises(ValueError, match="none of the 1 images .* record 101"):
        records.take(np.array([1]), whole=True)


def test_index_of_another_file(file):
    places = recordio.read_places(file)
    recordio.write_places(file, [place._replace(offset=place.offset + 2) for place in places])
    with pytest.raises(ValueError, match="remove the .idx"):
        Records(file, CLASSES, 8)


def test_too_few_classes(file):
    with pytest.raises(ValueError, match="record 102 has label 2, not 0 to 1: give another"):
        Records(file, 2, 8)


def test_batches_do_not_depend_on_threads(file):
    def batch(threads):
        records = Records(file, CLASSES, 8, threads)
        loader = Loader(records, None, 6, ImageNetAugmentation(8, threads=threads), seed=3)
        return list(loader.epoch(1))[1].data

    assert np.array_equal(batch(1), batch(3))
    assert not np.array_equal(batch(1)[0], batch(1)[1])


@pytest.mark.parametrize("part", [slice(0, 3), slice(3, 6)])
def test_a_worker_decodes_its_part_alone(file, part):
    """Bit for bit that of the whole batch; a damaged record is met by whoever has it."""
    augment = ImageNetAugmentation(8)
    loaders = [RecordLoader(Records(file, CLASSES, 8), None, 6, augment, seed=3) for _ in range(2)]
    loaders[1].part = part
    for whole, own in zip(*(loader.epoch(1) for loader in loaders)):
        assert np.array_equal(own.data[part], whole.data[part])
        assert np.array_equal(own.labels, whole.labels)
        assert np.count_nonzero(own.data.any((1, 2, 3))) == 3
    damage(file, part.start, "image")
    other = RecordLoader(Records(file, CLASSES, 8), range(6), 6, augment, shuffle=False, prefetch=0)
    other.part = slice(3 - part.start, 6 - part.start)
    next(other.epoch(0))
    assert not other.images.skipped


def test_crop_covers_the_area_asked_for():
    """Columns count from 0 to 199, so a crop says where it was and how wide."""
    image = np.repeat(np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 100, 0), 3, 2)
    augment = ImageNetAugmentation(50, area=(0.1, 0.1), colour=0, lighting=0, mirror=False)
    data = augment([image] * 200, np.random.default_rng(0))
    columns = (data[:, 0] * 0.229 + 0.485) * 255
    widths = (columns[:, 25, -5] - columns[:, 25, 4]) * 50 / 41
    # 0.1 of 20,000 pixels, with an aspect between 3/4 and 4/3.
    assert widths.min() > np.sqrt(2000 * 3 / 4) - 4
    assert widths.max() < np.sqrt(2000 * 4 / 3) + 4
    assert widths.std() > 1


def test_centre_of_a_test():
    """Of 300×200 the short side becomes 32, and 28×28 are cut out of the middle of 48×32."""
    image = np.repeat(np.repeat(np.arange(240, dtype=np.uint8)[None, :, None], 160, 0), 3, 2)
    cut = centre(image, 28)
    assert cut.shape == (28, 28, 3)
    assert abs(float(cut.mean()) - 119.5) < 1
    assert int(cut[0, -1, 0]) - int(cut[0, 0, 0]) == pytest.approx(27 * 5, abs=2)


def test_colour_changes_what_it_says():
    image = np.random.default_rng(0).random((6, 6, 3), np.float32)
    data = jittered(image, 0.4, np.random.default_rng(1))
    assert data.shape == image.shape
    assert not np.allclose(data, image)
    assert np.array_equal(jittered(image, 0.0, np.random.default_rng(1)), image)
    grey = np.full((4, 4, 3), 0.5, np.float32)  # has only brightness to change
    changed = jittered(grey, 0.4, np.random.default_rng(2))
    assert changed.std() < 1e-6
    assert 0.3 <= changed.mean() <= 0.7


def test_lighting_moves_along_principal_colours():
    shift = lighting(np.array((1.0, 0, 0)))
    assert np.allclose(shift, EIGENVECTORS[:, 0] * EIGENVALUES[0], atol=1e-7)


def test_normalised():
    data = normalised(np.full((2, 3, 3), (0.485, 0.456, 0.406 + 0.225), np.float32))
    assert data.shape == (3, 2, 3)
    assert np.allclose(data[:, 0, 0], (0, 0, 1), atol=1e-6)


def write_framed(path, payloads):
    """Records of such payloads, and their index."""
    offsets = []
    with open(path, "wb") as stream:
        for payload in payloads:
            offsets.append(stream.tell())
            stream.write(struct.pack("<II", 0xCED7230A, len(payload)))
            stream.write(payload + b"\0" * (-len(payload) % 4))
    lines = (f"{key}\t{offset}\n" for key, offset in enumerate(offsets))
    path.with_suffix(".idx").write_text("".join(lines))


def payload(labels, image, flag=None):
    header = struct.pack("<IfQQ", len(labels) if flag is None else flag, labels[0], 0, 0)
    more = struct.pack(f"<{len(labels)}f", *labels) if flag is None else b""
    return header + more + image


@pytest.mark.parametrize("indexed", [True, False])
def test_a_record_has_one_label(tmp_path, indexed):
    path = tmp_path / "train.rec"
    write_framed(path, [payload([1.0], jpeg(3)), payload([0.0], jpeg(4), flag=0)])
    assert Records(path, None, 8).labels.tolist() == [1, 0]
    # As detection has them: the first number is how many there are in its header.
    write_framed(path, [payload([1.0], jpeg(3)), payload([2.0, 5.0, 1.0], jpeg(4))])
    if not indexed:
        path.with_suffix(".idx").unlink()
    with pytest.raises(ValueError, match="has 3 labels, not one, as for detection"):
        Records(path, None, 8)


@pytest.mark.parametrize("indexed", [True, False])
def test_headers_without_an_image_are_skipped(tmp_path, indexed):
    path = tmp_path / "train.rec"
    images = [payload([n % 2], jpeg(n)) for n in range(4)]
    write_framed(path, [payload([4.0, 6.0], b""), *images])
    if not indexed:
        path.with_suffix(".idx").unlink()
    records = Records(path, None, 8)
    assert len(records) == 4 and list(records.skipped.values()) == ["it has no image"]
    assert not records.notes


@pytest.mark.parametrize("label", [0.5, -1.0, float("inf")])
def test_labels_that_are_no_class(tmp_path, label):
    path = tmp_path / "train.rec"
    write_framed(path, [payload([0.0], jpeg(1)), payload([label], jpeg(2))])
    with pytest.raises(ValueError, match=f"record 1 has label {label:g}, not a whole number"):
        Records(path, None, 8)


def test_an_index_that_leaves_records_out_is_told_of(file):
    index = file.with_suffix(".idx")
    assert not Records(file, None, 8).notes
    offsets = recordio.read_index(index)
    index.write_text("".join(index.read_text().splitlines(True)[:-1]))
    (note,) = Records(file, None, 8).notes
    assert f"{file.stat().st_size - offsets[-1]:,} bytes are of no record that its .idx" in note


def test_classes_are_counted_and_named(file):
    assert Records(file, None, 8).classes == ("0", "1", "2")
    (file.parent / "classes.txt").write_bytes("\ufeffa\r\nb\r\n\r\nc\r\n".encode())
    assert Records(file, None, 8).classes == ("a", "b", "c")
    assert len(Records(file, 5, 8).classes) == 5
