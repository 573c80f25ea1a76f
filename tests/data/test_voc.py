"""Scenes in VOC layout: what is read, what is refused, and batches of crops."""

import shutil

from dsonas_mx.data import voc
from dsonas_mx.data.registry import IMAGENET_MEAN as MEAN
from dsonas_mx.data.registry import IMAGENET_STD as STD
from dsonas_mx.data.scenes import Crop, SceneLoader

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path, scenes_folder):
    """One that a test may damage."""
    return shutil.copytree(scenes_folder, tmp_path / "garden")


def test_reads_images_and_masks(scenes_folder):
    scenes = voc.load_scenes(scenes_folder, "val")
    assert scenes.classes == ("ground", "leaf", "berry")
    assert [files.name for files in scenes.files] == ["val0", "val1", "val2"]
    image, labels = scenes.read(1)
    assert (image.shape, image.dtype) == ((48, 48, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((48, 48), np.int16)
    assert (labels[0] == -1).all() and (labels[1:, 1:] >= 0).all()
    for number, colour in enumerate([[120, 90, 60], [30, 200, 40], [220, 20, 60]]):
        assert abs(image[labels == number].mean(0) - colour).max() < 25


def test_train_does_not_read_other_lists(scenes_folder, folder):
    """Neither trainval, nor an image that is tested on, whichever folder it comes from."""
    lists = folder / "ImageSets/Segmentation"
    (lists / "trainval.txt").write_text("train0\nval0\nval1\nval2\n")
    (lists / "train.txt").write_text("train1\nval2\n")
    test = voc.held_out(str(scenes_folder.parent), ["garden"])
    assert test == {"val0", "val1", "val2"}
    scenes = voc.training([scenes_folder, folder], test)
    assert [files.name for files in scenes.files] == [f"train{number}" for number in range(8)]
    assert scenes.files[1].mask.parent.parent == folder


def test_sbd_is_without_what_voc_tests_on(voc_and_sbd):
    test = voc.held_out(str(voc_and_sbd), ["sbd"])
    assert test == {"val0", "val1"}
    scenes = voc.training([voc_and_sbd / "sbd"], test)
    names = [files.name for files in scenes.files]
    assert names == ["train0", "train1", "train2", "train3", "train4", "val2"]
    shutil.rmtree(voc_and_sbd / "voc")
    with pytest.raises(FileNotFoundError, match=r"data/voc: .*; SBD has images of VOC's val"):
        voc.held_out(str(voc_and_sbd), ["sbd"])


@pytest.mark.parametrize(
    "damage, message",
    [
        ("class", r"SegmentationClass/train0.png: class 3 is unknown, there are 3 \(0 to 2"),
        ("size", r"SegmentationClass/train0.png: the mask has 8×9 pixels, its image 32×48"),
        ("colour", r"SegmentationClass/train0.png: a mask must be a palette or grey PNG, not RGB"),
        ("cut", r"JPEGImages/train0.jpg: truncated or corrupt"),
    ],
)
def test_names_what_is_wrong_with_a_scene(folder, damage, message):
    mask, image = folder / "SegmentationClass/train0.png", folder / "JPEGImages/train0.jpg"
    if damage == "class":
        Image.fromarray(np.full((48, 32), 3, np.uint8)).save(mask)
    elif damage == "size":
        Image.fromarray(np.zeros((9, 8), np.uint8)).save(mask)
    elif damage == "colour":
        Image.fromarray(np.zeros((48, 32, 3), np.uint8)).save(mask)
    else:
        image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(ValueError, match=message) as error:
        voc.load_scenes(folder, "train").read(0)
    assert "\n" not in str(error.value)


def test_names_what_is_missing(folder):
    (folder / "SegmentationClass/train3.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"train3.png: not there, though .*train.txt names"):
        voc.load_scenes(folder, "train")
    with pytest.raises(FileNotFoundError, match=r"test.txt: not there"):
        voc.load_scenes(folder, "test")
    with pytest.raises(FileNotFoundError, match=r"nowhere/voc: not a folder in VOC layout"):
        voc.find("nowhere", "voc")
    (folder / "ImageSets/Segmentation/val.txt").write_text("val0\n../val1\n")
    with pytest.raises(ValueError, match=r"val.txt: line 2 is no name"):
        voc.load_scenes(folder, "val")


def test_folders_of_other_classes_are_not_mixed(scenes_folder, folder):
    (folder / "classes.txt").unlink()
    assert voc.read_classes(folder)[:2] == ("background", "class 1")  # whose they are is unknown
    with pytest.raises(ValueError, match="has other classes than"):
        voc.training([scenes_folder, folder])


def test_vocs_classes_need_no_file(tmp_path):
    for name in ("voc", "VOCdevkit/VOC2012", "SBD", "coco-voc"):
        assert voc.read_classes(tmp_path / name) == tuple(voc.CLASSES)


def test_palette_is_vocs():
    expected = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    np.testing.assert_array_equal(voc.palette()[:4], expected)
    np.testing.assert_array_equal(voc.palette()[[15, 255]], [[192, 128, 128], [224, 224, 192]])


def test_crop_pads_with_the_mean_and_ignores_it():
    image = np.full((4, 6, 3), 100, np.uint8)
    labels = np.full((4, 6), 2, np.int16)
    crop = Crop(8, scales=(1, 1))
    data, target = crop(image, labels, np.random.default_rng(0))
    expected = (np.float32(100) / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(data[:, :4, :6], np.tile(expected[:, None, None], (1, 4, 6)), 1e-5)
    assert not data[:, 4:].any() and not data[:, :, 6:].any()
    assert (target[:4, :6] == 2).all() and (target[4:] == -1).all() and (target[:, 6:] == -1).all()


def test_crop_scales_and_mirrors_image_and_labels_alike(scenes_folder):
    """Colours say what the labels must be, but at the borders of the blocks."""
    image, labels = voc.load_scenes(scenes_folder, "train").read(0)
    colours = np.array([[120, 90, 60], [30, 200, 40], [220, 20, 60]])
    means = (colours / 255 - np.array(MEAN)) / np.array(STD)
    shares = []
    for seed in range(20):
        data, target = Crop(24)(image, labels, np.random.default_rng(seed))
        nearest = ((data[None] - means[:, :, None, None]) ** 2).sum(1).argmin(0)
        labelled = target >= 0
        shares.append((nearest == target)[labelled].mean())
    assert min(shares) > 0.8 and np.mean(shares) > 0.9


def batches(loader, epoch=0, start=0):
    return [(batch.data, batch.labels) for batch in loader.epoch(epoch, start)]


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a, c) and np.array_equal(b, d) for (a, b), (c, d) in zip(one, other)
    )


def test_batches_depend_on_seed_epoch_and_place_alone(scenes_folder):
    scenes = voc.load_scenes(scenes_folder, "train")
    loader = SceneLoader(scenes, None, 3, Crop(16), seed=5, threads=1)
    whole = batches(loader)
    assert [data.shape for data, _ in whole] == [(3, 3, 16, 16)] * 2 == [loader.data_shape] * 2
    assert [labels.shape for _, labels in whole] == [loader.label_shape] * 2
    other = SceneLoader(scenes, None, 3, Crop(16), seed=5, threads=4)
    assert same(batches(other), whole)
    assert same(batches(other, start=1), whole[1:])
    assert not same(batches(other, epoch=1), whole)
    assert not same(batches(SceneLoader(scenes, None, 3, Crop(16), seed=6)), whole)


def test_an_error_of_a_worker_is_raised(folder):
    (folder / "JPEGImages/train0.jpg").write_bytes(b"nothing")
    loader = SceneLoader(voc.load_scenes(folder, "train"), None, 8, Crop(16))
    with pytest.raises(ValueError, match="train0.jpg: not an image"):
        batches(loader)


def test_which_classes_occur_in_masks(folder):
    """In all of them, or evenly in some; what is ignored is no class."""
    scenes = voc.load_scenes(folder, "train")
    for files, label in zip(scenes.files, (0, 2, 255, 0, 0, 0, 0, 1)):
        Image.fromarray(np.full((48, 32), label, np.uint8)).save(files.mask)
    found, count = voc.classes_in(scenes)
    assert (found.tolist(), count) == ([0, 1, 2], 8)
    found, count = voc.classes_in(scenes, most=3)
    assert (found.tolist(), count) == ([0, 1], 3)
