"""The hand-made networks of table 1: pre-activation ResNet (He et al. 2016) and DenseNet-BC (Huang
et al. 2017) for CIFAR.

Convolutions have no bias; every one but the first comes behind BN and ReLU.
"""

from typing import Any, NamedTuple, Sequence

from dsonas_mx.cost.count import Cost
from dsonas_mx.cost.traced import count_traced

from mxnet.gluon import HybridBlock, nn

from .operations import BN_EPSILON, BN_MOMENTUM, CLASSIFIER_INIT, CONVOLUTION_INIT, Map


class Published(NamedTuple):
    """What the papers say: parameters, and error in percent on CIFAR-10 (with augmentation)."""

    parameters: float
    error: float


PUBLISHED = {
    "resnet_preact_1001": Published(10.2e6, 4.62),
    "densenet_bc_190_40": Published(25.6e6, 3.46),
}


def cost_of(name: str, image_size: int = 32) -> Cost:
    """Parameters and multiply-adds of a network of `PUBLISHED` for one RGB image, by tracing it."""
    net = resnet_preact() if name == "resnet_preact_1001" else densenet_bc()
    return count_traced(net, image_size)


def conv(
    channels: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1
) -> nn.Conv2D:
    """A convolution without bias that keeps the size, up to its stride."""
    return nn.Conv2D(
        channels,
        kernel,
        stride,
        dilation * (kernel // 2),
        dilation,
        groups,
        use_bias=False,
        weight_initializer=CONVOLUTION_INIT,
    )


def norm() -> nn.BatchNorm:
    """BN with the constants of the reference."""
    return nn.BatchNorm(epsilon=BN_EPSILON, momentum=BN_MOMENTUM)


def in_order(*layers: HybridBlock) -> nn.HybridSequential:
    """One layer behind the other."""
    sequence = nn.HybridSequential()
    sequence.add(*layers)
    return sequence


def _bn_relu() -> Sequence[HybridBlock]:
    return norm(), nn.Activation("relu")


class Bottleneck(HybridBlock):
    """x + conv1×1, conv3×3, conv1×1 (four times the channels), each behind BN and ReLU.

    The first of a stage has a 1×1 convolution on its shortcut, which shares the first BN and ReLU.
    """

    def __init__(self, channels: int, stride: int, projects: bool) -> None:
        super().__init__()
        self.before = in_order(*_bn_relu())
        self.body = in_order(
            conv(channels, 1),
            *_bn_relu(),
            conv(channels, 3, stride),
            *_bn_relu(),
            conv(4 * channels, 1),
        )
        self.shortcut = conv(4 * channels, 1, stride) if projects else None

    def hybrid_forward(self, F: Any, x: Map) -> Map:
        activated = self.before(x)
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return self.body(activated) + shortcut


class DenseLayer(HybridBlock):
    """x beside k new channels: conv1×1 to 4k, conv3×3 to k, each behind BN and ReLU."""

    def __init__(self, growth: int) -> None:
        super().__init__()
        self.body = in_order(*_bn_relu(), conv(4 * growth, 1), *_bn_relu(), conv(growth, 3))

    def hybrid_forward(self, F: Any, x: Map) -> Map:
        return F.concat(x, self.body(x), dim=1)


def _classifier(classes: int) -> Sequence[HybridBlock]:
    return (
        *_bn_relu(),
        nn.GlobalAvgPool2D(),
        nn.Dense(classes, weight_initializer=CLASSIFIER_INIT),
    )


def resnet_preact(depth: int = 1001, num_classes: int = 10) -> HybridBlock:
    """Pre-activation ResNet of 9n + 2 layers: three stages of n bottlenecks of 16, 32, 64.

    Input: B×C×H×W. Output: logits, B×num_classes.
    """
    blocks, rest = divmod(depth - 2, 9)
    if rest or blocks < 1:
        raise ValueError(f"depth must be 9n + 2, as 164 or 1001, got {depth}")
    net = in_order(conv(16, 3))
    for stage, channels in enumerate((16, 32, 64)):
        for block in range(blocks):
            net.add(Bottleneck(channels, 2 if stage and not block else 1, projects=not block))
    net.add(*_classifier(num_classes))
    return net


def densenet_bc(depth: int = 190, growth: int = 40, num_classes: int = 10) -> HybridBlock:
    """DenseNet-BC of 6n + 4 layers: three stages of n layers, halved in channels and size between.

    Input: B×C×H×W. Output: logits, B×num_classes.
    """
    layers, rest = divmod(depth - 4, 6)
    if rest or layers < 1:
        raise ValueError(f"depth must be 6n + 4, as 100 or 190, got {depth}")
    if growth < 1:
        raise ValueError(f"growth must be at least 1, got {growth}")
    channels = 2 * growth
    net = in_order(conv(channels, 3))
    for stage in range(3):
        if stage:
            channels //= 2
            net.add(*_bn_relu(), conv(channels, 1), nn.AvgPool2D(2))
        for _ in range(layers):
            net.add(DenseLayer(growth))
        channels += layers * growth
    net.add(*_classifier(num_classes))
    return net
