"""Losses against numpy, as arrays and as symbols."""

from dsonas_mx.training.loss import cross_entropy, pixel_cross_entropy, smoothed, with_auxiliary

import mxnet as mx
import numpy as np
import pytest


def numpy_cross_entropy(logits, label):
    """−log softmax, in float64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return -np.take_along_axis(log_p, label.astype(int)[:, None], -1)[:, 0]


@pytest.fixture
def batch():
    generator = np.random.RandomState(0)
    logits, tower = (3 * generator.randn(5, 4).astype("float32") for _ in range(2))
    return logits, tower, generator.randint(0, 4, 5).astype("float32")


def as_symbols(loss, **arrays):
    """The loss of these arrays by way of an executor; the last of them is the label."""
    *outputs, label = (mx.sym.Variable(name) for name in arrays)
    symbol = loss(mx.sym, outputs if len(outputs) > 1 else outputs[0], label)
    executor = symbol.bind(mx.cpu(), {name: mx.nd.array(a) for name, a in arrays.items()})
    return executor.forward()[0].asnumpy()


def test_cross_entropy(batch):
    logits, _, label = batch
    expected = numpy_cross_entropy(logits, label)
    actual = cross_entropy(mx.nd, mx.nd.array(logits), mx.nd.array(label))
    np.testing.assert_allclose(actual.asnumpy(), expected, rtol=1e-5, atol=1e-6)
    actual = as_symbols(cross_entropy, logits=logits, label=label)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_large_logits_stay_finite():
    logits = mx.nd.array([[1e4, -1e4], [-1e4, 1e4]])
    loss = cross_entropy(mx.nd, logits, mx.nd.array([0, 0]))
    np.testing.assert_allclose(loss.asnumpy(), [0, 2e4], atol=1e-5)


@pytest.mark.parametrize("weight", [0.4, 0.0, 1.5])
def test_the_tower_has_a_weight(batch, weight):
    logits, tower, label = batch
    expected = numpy_cross_entropy(logits, label) + weight * numpy_cross_entropy(tower, label)
    loss = with_auxiliary(weight)
    arrays = [mx.nd.array(array) for array in batch]
    actual = loss(mx.nd, arrays[:2], arrays[2]).asnumpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    actual = as_symbols(loss, logits=logits, tower=tower, label=label)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_refuses_a_weight(weight):
    with pytest.raises(ValueError, match=f"auxiliary must be at least 0 and finite, got {weight}"):
        with_auxiliary(weight)


def test_label_smoothing_is_that_of_softmax_output():
    """MXNet's SoftmaxOutput has the gradient p − smoothed label."""
    logits, label = mx.nd.random.normal(shape=(4, 5)), mx.nd.array([0, 3, 4, 1])
    target = np.full((4, 5), 0.1 / 4)
    target[np.arange(4), label.asnumpy().astype(int)] = 0.9
    logits.attach_grad()
    with mx.autograd.record():
        loss = smoothed(0.1)(mx.nd, logits, label)
    loss.backward()
    expected = mx.nd.softmax(logits).asnumpy() - target
    assert np.allclose(logits.grad.asnumpy(), expected, atol=1e-6)
    log = mx.nd.log_softmax(logits).asnumpy()
    assert np.allclose(loss.asnumpy(), -(target * log).sum(1), atol=1e-6)


def pixel_losses(logits, label):
    """In numpy: each image's sum of −log p, over the labelled pixels an image."""
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    sums = np.zeros(len(logits))
    for b, i, j in zip(*np.nonzero(label >= 0)):
        sums[b] -= log_p[b, int(label[b, i, j]), i, j]
    return sums / max((label >= 0).sum() / len(label), 1)


@pytest.mark.parametrize("ignored", ["none", "some", "one image", "all"])
def test_pixel_cross_entropy_ignores_and_weighs(ignored):
    """Loss and gradients of both heads against numpy; the auxiliary one's are weighted."""
    generator = np.random.RandomState(0)
    logits, tower = generator.randn(2, 2, 3, 4, 5)
    label = generator.randint(0, 3, (2, 4, 5)).astype(np.float64)
    if ignored == "some":
        label[generator.rand(2, 4, 5) < 0.3] = -1
    elif ignored != "none":
        label[: {"one image": 1, "all": 2}[ignored]] = -1
    arrays = [mx.nd.array(a, dtype="float64") for a in (logits, tower)]
    for array in arrays:
        array.attach_grad()
    with mx.autograd.record():
        loss = with_auxiliary(0.4, pixel_cross_entropy)(
            mx.nd, arrays, mx.nd.array(label, dtype="float64")
        )
    loss.backward()
    expected = pixel_losses(logits, label) + 0.4 * pixel_losses(tower, label)
    np.testing.assert_allclose(loss.asnumpy(), expected, rtol=1e-6, atol=1e-12)
    one_hot = (label[:, None] == np.arange(3)[:, None, None]) * 1.0
    labelled = label >= 0
    for array, values, weight in zip(arrays, (logits, tower), (1, 0.4)):
        p = np.exp(values) / np.exp(values).sum(1, keepdims=True)
        gradient = weight * (p - one_hot) * labelled[:, None] / max(labelled.sum() / 2, 1)
        np.testing.assert_allclose(array.grad.asnumpy(), gradient, rtol=1e-5, atol=1e-12)
