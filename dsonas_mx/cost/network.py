"""What each part of a run's network costs."""

from __future__ import annotations

from typing import Dict

from ..space.architecture import Architecture
from ..space.mobile_architecture import AnyArchitecture, MobileArchitecture
from . import count as cost
from .count import Cost
from .mobile import mobile_parts


def parts_of(architecture: AnyArchitecture, dilated: bool = False) -> Dict[str, Cost]:
    """The stem, each block and reduction, and the classifier, in the order of the network.

    Parameters
    ----------
    dilated : bool
        A backbone for segmentation: the last stage has maps of the size of those before it, and
        BN but no classifier behind it.
    """
    if isinstance(architecture, MobileArchitecture):
        return mobile_parts(architecture)
    space = architecture.space
    shapes = list(space.stage_shapes)
    if dilated:
        shapes[-1] = (shapes[-1][0], shapes[-2][1])
    parts = {"stem": cost.stem(space)}
    for index, (stage, position) in enumerate(space.block_positions):
        channels, side = shapes[stage - 1]
        if position == 1 and stage > 1:
            branches = architecture.reductions[stage - 2]
            stride = 1 if dilated and stage == len(shapes) else 2
            parts[f"reduction {stage - 1}"] = cost.reduction(*shapes[stage - 2], branches, stride)
        structure = space.structure_of(index)
        parts[f"stage {stage}, block {position}"] = cost.block(
            architecture, structure, channels, side, first=position == 1
        )
    channels, side = shapes[-1]
    if dilated:
        parts["end"] = cost.batch_norm(channels)
    else:
        parts["classifier"] = cost.classifier(channels, space.num_classes, side)
    return parts


def whole(architecture: AnyArchitecture, dilated: bool = False) -> Dict[str, int]:
    """The sum of the parts, and the connections as `Cost` counts them."""
    total = cost.total(parts_of(architecture, dilated).values())
    return {
        "parameters": total.parameters,
        "multiply_adds": total.multiply_adds,
        "memory_access": total.memory_access,
        "connections": architecture.num_connections,
    }


def complete(architecture: AnyArchitecture) -> AnyArchitecture:
    """The network of all operations and connections in the same space."""
    if isinstance(architecture, MobileArchitecture):
        return MobileArchitecture.complete(architecture.space)
    return Architecture.complete(architecture.space)
