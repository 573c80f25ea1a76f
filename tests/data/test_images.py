from __future__ import annotations

from dsonas_mx.data import Images, load_data_set
from dsonas_mx.data.registry import DATA_SETS

import numpy as np
import pytest

CLASSES = ("cat", "dog")


def images(**changes):
    arrays = {
        "images": np.zeros((2, 4, 5, 3), np.uint8),
        "labels": np.array([0, 1], np.int32),
        "classes": CLASSES,
    }
    arrays.update(changes)
    return Images(**arrays)


def test_mean_and_std_are_numpys():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), dtype=np.uint8)
    pixels[..., 1] //= 2
    data = Images(pixels, np.zeros(7, np.int32), CLASSES)
    mean, std = data.mean_std()
    np.testing.assert_allclose(mean, (pixels / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (pixels / 255).std((0, 1, 2)), rtol=1e-12)
    assert len(data) == 7


def test_half_as_large_are_means_of_four_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    data = images(images=pixels, labels=np.array([0, 1, 1], np.int32))
    means = pixels.reshape(3, 4, 2, 4, 2, 3).mean((2, 4))
    assert np.abs(data.at(4).images - means).max() <= 0.5
    assert data.at(8) is data
    known = DATA_SETS["cifar10"].at(16)
    assert (known.image_size, known.pad) == (16, 2)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"images": np.zeros((2, 4, 5, 3))}, "uint8"),
        ({"images": np.zeros((2, 4, 5), np.uint8)}, "N×H×W×C"),
        ({"labels": np.zeros(3, np.int32)}, r"shape \(2,\)"),
        ({"labels": np.zeros(2)}, "int32"),
        ({"labels": np.array([0, 2], np.int32)}, "between 0 and 1, got 0 to 2"),
        ({"labels": np.array([-1, 0], np.int32)}, "between 0 and 1, got -1 to 0"),
        (
            {"images": np.zeros((0, 4, 5, 3), np.uint8), "labels": np.zeros(0, np.int32)},
            "at least one",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        images(**changes)


def test_load_by_name():
    assert load_data_set("fashion_mnist", train=False).images.shape == (2000, 28, 28, 1)
    with pytest.raises(ValueError, match="cifar10, cifar100, fashion_mnist, got mnist"):
        load_data_set("mnist")
    with pytest.raises(ValueError, match="`data_dir`"):
        load_data_set("cifar10")
