from __future__ import annotations

from dsonas_mx.data import DATA_SETS, fashion_mnist, load_fashion_mnist

import numpy as np
import pytest


@pytest.mark.parametrize("train, count", [(True, 6000), (False, 2000)])
def test_halves_are_balanced(train, count):
    data = load_fashion_mnist(train)
    assert data.images.shape == (count, 28, 28, 1)
    assert data.images.dtype == np.uint8 and data.images.max() == 255
    assert data.labels.dtype == np.int32
    assert np.bincount(data.labels).tolist() == [count // 10] * 10
    assert len(data.classes) == 10


def test_halves_share_no_image():
    train, test = (
        load_fashion_mnist(True).images,
        load_fashion_mnist(False).images,
    )
    shared = {image.tobytes() for image in train} & {image.tobytes() for image in test}
    assert not shared


def test_classes_look_like_their_names():
    # Trousers and dresses leave the left edge dark, footwear and bags the top.
    data = load_fashion_mnist(True)
    means = np.stack([data.images[data.labels == k, ..., 0].mean(0) for k in range(10)])
    edge = means[:, :, :6].mean((1, 2))
    top = means[:, :4].mean((1, 2))
    assert {data.classes[k] for k in np.argsort(edge)[:2]} == {"trouser", "dress"}
    low = {"sandal", "sneaker", "bag", "ankle boot"}
    assert {data.classes[k] for k in np.argsort(top)[:4]} == low


def test_mean_and_std_are_the_training_halfs():
    mean, std = load_fashion_mnist(True).mean_std()
    np.testing.assert_allclose(DATA_SETS["fashion_mnist"].mean, mean, atol=5e-5)
    np.testing.assert_allclose(DATA_SETS["fashion_mnist"].std, std, atol=5e-5)


def test_missing_file_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(fashion_mnist, "FILE", tmp_path / "away.npz")
    with pytest.raises(FileNotFoundError, match=r"away\.npz.*install"):
        load_fashion_mnist()


def test_licence_is_beside_the_data():
    text = fashion_mnist.FILE.with_name("LICENSE.fashion_mnist").read_text("utf-8")
    assert "MIT License" in text and "Zalando SE" in text
