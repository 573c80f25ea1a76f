"""What a network of the mobile setting costs, by the rules of `dsonas_mx.cost`."""

from __future__ import annotations

from .cost import (
    Cost,
    batch_norm,
    conv_bn,
    convolution,
    count,
    dense,
    maps,
    summed,
    total,
)
from .mobile_architecture import AnyArchitecture, MobileArchitecture
from .mobile_space import BlockShape, kernel_and_expansion
from .space import halved


def mbconv(shape: BlockShape, kernel: int, expansion: int) -> Cost:
    """1×1 to `expansion` times the channels (if it is not 1), depthwise, 1×1; each with BN."""
    wide = shape.inputs * expansion
    side = halved(shape.side) if shape.stride == 2 else shape.side
    expand = conv_bn(shape.inputs, wide, 1, shape.side) if expansion > 1 else Cost()
    depthwise = convolution(wide, wide, kernel, shape.side, groups=wide, stride=shape.stride)
    return expand + depthwise + batch_norm(wide) + conv_bn(wide, shape.outputs, 1, side)


def count_mobile(architecture: MobileArchitecture) -> Cost:
    """The network with all operations that an architecture keeps."""
    space = architecture.space
    side = halved(space.image_size)
    cost = conv_bn(space.in_channels, space.stem, 3, space.image_size, stride=2)
    cost += mbconv(BlockShape(space.stem, space.first, 1, side), 3, 1)
    for block, shape in enumerate(space.block_shapes):
        names = architecture.live(block)
        side = halved(shape.side) if shape.stride == 2 else shape.side
        terms = len(names) + shape.has_identity
        cost += total(mbconv(shape, *kernel_and_expansion(name)) for name in names)
        cost += summed(terms, shape.outputs, side)
    cost += conv_bn(space.widths[-1], space.last, 1, side)
    cost += (
        maps(1, space.last, side) + maps(1, space.last, 1) + dense(space.last, space.num_classes)
    )
    return cost + Cost(connections=architecture.num_connections)


def count_network(architecture: AnyArchitecture) -> Cost:
    """The network of an architecture of either setting."""
    if isinstance(architecture, MobileArchitecture):
        return count_mobile(architecture)
    return count(architecture)
