"""DARTS for ImageNet (Liu, Simonyan and Yang 2019), to compare latency with: 14 cells, width 48."""

from typing import Any, List, Sequence, Tuple

from mxnet.gluon import HybridBlock, nn

from .baselines import conv, in_order, norm
from .operations import CLASSIFIER_INIT, Map

# Of each of the four nodes of a cell two operations, with the number of their input: 0 and 1 are
# the cells before, 2 to 4 the nodes. Those that DARTS found by its second-order approximation.
NORMAL = "sep 0, sep 1, sep 0, sep 1, sep 1, skip 0, skip 0, dilated 2"
REDUCTION = "max 0, max 1, skip 2, max 1, max 0, skip 2, skip 2, max 1"
CELLS, WIDTH = 14, 48


def _relu_conv_bn(channels: int) -> HybridBlock:
    return in_order(nn.Activation("relu"), conv(channels, 1), norm())


def _depthwise(channels: int, stride: int, dilation: int = 1) -> HybridBlock:
    """ReLU, depthwise 3×3, pointwise, BN."""
    depthwise = conv(channels, 3, stride, channels, dilation)
    return in_order(nn.Activation("relu"), depthwise, conv(channels, 1), norm())


class FactorizedReduction(HybridBlock):
    """ReLU, two 1×1 convolutions of stride 2, of even and of odd pixels, side by side, BN."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.even = conv(channels // 2, 1, 2)
        self.odd = conv(channels // 2, 1, 2)
        self.norm = norm()

    def hybrid_forward(self, F: Any, x: Map) -> Map:
        x = F.Activation(x, act_type="relu")
        # Maps of an odd side get a row and a column of zeros, so that both halves are as large.
        shifted = F.slice(
            F.pad(x, mode="constant", pad_width=(0, 0, 0, 0, 0, 1, 0, 1)),
            begin=(None, None, 1, 1),
            end=(None, None, None, None),
        )
        return self.norm(F.concat(self.even(x), self.odd(shifted), dim=1))


def _operation(name: str, channels: int, stride: int) -> HybridBlock:
    if name == "sep":
        return in_order(_depthwise(channels, stride), _depthwise(channels, 1))
    if name == "dilated":
        return _depthwise(channels, stride, dilation=2)
    if name == "max":
        return nn.MaxPool2D(3, stride, 1)
    return FactorizedReduction(channels) if stride == 2 else nn.HybridLambda("identity")


class Cell(HybridBlock):
    """Four nodes, each a sum of two operations; they are the output side by side.

    Inputs: the outputs of the cell before the last, and of the last. A reduction halves the maps.
    """

    def __init__(self, channels: int, is_reduction: bool, after_reduction: bool) -> None:
        super().__init__()
        self.before_last = (
            FactorizedReduction(channels) if after_reduction else _relu_conv_bn(channels)
        )
        self.last = _relu_conv_bn(channels)
        self.sources: List[int] = []
        self.operations = nn.HybridSequential()
        for part in (REDUCTION if is_reduction else NORMAL).split(", "):
            name, source = part.split()
            self.sources.append(int(source))
            stride = 2 if is_reduction and int(source) < 2 else 1
            self.operations.add(_operation(name, channels, stride))

    def hybrid_forward(self, F: Any, before_last: Map, last: Map) -> Map:
        maps = [self.before_last(before_last), self.last(last)]
        done: Sequence[Tuple[int, HybridBlock]] = list(zip(self.sources, self.operations))
        for first, second in zip(done[::2], done[1::2]):
            maps.append(first[1](maps[first[0]]) + second[1](maps[second[0]]))
        return F.concat(*maps[2:], dim=1)


class DARTS(HybridBlock):
    """Input: B×3×224×224. Output: logits, B×1000."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = in_order(
            conv(WIDTH // 2, 3, 2),
            norm(),
            nn.Activation("relu"),
            conv(WIDTH, 3, 2),
            norm(),
        )
        self.stem_reduction = in_order(nn.Activation("relu"), conv(WIDTH, 3, 2), norm())
        self.cells = nn.HybridSequential()
        channels, after_reduction = WIDTH, True
        for number in range(CELLS):
            is_reduction = number in (CELLS // 3, 2 * CELLS // 3)
            channels *= 2 if is_reduction else 1
            self.cells.add(Cell(channels, is_reduction, after_reduction))
            after_reduction = is_reduction
        self.end = in_order(
            nn.GlobalAvgPool2D(), nn.Dense(1000, weight_initializer=CLASSIFIER_INIT)
        )

    def hybrid_forward(self, F: Any, x: Map) -> Map:
        before_last = self.stem(x)
        last = self.stem_reduction(before_last)
        for cell in self.cells:
            before_last, last = last, cell(before_last, last)
        return self.end(last)
