"""What the network of an architecture costs, of either setting, whole and part by part."""

from dataclasses import replace
from functools import singledispatch
from typing import Any, Dict

from ..space.mobile_architecture import AnyArchitecture, MobileArchitecture
from .count import Cost, parts, total
from .mobile import mobile_parts


@singledispatch
def parts_of(architecture: Any, dilated: bool = False) -> Dict[str, Cost]:
    """Costs by the names of the parts of a network, in their order, see `count.parts`."""
    return parts(architecture, dilated)


@parts_of.register(MobileArchitecture)
def _(architecture: MobileArchitecture, dilated: bool = False) -> Dict[str, Cost]:
    return mobile_parts(architecture)


def count_network(architecture: AnyArchitecture, dilated: bool = False) -> Cost:
    """The sum of the parts, with the connections of the architecture."""
    whole = total(parts_of(architecture, dilated).values())
    return replace(whole, connections=architecture.num_connections)
