"""Segmentation networks: strides turned into dilation, GluonCV's heads, any size, their sizes."""

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.cli.dry_run import count_parameters
from dsonas_mx.deploy.export import export, import_symbol
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.training.loss import pixel_cross_entropy, with_auxiliary

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model
from symbols.dsonas import Backbone
from symbols.mobilenet import MobileNet
from symbols.segmentation import ASPP, Features, deeplab, voc_space


@pytest.fixture
def space():
    return SearchSpace.imagenet(
        levels=2,
        operations=("sep3", "max"),
        blocks=(1, 1, 1),
        width=4,
        num_classes=3,
        image_size=33,
    )


def images(*shape, seed=0):
    return mx.nd.array(np.random.RandomState(seed).randn(*shape))


def test_parameters_at_the_papers_sizes():
    """Published 11.2M and 4.5M are without the 3×3 convolution of GluonCV's head, 590,336."""
    head = 9 * 256 * 256 + 2 * 256
    assert round((count_parameters(deeplab("mobilenet_v1", 21)) - head) / 1e6, 1) == 11.1
    assert round((count_parameters(deeplab("mobilenet_v2", 21)) - head) / 1e6, 1) == 4.5
    complete = Architecture.complete(voc_space())
    backbone = 12_459_688 - (2 * 224 + 225 * 1000)  # of the supernet, without final BN, classifier
    aspp = 224 * 256 * (1 + 3 * 9 + 1) + 5 * 256 * 256 + 6 * 2 * 256
    expected = backbone + 2 * 224 + aspp + head + 257 * 21
    assert count_parameters(deeplab(complete, weighted=True)) == expected
    fcn = 9 * 112 * 28 + 2 * 28 + 29 * 21
    assert count_parameters(deeplab(complete, weighted=True, auxiliary=True)) == expected + fcn


def test_dilation_keeps_what_strides_computed():
    """Every second pixel of the dilated map is that of the strided network, without pools."""
    space = SearchSpace.imagenet(
        levels=2, operations=("sep3", "sep5"), blocks=(1, 1), width=4, image_size=64
    )
    outputs = []
    for dilated in (True, False):

        class Last(Backbone):
            def hybrid_forward(self, F, x, **p):
                return list(self.walk(F, x, p))[-1][2]

        net = Last(Architecture.complete(space), weighted=True, dilated=dilated)
        mx.random.seed(0)
        net.initialize()
        outputs.append(net(images(1, 3, 64, 64)).asnumpy())
    wide, narrow = outputs
    assert wide.shape[2:] == (16, 16)
    assert narrow.shape[2:] == (8, 8)
    np.testing.assert_allclose(wide[..., ::2, ::2], narrow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("version, shapes", [(1, (512, 1024)), (2, (96, 320))])
def test_mobilenets_end_at_stride_16(version, shapes):
    net = MobileNet(version)
    net.initialize()
    third, last = net(images(1, 3, 65, 48))
    assert third.shape == (1, shapes[0], 5, 3)
    assert last.shape == (1, shapes[1], 5, 3)


def test_aspp_is_gluoncvs():
    from gluoncv.model_zoo.deeplabv3 import _ASPP
    from mxnet.gluon import nn

    ours = ASPP(6, {}, prefix="ours_")
    theirs = _ASPP(6, (6, 12, 18), nn.BatchNorm, {}, height=7, width=5)
    for net in (ours, theirs):
        mx.random.seed(1)
        net.initialize(mx.init.Xavier())

    def in_order(net):
        return sorted(net.collect_params().values(), key=lambda p: (p.shape, p.name))

    assert [p.shape for p in in_order(ours)] == [p.shape for p in in_order(theirs)]
    branches = [[b for b in theirs.concurent], theirs.project]
    mine = [[*ours._spatial, ours._pool], ours.project]
    for a, b in zip([*mine[0], mine[1]], [*branches[0], branches[1]]):
        for left, right in zip(a.collect_params().values(), b.collect_params().values()):
            right.set_data(left.data())
    x = images(2, 6, 7, 5)
    np.testing.assert_allclose(ours(x).asnumpy(), theirs(x).asnumpy(), rtol=1e-5, atol=1e-6)


def test_any_size_and_exported(space, some_architecture, tmp_path):
    net = deeplab(some_architecture(space), auxiliary=False)
    net.initialize()
    batch = images(1, 3, 40, 57)
    net(batch)
    net.hybridize()
    exported = export(net, tmp_path / "model", batch.asnumpy())
    assert exported.difference < 1e-5
    other = images(2, 3, 33, 50)
    again = import_symbol(exported.symbol, exported.parameters)(other)
    assert again.shape == (2, 3, 33, 50)
    np.testing.assert_allclose(again.asnumpy(), net(other).asnumpy(), atol=1e-5)


def test_names_are_those_of_the_classifier(space):
    """So that the parameters of a classification run fit, and are the same in every process."""
    classifier = get_model("dsonas", Architecture.complete(space), weighted=True)
    net = deeplab(Architecture.complete(space), weighted=True, auxiliary=True)
    backbone = set(Features(Architecture.complete(space), weighted=True).collect_params())
    assert backbone == set(classifier.collect_params()) - {"fc_weight", "fc_bias"}
    again = deeplab(Architecture.complete(space), weighted=True, auxiliary=True)
    assert list(net.collect_params()) == list(again.collect_params())
    assert backbone < set(net.collect_params())


@pytest.mark.parametrize("mirror", ["off", "deep"])
def test_gradients_in_the_graph_are_autograds(space, mirror, operators):
    """Weights and λ, through dilated blocks and both heads; dropout is left out."""
    net = deeplab(Architecture.complete(space), weighted=True, auxiliary=True)
    mx.random.seed(1)  # with 0 a ReLU of the head is so near its kink that rounding decides
    net.initialize()
    for block in (net.aspp, net.head, net.auxiliary):
        block.apply(lambda b: setattr(b, "_rate", 0) if hasattr(b, "_rate") else None)
    loss = with_auxiliary(0.4, pixel_cross_entropy)
    data = images(2, 3, 33, 33).asnumpy()
    label = np.random.RandomState(1).randint(-1, 3, (2, 33, 33)).astype(np.float32)
    with mx.autograd.record():
        value = loss(mx.nd, net(mx.nd.array(data)), mx.nd.array(label))
    value.backward()
    learned = {n: p for n, p in net.collect_params().items() if p.grad_req != "null"}
    expected = {name: p.grad().asnumpy().copy() for name, p in learned.items()}
    graph = TrainGraph(net, loss, data.shape, label.shape, [mx.cpu()], mirror)
    (result,) = graph.step("all", data, label)
    graph.wait()
    np.testing.assert_allclose(result.loss.asnumpy(), value.asnumpy(), rtol=1e-4)
    for name, parameter in learned.items():
        got, want = parameter.grad().asnumpy(), expected[name]
        scale = max(abs(want).max(), 1e-3)
        assert abs(got - want).max() < 1e-3 * scale, name


def test_refuses_other_spaces():
    with pytest.raises(ValueError, match="needs the imagenet space"):
        deeplab(Architecture.complete(SearchSpace.cifar10()))
    with pytest.raises(ValueError, match="known are mobilenet_v1, mobilenet_v2"):
        deeplab("resnet", 21)
