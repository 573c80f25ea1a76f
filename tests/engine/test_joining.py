"""Maps that are joined learn, whatever their numbers of channels, what they would learn apart."""

import json

from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.engine.joining import dividable

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import HybridBlock, nn

PARTS = ((4, 4), (3, 5), (12, 4), (36, 36), (20, 20, 8), (7, 1), (24, 24), (3, 4), (16, 8), (5,))


class Convolved(HybridBlock):
    """Maps of so many channels each, and max pools of them, joined under a convolution.

    Or apart: then it is the sum of convolutions by the parts of its weight.
    """

    def __init__(self, channels):
        super().__init__(prefix="")
        self.apart = False
        self._channels = channels
        self._first = []
        for number, count in enumerate(channels):
            first = nn.HybridSequential(prefix="")
            first.add(nn.Conv2D(count, 1, in_channels=3, prefix=f"first{number}_"))
            first.add(nn.BatchNorm(in_channels=count, prefix=f"bn{number}_"))
            self.register_child(first)
            self._first.append(first)
        self.pool = nn.MaxPool2D(3, 1, 1)
        self.weight = self.params.get("weight", shape=(8, 2 * sum(channels), 1, 1))

    def hybrid_forward(self, F, x, weight):
        maps = [F.relu(first(x)) for first in self._first]
        maps += [self.pool(one) for one in maps]
        options = {"num_filter": 8, "kernel": (1, 1), "no_bias": True}
        if not self.apart:
            return F.Convolution(F.concat(*maps, dim=1), weight, **options)
        ends = np.cumsum([0, *self._channels, *self._channels]).tolist()
        parts = [F.slice_axis(weight, axis=1, begin=b, end=e) for b, e in zip(ends, ends[1:])]
        return sum(F.Convolution(one, part, **options) for one, part in zip(maps, parts))


def squares(F, outputs, label):
    return F.sum(F.square(F.broadcast_sub(outputs, label)), axis=(1, 2, 3))


@pytest.mark.parametrize("channels", PARTS)
def test_joined_maps_learn_what_they_would_apart(channels):
    net = Convolved(channels)
    net.initialize(mx.init.Xavier())
    generator = np.random.RandomState(0)
    data = generator.randn(2, 3, 8, 8).astype(np.float32)
    label = generator.randn(2, 8, 8, 8).astype(np.float32)
    gradients = []
    for net.apart in (False, True):
        TrainGraph(net, squares, data.shape, label.shape, [mx.cpu()]).step("all", data, label)
        learned = {k: p for k, p in net.collect_params().items() if p.grad_req != "null"}
        gradients.append({k: p.grad().asnumpy() for k, p in learned.items()})
    for name, expected in gradients[1].items():
        if "bias" not in name:  # before a BN, of which nothing is left but noise
            bound = 1e-5 * np.abs(expected).max()
            np.testing.assert_allclose(gradients[0][name], expected, atol=bound, rtol=1e-4)


@pytest.mark.parametrize("channels, added", [((16, 16), 0), ((4, 4), 1), ((4, 3), 0), ((8, 8), 1)])
def test_a_slice_follows_where_blocks_may_not_divide(channels, added):
    """Where it has no need of one, a graph is what it was."""
    data, parts = mx.sym.Variable("data"), []
    for number, count in enumerate(channels):
        options = {"kernel": (1, 1), "num_filter": count, "name": f"part{number}"}
        parts.append(mx.sym.Convolution(data, **options))
    symbol = mx.sym.Group([mx.sym.concat(*parts, dim=1, name="joined") * 2, parts[0]])
    before, after = (
        [node["name"] for node in json.loads(one.tojson())["nodes"]]
        for one in (symbol, dividable(symbol, {"data": (2, 3, 4, 4)}))
    )
    assert [name for name in after if name not in before] == ["joined_all"] * added
    assert [name for name in after if name in before] == before
