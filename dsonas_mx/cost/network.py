"""What the network of an architecture costs, of either setting, whole and part by part."""

from dataclasses import replace
from functools import singledispatch
from typing import Any, Dict

from ..space.mobile import BlockShape, kernel_and_expansion
from ..space.mobile_architecture import AnyArchitecture, MobileArchitecture
from ..space.normal import halved
from .count import Cost, batch_norm, conv_bn, convolution, dense, maps, parts, summed, total


@singledispatch
def parts_of(architecture: Any, dilated: bool = False) -> Dict[str, Cost]:
    """Costs by the names of the parts of a network, in their order, see `count.parts`."""
    return parts(architecture, dilated)


def count_network(architecture: AnyArchitecture, dilated: bool = False) -> Cost:
    """The sum of the parts, with the connections of the architecture."""
    whole = total(parts_of(architecture, dilated).values())
    return replace(whole, connections=architecture.num_connections)


# The mobile setting, by the same rules


def mbconv(shape: BlockShape, kernel: int, expansion: int) -> Cost:
    """1×1 to `expansion` times the channels (if it is not 1), depthwise, 1×1; each with BN."""
    wide = shape.inputs * expansion
    side = halved(shape.side) if shape.stride == 2 else shape.side
    expand = conv_bn(shape.inputs, wide, 1, shape.side) if expansion > 1 else Cost()
    depthwise = convolution(wide, wide, kernel, shape.side, groups=wide, stride=shape.stride)
    return expand + depthwise + batch_norm(wide) + conv_bn(wide, shape.outputs, 1, side)


@parts_of.register(MobileArchitecture)
def mobile_parts(architecture: MobileArchitecture, dilated: bool = False) -> Dict[str, Cost]:
    """The network with all operations that an architecture keeps, part by part."""
    space = architecture.space
    side = halved(space.image_size)
    costs = {
        "stem": conv_bn(space.in_channels, space.stem, 3, space.image_size, stride=2)
        + mbconv(BlockShape(space.stem, space.first, 1, side), 3, 1)
    }
    for block, ((stage, position), shape) in enumerate(
        zip(space.block_positions, space.block_shapes)
    ):
        names = architecture.live(block)
        side = halved(shape.side) if shape.stride == 2 else shape.side
        terms = len(names) + shape.has_identity
        operations = total(mbconv(shape, *kernel_and_expansion(name)) for name in names)
        costs[f"stage {stage}, block {position}"] = (
            Cost(connections=len(names)) + operations + summed(terms, shape.outputs, side)
        )
    pooling = maps(1, space.last, side) + maps(1, space.last, 1)
    costs["classifier"] = (
        conv_bn(space.widths[-1], space.last, 1, side)
        + pooling
        + dense(space.last, space.num_classes)
    )
    return costs
