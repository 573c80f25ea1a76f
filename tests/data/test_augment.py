from __future__ import annotations

from dsonas_mx.data.augment import Augmentation

import numpy as np
import pytest

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def batch(count=16, height=8, width=10, channels=3, seed=0):
    shape = (count, height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def normalised(images):
    data = (images / 255 - np.array(MEAN)) / np.array(STD)
    return data.transpose(0, 3, 1, 2)


def test_plain_is_normalisation():
    images = batch()
    data = Augmentation(MEAN, STD, cutout=4).plain()(images)
    assert data.dtype == np.float32 and data.flags.c_contiguous
    np.testing.assert_allclose(data, normalised(images), rtol=1e-5, atol=1e-6)


def test_each_image_is_a_crop_of_itself_padded():
    images, original = batch(200), batch(200)
    pad = 2
    data = Augmentation(MEAN, STD, pad=pad, fill=127)(images, np.random.default_rng(1))
    np.testing.assert_array_equal(images, original)
    assert data.flags.c_contiguous
    border = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    padded = normalised(np.pad(images, border, constant_values=127))
    seen = set()
    for image, source in zip(data, padded):
        matches = []
        for row in range(2 * pad + 1):
            for column in range(2 * pad + 1):
                crop = source[:, row : row + 8, column : column + 10]
                for mirrored in (False, True):
                    expected = crop[:, :, ::-1] if mirrored else crop
                    if np.allclose(image, expected, rtol=1e-5, atol=1e-6):
                        matches.append((row, column, mirrored))
        assert len(matches) == 1
        seen.update(matches)
    # 200 draws of 50 cases: each side of each choice appears, corners too.
    assert {row for row, _, _ in seen} == {column for _, column, _ in seen} == set(range(5))
    assert len(seen) > 40


def test_half_of_the_images_are_mirrored():
    images = batch(2000, 2, 3)
    data = Augmentation(MEAN, STD, pad=0)(images, np.random.default_rng(0))
    plain = normalised(images)
    mirrored = np.isclose(data, plain[..., ::-1], atol=1e-5).all((1, 2, 3))
    untouched = np.isclose(data, plain, atol=1e-5).all((1, 2, 3))
    assert (mirrored | untouched).all()
    assert abs(mirrored.mean() - 0.5) < 0.05


def test_cutout_is_a_square_of_zeros_cut_at_the_border():
    count, size, side = 3000, 32, 16
    images = np.full((count, size, size, 3), 255, np.uint8)
    augment = Augmentation(MEAN, STD, pad=0, mirror=False, cutout=side)
    data = augment(images, np.random.default_rng(0))
    zero = data == 0
    assert (zero == zero[:, :1]).all()
    np.testing.assert_allclose(data[~zero], normalised(images)[~zero], rtol=1e-5)
    rows, columns = zero[:, 0].any(2), zero[:, 0].any(1)
    square = rows[:, :, None] & columns[:, None, :]
    np.testing.assert_array_equal(zero[:, 0], square)
    # A centre at pixel c covers c - 8 to c + 7 of 0 to 31.
    lengths = [min(c + 8, size) - max(c - 8, 0) for c in range(size)]
    for inside in (rows, columns):
        assert (abs(np.diff(inside.astype(int), axis=1)).sum(1) <= 2).all()
        assert set(inside.sum(1)) == set(lengths)
        first, last = (inside[inside[:, edge]].sum(1).min() for edge in (0, -1))
        assert (first, last) == (lengths[0], lengths[-1]) == (8, 9)
    area = zero[:, 0].mean() * size**2
    assert abs(area - np.mean(lengths) ** 2) < 3


@pytest.mark.parametrize("cutout", [0, 3])
def test_the_generator_alone_decides(cutout):
    augment = Augmentation(MEAN, STD, cutout=cutout)
    first, again, other = (augment(batch(), np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_one_channel():
    images = batch(channels=1)
    data = Augmentation((0.5,), (0.25,)).plain()(images)
    np.testing.assert_allclose(data[:, 0], images[..., 0] / 63.75 - 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"pad": -1}, "pad must be at least 0, got -1"),
        ({"fill": 256}, "fill must lie between 0 and 255, got 256"),
        ({"cutout": -16}, "cutout must be at least 0"),
        ({"std": (0.2, 0.2, 0.0)}, "std must be positive"),
        ({"std": (0.2, 0.2)}, "a value a channel"),
        ({"mean": (0.2, 0.2, float("nan"))}, "mean must be finite"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**{"mean": MEAN, "std": STD, **options})


def test_misuse_is_named():
    with pytest.raises(ValueError, match="1 values for these images, got 3"):
        Augmentation(MEAN, STD).plain()(batch(channels=1))
    for option in ({"pad": 4}, {"mirror": True}, {"cutout": 2}):
        options = {"pad": 0, "mirror": False, **option}
        with pytest.raises(ValueError, match="needs a generator"):
            Augmentation(MEAN, STD, **options)(batch())
