"""The mobile setting: space, architecture, network, cost, latency, and the end of its search."""

import json

from dsonas_mx.cost.count import Cost
from dsonas_mx.cost.network import count_network
from dsonas_mx.cost.traced import count_traced
from dsonas_mx.data.imagenet import ImageNetAugmentation
from dsonas_mx.data.loader import Loader
from dsonas_mx.latency.mobile import OperationLatency
from dsonas_mx.plots import draw_mobile
from dsonas_mx.search.budget import AdaptiveLatency
from dsonas_mx.search.options import SearchOptions
from dsonas_mx.search.search import Search
from dsonas_mx.search.target import OneOperation
from dsonas_mx.space.mobile import OPERATIONS, STRIDES, BlockShape, MobileSpace
from dsonas_mx.space.mobile_architecture import MobileArchitecture, load_architecture
from dsonas_mx.space.scales import Scales

import mxnet as mx
import numpy as np
import pytest

from symbols import network_of
from symbols.mobile import PROXYLESS, Operation, mbconv, proxyless


@pytest.fixture(scope="module")
def space():
    """Six stages of one block, the fourth and the last with an identity."""
    return MobileSpace(
        stem=8,
        first=8,
        widths=(8, 8, 8, 8, 16, 16),
        last=16,
        blocks=(1, 1, 1, 1, 1, 1),
        num_classes=3,
        image_size=32,
    )


def test_the_skeletons():
    space = MobileSpace.skeleton("mobile-gpu")
    assert space.num_structures == 13
    assert space.num_connections == 78
    first, last = space.block_shapes[0], space.block_shapes[-1]
    assert first == BlockShape(24, 32, 2, 112)
    assert last == BlockShape(256, 432, 1, 7)
    identities = [shape.has_identity for shape in space.block_shapes]
    assert sum(identities) == 13 - len(STRIDES)  # all but the first block of each stage
    assert MobileSpace.skeleton("mobile-cpu").num_structures == 19


def test_narrower_skeleton():
    space = MobileSpace.skeleton("mobile-gpu", 0.25, blocks=(1,) * 6, image_size=32)
    assert (space.stem, space.first, space.last) == (8, 8, 432)
    assert space.widths == (8, 16, 32, 32, 64, 112)  # 14 and 28 go to the even multiple
    with pytest.raises(ValueError, match="multiplier must be from 0"):
        MobileSpace.skeleton("mobile-gpu", 0)


@pytest.mark.parametrize("name", sorted(PROXYLESS))
def test_cost_is_that_of_the_network(name):
    for architecture in (proxyless(name), MobileArchitecture.complete(proxyless(name).space)):
        traced = count_traced(network_of(architecture), 224)
        counted = count_network(architecture)
        assert (counted.parameters, counted.multiply_adds) == (
            traced.parameters,
            traced.multiply_adds,
        )
        assert counted.memory_access == traced.memory_access


def test_proxyless_is_as_large_as_published():
    """465M and 439M multiply-adds (Cai et al., 2019)."""
    adds = [count_network(proxyless(name)).multiply_adds / 1e6 for name in sorted(PROXYLESS)]
    assert adds == pytest.approx([439, 465], rel=0.01)


def test_equation_4(space):
    """The scaled sum of the operations, and the input where the shapes agree."""
    net = network_of(MobileArchitecture.complete(space), weighted=True)
    net.initialize()
    generator = np.random.RandomState(0)
    for block, shape in ((3, space.block_shapes[3]), (4, space.block_shapes[4])):
        name = f"stage{block + 1}_block1"
        scales = generator.uniform(0.5, 1.5, 6)
        net.collect_params()[f"{name}_lambdas"].set_data(mx.nd.array(scales))
        x = mx.nd.array(generator.randn(2, shape.inputs, 4, 4))
        p = {n: parameter.data() for n, parameter in net.collect_params().items()}
        out = net._block(mx.nd, x, p, name, shape, OPERATIONS).asnumpy()
        expected = x.asnumpy() if shape.has_identity else 0
        for scale, operation in zip(scales, OPERATIONS):
            kernel, expansion = int(operation[1]), int(operation[3])
            one = mbconv(mx.nd, x, p, f"{name}_{operation}", shape, kernel, expansion, True)
            expected = expected + scale * one.asnumpy()
        assert np.allclose(out, expected, atol=1e-5)
    assert [space.block_shapes[block].has_identity for block in (3, 4)] == [True, False]


def test_file(space, tmp_path):
    names = [[OPERATIONS[n % 6]] for n in range(6)]
    architecture = MobileArchitecture.of(space, names, {"seed": 3})
    path = tmp_path / "found.json"
    architecture.save(path)
    found = load_architecture(path)
    assert found == architecture
    assert found.origin == {"seed": 3}
    data = json.loads(path.read_text())
    data["blocks"][2] = ["k9e3"]
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"found.json: blocks\[2\] has an unknown operation"):
        load_architecture(path)
    data["blocks"][2] = []
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="stage 3, block 1 must keep an operation"):
        load_architecture(path)


def test_one_of_each_block_is_kept(space):
    scales = np.zeros((6, 6))
    scales[:, 2] = 0.3
    scales[0, 5] = 0.1
    scales[1] = 0
    found = MobileArchitecture.from_scales(Scales(space, scales.ravel()))
    assert found.live(0) == ("k7e3", "k7e6")
    assert found.live(1) == ("k3e3",)  # of equal ones the smallest
    assert found.live(2) == ("k7e3",)


def test_what_is_not_decided_is_forced(space):
    scales = np.zeros((6, 6))
    scales[:, 2] = 0.3
    scales[0, 4] = 0.31  # two that stay close
    scales[3, 1] = 0.3
    target, scales = OneOperation(), Scales(space, scales.ravel())
    found = MobileArchitecture.from_scales(scales)
    assert not target.is_met(found)
    assert target.settle(found, found, scales, is_last=False) is found
    factor = target.adapt(scales, 0.5)
    assert factor.tolist() == [[n in (0, 3)] * 6 for n in range(6)]
    end = target.settle(found, found, scales, is_last=True)
    assert target.is_met(end)
    assert [end.live(block) for block in (0, 3)] == [("k5e6",), ("k5e3",)]
    assert "in 2 of 6 by the largest λ" in target.describe(end)


def test_latency_of_each_operation(space):
    """Of the six the 7×7 with expansion 6 does most, and Eq. 19 penalises it most."""
    large = MobileSpace(
        16, 32, (32, 32, 32, 32, 32, 32), 16, (1, 1, 1, 1, 1, 1), num_classes=3, image_size=64
    )
    measure = OperationLatency(Operation, rounds=10)
    complete = MobileArchitecture.complete(large)
    times = measure(complete)
    assert times.shape == (6, 6)
    assert times[0, 5] > times[0, 0] > 0
    alone = MobileArchitecture.of(large, [["k3e3"]] * 6)
    assert np.count_nonzero(measure(alone)) == 6
    assert measure(alone)[0, 0] == times[0, 0]  # measured once
    gammas = AdaptiveLatency(measure, 0.02).gammas(complete)
    assert gammas.max() == pytest.approx(0.02)
    assert gammas.min() == pytest.approx(0.01)
    assert gammas[0, 5] > gammas[0, 0]


class Stripes:
    """Images that a small network tells apart, as `Loader` takes them."""

    def __init__(self, count):
        generator = np.random.RandomState(count)
        rows, columns = np.mgrid[:32, :32] // 4
        patterns = np.stack([rows % 2, columns % 2, (rows + columns) % 2])[..., None]
        self.labels = np.arange(count, dtype=np.int32) % 3
        noise = generator.randint(0, 100, (count, 32, 32, 3))
        self.images = (noise + 150 * patterns[self.labels]).astype(np.uint8)
        self.image_shape = (32, 32, 3)

    def __len__(self):
        return len(self.labels)

    def take(self, chosen, whole):
        return list(self.images[chosen]), self.labels[chosen]


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_search_ends_with_one_operation_a_block(space, gamma):
    """By λ where γ is large, and forced where it is zero; then the network is derived."""
    augment = ImageNetAugmentation(32, area=(0.8, 1), colour=0, lighting=0)
    loaders = [Loader(Stripes(24), None, 6, augment, stream=stream) for stream in (0, 1)]
    target = OneOperation()
    search = Search(
        lambda found: network_of(found, weighted=True),
        MobileArchitecture.complete(space),
        weight_data=loaders[0],
        lambda_data=loaders[1],
        options=SearchOptions(
            pretrain_epochs=1, num_epochs=12 if gamma else 2, shrink_every=1, gamma=gamma
        ),
        target=target,
    )
    found = search.run()
    assert target.is_met(found)
    assert bool(target.forced) == (gamma == 0)
    if gamma:
        assert search.epoch < 13  # it ended when it was decided
    net = network_of(found)
    net.initialize()
    assert net(mx.nd.zeros((2, 3, 32, 32))).shape == (2, 3)
    assert not any(name.endswith("lambdas") for name in net.collect_params())
    assert count_network(found).connections == 6
    assert isinstance(count_network(found), Cost)


def test_picture_has_kernel_and_expansion_of_every_block():
    architecture = proxyless("mobile-gpu")
    figure = draw_mobile(architecture)
    texts = [text.get_text() for text in figure.axes[0].texts]
    blocks = [text for text in texts if text.startswith("MB")][1:]  # the first is fixed
    names = PROXYLESS["mobile-gpu"].replace("|", " ").split()
    assert blocks == [f"MB{name[3]} {name[1]}×{name[1]}" for name in names]
    assert "432\n7" in texts
