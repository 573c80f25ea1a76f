"""COCO's annotations and SBD's as masks of VOC's classes."""

import json

from dsonas_mx.data import voc
from dsonas_mx.data.coco import NAMES, classes_by_category, convert, convert_sbd, mask_of

import numpy as np
import pytest
from PIL import Image

CATEGORIES = [
    {"id": 2 * number, "name": NAMES.get(name, name)}
    for number, name in enumerate(voc.CLASSES[1:], 1)
] + [{"id": 99, "name": "zebra"}]


def box(category, area, rows, columns, crowd=0):
    at = slice(*rows), slice(*columns)
    return {"category_id": category, "area": area, "iscrowd": crowd, "at": at}


def pixels(annotation):
    found = np.zeros((4, 6), np.uint8)
    found[annotation["at"]] = 1
    return found


def test_classes_are_vocs():
    classes = classes_by_category(CATEGORIES)
    assert classes[2] == 1 and classes[40] == 20 and len(classes) == 20 and 99 not in classes
    with pytest.raises(ValueError, match="no category 'dining table'"):
        classes_by_category([c for c in CATEGORIES if c["name"] != "dining table"])


def test_smaller_objects_are_in_front_and_crowds_behind_all():
    annotations = [
        box(4, 2, (0, 1), (0, 2)),
        box(2, 8, (0, 2), (0, 4)),
        box(99, 24, (0, 4), (0, 6)),
        box(30, 99, (0, 4), (1, 5), crowd=1),
    ]
    expected = [[2, 2, 1, 1, 255, 0], [1, 1, 1, 1, 255, 0]] + 2 * [[0, 255, 255, 255, 255, 0]]
    mask = mask_of(4, 6, annotations, classes_by_category(CATEGORIES), pixels)
    np.testing.assert_array_equal(mask, expected)


@pytest.fixture
def coco(tmp_path):
    """Two images, one of a polygon of 1,600 pixels and one of too few."""
    root = tmp_path / "coco"
    images = [
        {"id": number, "file_name": f"{number:012d}.jpg", "height": 60, "width": 80}
        for number in (1, 2)
    ]
    annotations = []
    for image, side in ((1, 40), (2, 9)):
        corners = [[10, 10, 10 + side, 10, 10 + side, 10 + side, 10, 10 + side]]
        annotations.append(
            {
                "id": image,
                "image_id": image,
                "category_id": 6,
                "iscrowd": 0,
                "area": side**2,
                "segmentation": corners,
            }
        )
    (root / "annotations").mkdir(parents=True)
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    for part in ("train", "val"):
        (root / f"{part}2017").mkdir()
        (root / f"annotations/instances_{part}2017.json").write_text(json.dumps(content))
        for image in images:
            pixels = np.full((60, 80, 3), 99, np.uint8)
            Image.fromarray(pixels).save(root / f"{part}2017" / image["file_name"])
    return root


def test_from_annotations_to_scenes(coco, script, tmp_path):
    pytest.importorskip("pycocotools")
    out = tmp_path / "out"
    status, text, err = script("tools/prepare_data.py", "coco-voc", coco, "--out", out)
    assert (status, text, err) == (0, "train: 1 images\nval: 1 images\n", "")
    scenes = voc.load_scenes(out, "train")
    image, labels = scenes.read(0)
    assert image.shape == (60, 80, 3)
    expected = np.zeros((60, 80), int)
    expected[10:50, 10:50] = 3
    assert (labels != expected).mean() < 0.02  # a polygon's border
    status, _, err = script("tools/prepare_data.py", "coco-voc", coco, "--out", out)
    assert status == 2 and "is there already" in err
    (coco / "train2017/000000000001.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"000000000001.jpg: not there, though .* names it"):
        convert(coco / "annotations/instances_train2017.json", coco / "train2017", out, "train")
    content = json.loads((coco / "annotations/instances_val2017.json").read_text())
    content["images"][0]["file_name"] = "../val2017/000000000001.jpg"
    (tmp_path / "out.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"out.json: '../val2017/0000.*' is no name of a file"):
        convert(tmp_path / "out.json", coco / "val2017", out, "val")
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    with pytest.raises(ValueError, match="bad.json: not COCO's instances"):
        convert(bad, coco, out, "train")


def test_sbd(script, tmp_path):
    savemat = pytest.importorskip("scipy.io").savemat
    root, out = tmp_path / "dataset", tmp_path / "out"
    mask = np.arange(48, dtype=np.uint8).reshape(6, 8) % 21
    for folder in ("img", "cls"):
        (root / folder).mkdir(parents=True)
    (root / "train.txt").write_text("../img/a\n")
    with pytest.raises(ValueError, match=r"train.txt: '../img/a' is no name of a file"):
        convert_sbd(root, out)
    for part, name in (("train", "a"), ("val", "b")):
        (root / f"{part}.txt").write_text(f"{name}\n")
        Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(root / f"img/{name}.jpg")
        savemat(str(root / f"cls/{name}.mat"), {"GTcls": {"Segmentation": mask}})
    status, text, err = script("tools/prepare_data.py", "sbd", root, "--out", out)
    assert (status, text, err) == (0, "train: 2 images\n", "")
    np.testing.assert_array_equal(voc.load_scenes(out, "train").read(1)[1], mask)
    status, _, err = script("tools/prepare_data.py", "sbd", root, "--out", out)
    assert status == 2 and "train.txt is there already: remove it, or give another" in err
    good = (root / "cls/b.mat").read_bytes()
    other = ("tools/prepare_data.py", "sbd", root, "--out", tmp_path / "other")
    (root / "cls/b.mat").unlink()
    status, _, err = script(*other)
    assert status == 2 and "b.mat: not there" in err and err.count("\n") == 1
    (root / "cls/b.mat").write_bytes(good[:100])
    status, _, err = script(*other)
    assert status == 2 and "b.mat: not a mask of SBD (" in err and err.count("\n") == 1
    (root / "cls/b.mat").write_bytes(good)
    assert script(*other)[0] == 0  # what was begun is no hindrance
