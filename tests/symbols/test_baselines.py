"""ResNet and DenseNet of table 1: their published sizes, and small ones by hand."""

import math

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model, get_symbol
from symbols.baselines import PUBLISHED, cost_of, densenet_bc, resnet_preact

# All weights, biases and BN parameters; multiply-adds of one 32×32 image.
EXPECTED = {
    "resnet_preact_1001": (10_327_706, 1_490_995_712),
    "densenet_bc_190_40": (25_624_430, 9_301_945_740),
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_sizes(name):
    cost = cost_of(name)
    assert (cost.parameters, cost.multiply_adds) == EXPECTED[name]
    # The ResNet paper rounds the weights of convolutions: 10.18M.
    assert cost.parameters == pytest.approx(PUBLISHED[name].parameters, rel=0.013)


def test_the_residual_network_by_hand():
    """One bottleneck a stage, of c channels between i and 4c: i c + 9 c² + 4 c² and i 4c."""
    weights, normalised, inputs = 27 * 16, 0, 16
    for c in (16, 32, 64):
        weights += inputs * c + 9 * c * c + 4 * c * c + inputs * 4 * c
        normalised += inputs + 2 * c
        inputs = 4 * c
    expected = weights + 2 * (normalised + 256) + 2570
    net = resnet_preact(11)
    net.initialize()
    assert net(mx.nd.zeros((2, 3, 32, 32))).shape == (2, 10)
    learned = [p for p in net.collect_params().values() if "running" not in p.name]
    assert sum(math.prod(p.shape) for p in learned) == expected
    shapes = net[3].body(net[3].before(net[2](net[1](net[0](mx.nd.zeros((1, 3, 32, 32))))))).shape
    assert shapes == (1, 256, 8, 8)


def test_the_dense_network_by_hand():
    """Two stages' channels: 2k + nk, halved, and so on; a layer of i inputs has 4ik + 36k²."""
    k, layers = 6, 2
    weights, normalised, channels = 27 * 2 * k, 0, 2 * k
    for stage in range(3):
        if stage:
            normalised += channels
            weights += channels * (channels // 2)
            channels //= 2
        for _ in range(layers):
            normalised += channels + 4 * k
            weights += 4 * k * channels + 9 * 4 * k * k
            channels += k
    expected = weights + 2 * (normalised + channels) + 10 * channels + 10
    net = densenet_bc(6 * layers + 4, k)
    net.initialize()
    assert net(mx.nd.zeros((2, 3, 32, 32))).shape == (2, 10)
    learned = [p for p in net.collect_params().values() if "running" not in p.name]
    assert sum(math.prod(p.shape) for p in learned) == expected


@pytest.mark.parametrize("build", [lambda: resnet_preact(11), lambda: densenet_bc(10, 4)])
def test_they_learn_and_hybridize(build):
    """Every parameter gets a gradient, and the hybridized network computes the same."""
    mx.random.seed(0)
    net = build()
    net.initialize()
    x = mx.nd.array(np.random.RandomState(0).randn(4, 3, 16, 16))
    with mx.autograd.record():
        loss = (net(x) ** 2).sum()
    loss.backward()
    for name, parameter in net.collect_params().items():
        if parameter.grad_req != "null":
            assert np.abs(parameter.grad().asnumpy()).max() > 0, name
    expected = net(x).asnumpy()
    net.hybridize()
    np.testing.assert_allclose(net(x).asnumpy(), expected, rtol=1e-4, atol=1e-5)


def test_by_name():
    symbol = get_symbol("densenet_bc_190_40", num_classes=100)
    assert symbol.infer_shape(data=(2, 3, 32, 32))[1] == [(2, 100)]
    with pytest.raises(ValueError, match="densenet_bc_190_40 takes no architecture"):
        get_model("densenet_bc_190_40", object())
    with pytest.raises(ValueError, match="no network 'resnet'; known are densenet_bc_190_40, dso"):
        get_model("resnet")


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: resnet_preact(111), "depth must be 9n \\+ 2, as 164 or 1001, got 111"),
        (lambda: resnet_preact(2), "depth must be 9n \\+ 2"),
        (lambda: densenet_bc(191), "depth must be 6n \\+ 4, as 100 or 190, got 191"),
        (lambda: densenet_bc(10, 0), "growth must be at least 1, got 0"),
    ],
)
def test_refuses(build, message):
    with pytest.raises(ValueError, match=message):
        build()
