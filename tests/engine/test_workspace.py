"""What operators on a CPU work in."""

from dsonas_mx.engine.workspace import workspace

import mxnet as mx
import pytest


def convolved(x, **attributes):
    return mx.sym.Convolution(x, num_filter=8, no_bias=True, **attributes)


@pytest.mark.parametrize(
    "kernel, attributes, elements",
    [
        ((3, 3), {}, 4 * 9 * 3 * 5),
        ((3, 3), {"pad": (1, 1), "num_group": 2}, 4 * 9 * 5 * 7),
        ((5, 3), {"dilate": (1, 2), "pad": (2, 2)}, 4 * 15 * 5 * 7),
        ((1, 1), {"stride": (2, 2)}, 4 * 3 * 4),
        ((1, 1), {}, 0),
    ],
)
def test_a_convolution_unfolds_one_image(kernel, attributes, elements):
    symbol = convolved(mx.sym.Variable("data"), kernel=kernel, **attributes)
    taken = workspace(symbol, {"data": (6, 4, 5, 7)}, threads=2)
    assert taken == pytest.approx(4 * elements / 2**20)


def test_all_operators_use_one_piece():
    x = convolved(mx.sym.Variable("data"), kernel=(5, 5), pad=(2, 2))
    larger = workspace(x, {"data": (2, 3, 9, 9)}, threads=1)
    both = mx.sym.relu(convolved(x, kernel=(1, 1), stride=(3, 3)))
    assert workspace(both, {"data": (2, 3, 9, 9)}, threads=1) == larger > 0
