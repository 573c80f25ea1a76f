"""The noise of λ's gradient, told from the disagreement of seeds."""

from dsonas_mx.data.images import Images
from dsonas_mx.data.loader import Loader
from dsonas_mx.experiments.gradients import between, lambda_gradients, noise
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import SearchSpace

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from symbols import get_model


def drawn(seed, expected, deviation=1.0, batches=400):
    return expected + np.random.RandomState(seed).normal(0, deviation, (batches, len(expected)))


def test_signal_and_noise_are_told_apart():
    expected = np.random.RandomState(0).normal(0, 0.2, 500)
    found = noise(drawn(1, expected))
    assert found["deviation"] == pytest.approx(1, rel=0.02)
    assert found["signal"] == pytest.approx(0.2, rel=0.1)
    assert found["batches"] == pytest.approx(25, rel=0.2)
    assert found["reliability"] == pytest.approx(400 / 425, abs=0.02)
    assert noise(drawn(2, np.zeros(500)))["reliability"] < 0.4


def test_seeds_with_the_same_and_with_other_expected_gradients():
    common, own = np.random.RandomState(0).normal(0, 0.1, (2, 3000))
    same = between([drawn(seed, common, batches=100) for seed in (1, 2)])
    assert same["spearman"] == pytest.approx(0.5, abs=0.06)  # half of the means is noise
    assert same["corrected"] == pytest.approx(1, abs=0.1)
    other = between([drawn(1, common, batches=100), drawn(2, own, batches=100)])
    assert abs(other["corrected"]) < 0.15


def test_gradients_are_those_of_autograd():
    space = SearchSpace(levels=2, operations=("sep3", "max"), blocks=(1,), width=4, image_size=8)
    generator = np.random.RandomState(0)
    pixels = generator.randint(0, 256, (12, 8, 8, 3)).astype(np.uint8)
    images = Images(pixels, np.arange(12, dtype=np.int32) % 10, tuple("abcdefghij"))
    plain = lambda batch, _: batch.transpose(0, 3, 1, 2).astype(np.float32) / 255  # noqa: E731
    data = Loader(images, None, 4, plain, prefetch=0)
    mx.random.seed(0)
    net = get_model("dsonas", Architecture.complete(space), weighted=True)
    net.initialize()
    found = lambda_gradients(net, data, 5)  # an epoch has three batches
    assert found.shape == (5, len(space.connections))
    batches = [*data.epoch(0), *data.epoch(1)][:5]
    loss = mx.gluon.loss.SoftmaxCELoss()
    for batch, row in zip(batches, found):
        with autograd.record():
            value = loss(net(mx.nd.array(batch.data)), mx.nd.array(batch.labels)).mean()
        value.backward()
        expected = net.collect_params()["lambdas"].grad().asnumpy()
        np.testing.assert_allclose(row, expected, rtol=1e-3, atol=1e-5)
