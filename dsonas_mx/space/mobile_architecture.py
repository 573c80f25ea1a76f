"""Which operations of each block of the mobile setting survive, and the end of their search."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Dict, Mapping, Sequence, Tuple, Union

import numpy as np

from ..io.checks import check_json, check_list, check_object, shown
from ..io.files import read_json
from .architecture import Architecture
from .base import Found
from .mobile import OPERATIONS, MobileSpace
from .scales import Scales

_CHANGEABLE = ("num_classes", "in_channels", "image_size")

Mask = Tuple[bool, ...]


@dataclass(frozen=True)
class MobileArchitecture(Found):
    """The surviving operations of every block, at least one in each.

    Parameters
    ----------
    space : MobileSpace
    kept : sequence of masks, `space.num_structures` × 6
    origin : mapping
        Where it came from (data set, seed, options), as JSON has it.

    Raises
    ------
    ValueError
        Names what is wrong.
    """

    space: MobileSpace
    kept: Tuple[Mask, ...]
    origin: Mapping[str, Any] = field(default_factory=dict, hash=False)

    network: ClassVar[str] = "mobile"  # as `symbols.get_model` knows it
    FORMAT = "dsonas-mobile-architecture"
    FIELDS = ("format", "version", "space", "blocks", "origin")
    reductions: ClassVar[Tuple[()]] = ()  # this setting has none

    def __post_init__(self) -> None:
        mask = np.array(self.kept, bool)
        shape = (self.space.num_structures, len(OPERATIONS))
        if mask.shape != shape:
            raise ValueError(f"kept must have the shape {shape}, got {mask.shape}")
        for (stage, block), row in zip(self.space.block_positions, mask):
            if not row.any():
                raise ValueError(f"stage {stage}, block {block} must keep an operation")
        object.__setattr__(self, "kept", tuple(tuple(row) for row in mask.tolist()))
        check_object("origin", self.origin)
        object.__setattr__(self, "origin", check_json("origin", self.origin))

    # Where architectures come from

    @classmethod
    def complete(cls, space: MobileSpace, origin: Mapping[str, Any] = {}) -> MobileArchitecture:
        """The supernet: all six operations in every block."""
        return cls(space, ((True,) * len(OPERATIONS),) * space.num_structures, origin)

    @classmethod
    def of(
        cls,
        space: MobileSpace,
        blocks: Sequence[Sequence[str]],
        origin: Mapping[str, Any] = {},
    ) -> MobileArchitecture:
        """Of the names of the operations of each block."""
        for position, names in enumerate(blocks):
            for name in check_list(f"blocks[{position}]", names):
                if name not in OPERATIONS:
                    raise ValueError(
                        f"blocks[{position}] has an unknown operation {shown(name)}; known are "
                        f"{', '.join(OPERATIONS)}"
                    )
        kept = tuple(tuple(name in names for name in OPERATIONS) for names in blocks)
        return cls(space, kept, origin)

    @classmethod
    def from_scales(cls, scales: Scales, origin: Mapping[str, Any] = {}) -> MobileArchitecture:
        """The operations whose λ is above zero, or else the one of the largest λ of its block."""
        kept = scales.connections > 0
        kept[np.arange(len(kept)), scales.connections.argmax(1)] = True
        return cls(scales.space, tuple(map(tuple, kept)), origin)

    def with_space(self, **changes: Any) -> MobileArchitecture:
        """The same operations for other images or classes."""
        for name in changes:
            if name not in _CHANGEABLE:
                raise ValueError(f"{name} of the mobile setting is fixed by its skeleton")
        return replace(self, space=replace(self.space, **changes))

    # What survives

    def live(self, block: int) -> Tuple[str, ...]:
        """The operations of a block, by its number from 0."""
        return tuple(name for name, lives in zip(OPERATIONS, self.kept[block]) if lives)

    def __str__(self) -> str:
        space = self.space
        lines = [
            f"mobile setting, widths {','.join(map(str, space.widths))}: "
            f"{self.num_connections} operations in {space.num_structures} blocks"
        ]
        for block, (stage, position) in enumerate(space.block_positions):
            lines.append(f"stage {stage}, block {position}: {' + '.join(self.live(block))}")
        return "\n".join(lines)

    # Files

    def lists(self) -> Dict[str, Any]:
        """Operations of each block."""
        return {"blocks": [list(self.live(block)) for block in range(len(self.kept))]}

    @classmethod
    def of_lists(cls, data: Mapping[str, Any]) -> MobileArchitecture:
        """That of the fields of a file, which are all there."""
        space = MobileSpace.from_json(data["space"])
        return cls.of(space, check_list("blocks", data["blocks"]), data["origin"])


AnyArchitecture = Union[Architecture, MobileArchitecture]


def load_architecture(path: Union[str, os.PathLike]) -> AnyArchitecture:
    """The architecture of a file, of the normal or of the mobile setting.

    Raises
    ------
    ValueError
        The file is neither; the message has its name and the field.
    OSError
        It cannot be read.
    """

    def parse(data: Any) -> AnyArchitecture:
        is_mobile = isinstance(data, Mapping) and data.get("format") == MobileArchitecture.FORMAT
        return (MobileArchitecture if is_mobile else Architecture).from_json(data)

    return read_json(path, parse)
