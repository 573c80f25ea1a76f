"""The mobile setting (section 3.1, Fig. 3): blocks of six MBConv operations on a fixed skeleton.

The skeletons are those of ProxylessNAS for a GPU and for a CPU: a convolution of stride 2, an
MBConv of expansion 1, six stages of blocks, a 1×1 convolution, pooling and the classifier.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..io.checks import check_choice, check_int, check_list
from .base import Space
from .normal import MOST_BLOCKS, OUTPUT, Connection, halved

KERNELS, EXPANSIONS = (3, 5, 7), (3, 6)
OPERATIONS = tuple(f"k{kernel}e{expansion}" for expansion in EXPANSIONS for kernel in KERNELS)
STRIDES = (2, 2, 2, 1, 2, 1)  # of the first block of each stage
SKELETONS: Dict[str, Dict[str, Any]] = {
    "mobile-gpu": {
        "stem": 40,
        "first": 24,
        "widths": (32, 56, 112, 128, 256, 432),
        "last": 1728,
        "blocks": (1, 2, 2, 3, 4, 1),
    },
    "mobile-cpu": {
        "stem": 40,
        "first": 24,
        "widths": (32, 48, 88, 104, 216, 360),
        "last": 1432,
        "blocks": (4, 4, 2, 4, 4, 1),
    },
}
_DIVISOR = 8  # of the widths of a narrower skeleton


class BlockShape(NamedTuple):
    """Channels in and out, stride, and side of the maps that come in."""

    inputs: int
    outputs: int
    stride: int
    side: int

    @property
    def has_identity(self) -> bool:
        """Whether the sum of Eq. 4 has the block's input: only where the shapes agree."""
        return self.stride == 1 and self.inputs == self.outputs


def kernel_and_expansion(operation: str) -> Tuple[int, int]:
    """'k5e3' → (5, 3)."""
    kernel, expansion = operation[1:].split("e")
    return int(kernel), int(expansion)


@dataclass(frozen=True)
class MobileSpace(Space):
    """Six operations in every block of a skeleton; each block has its own structure.

    Parameters
    ----------
    stem, first, last : int
        Channels of the first convolution, of the MBConv behind it, and of the last convolution.
    widths, blocks : sequence of six int
        Channels and blocks of each stage.
    num_classes : int
        Classes of the images.
    in_channels : int
        Channels of the images.
    image_size : int
        Side of the images in pixels.

    Raises
    ------
    ValueError
        Names the field that is wrong.
    """

    stem: int
    first: int
    widths: Tuple[int, ...]
    last: int
    blocks: Tuple[int, ...]
    num_classes: int = 1000
    in_channels: int = 3
    image_size: int = 224

    def __post_init__(self) -> None:
        for name in ("stem", "first", "last", "num_classes", "in_channels", "image_size"):
            object.__setattr__(self, name, check_int(name, getattr(self, name), 1))
        for name in ("widths", "blocks"):
            values = check_list(name, getattr(self, name), len(STRIDES))
            most = MOST_BLOCKS if name == "blocks" else 2**31 - 1
            checked = tuple(check_int(f"{name}[{i}]", v, 1, most) for i, v in enumerate(values))
            object.__setattr__(self, name, checked)

    @classmethod
    def skeleton(
        cls,
        name: str,
        multiplier: float = 1.0,
        blocks: Optional[Sequence[int]] = None,
        **changes: Any,
    ) -> MobileSpace:
        """One of `SKELETONS`, its widths times `multiplier`, to the nearest multiple of 8."""
        check_choice("space", name, tuple(SKELETONS))
        if not 0 < multiplier <= 64:
            raise ValueError(f"the width multiplier must be from 0 to 64, got {multiplier}")
        space = cls(**SKELETONS[name], **changes)
        if blocks is not None:
            space = replace(space, blocks=tuple(blocks))
        if multiplier == 1:
            return space

        def scaled(width: int) -> int:
            return max(_DIVISOR, _DIVISOR * round(width * multiplier / _DIVISOR))

        return replace(
            space,
            stem=scaled(space.stem),
            first=scaled(space.first),
            widths=tuple(scaled(width) for width in space.widths),
            last=scaled(space.last),
        )

    # What a search asks of any space

    scope = "full"
    num_reductions = 0

    @property
    def connections(self) -> Tuple[Connection, ...]:
        """Of a block: each operation to the sum, in the order of λ."""
        return tuple(Connection(operation, OUTPUT) for operation in OPERATIONS)

    # The network

    @property
    def width(self) -> int:
        """Channels of the first stage, as `SearchSpace` has it."""
        return self.widths[0]

    @cached_property
    def block_shapes(self) -> Tuple[BlockShape, ...]:
        """Of every block, in the order of the network."""
        shapes: List[BlockShape] = []
        inputs, side = self.first, halved(self.image_size)
        for stage, block in self.block_positions:
            stride = STRIDES[stage - 1] if block == 1 else 1
            shapes.append(BlockShape(inputs, self.widths[stage - 1], stride, side))
            inputs = self.widths[stage - 1]
            side = halved(side) if stride == 2 else side
        return tuple(shapes)
