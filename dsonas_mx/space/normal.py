"""The search space: which operations and connections a block can have, and how blocks are stacked.

The order of `SearchSpace.connections` is the order of every λ vector, mask and file column.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Dict, List, NamedTuple, Tuple

from ..io.checks import check_choice, check_int, check_list, shown
from .base import Space
from .operations import DEFAULT_OPERATIONS, OPERATIONS

SCOPES = ("share", "full")
STEMS = ("cifar", "imagenet")

INPUT = "input"
OUTPUT = "output"

# Far above what anyone searches: a damaged or hostile file must not exhaust the memory.
MOST_LEVELS = 16
MOST_WIDTH = 4096
MOST_STAGES = 8
MOST_BLOCKS = 1000


class Connection(NamedTuple):
    """A scaled edge of a block, 'input' or '2.sep3' to '3.max' or 'output'."""

    source: str
    target: str

    @property
    def name(self) -> str:
        """The name in files, such as ``'input->2.sep3'``."""
        return f"{self.source}->{self.target}"


@dataclass(frozen=True)
class SearchSpace(Space):
    """The normal setting of the paper (section 3.1), checked when built.

    A block has `levels` levels of every operation. Operations of level 1 take the block's input
    unscaled; every later operation has a connection from the input and from each operation of
    the levels before it, and the output has one from every operation.

    Parameters
    ----------
    scope : {'share', 'full'}
        One structure for all blocks, or one a block.
    levels : int
        M of the paper, at least 1.
    operations : sequence of str
        N names out of `OPERATIONS`, in any order; kept in the order of `OPERATIONS`.
    stem : {'cifar', 'imagenet'}
        One convolution, or two of stride 2.
    blocks : sequence of int
        Blocks of each stage; a reduction follows every stage but the last.
    width : int
        Channels of the first stage, at most 4096, doubled by each reduction.
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

    scope: str = "share"
    levels: int = 4
    operations: Tuple[str, ...] = DEFAULT_OPERATIONS
    stem: str = "cifar"
    blocks: Tuple[int, ...] = (8, 8, 8)
    width: int = 48
    num_classes: int = 10
    in_channels: int = 3
    image_size: int = 32

    def __post_init__(self) -> None:
        check_choice("scope", self.scope, SCOPES)
        check_choice("stem", self.stem, STEMS)
        operations = _check_operations(self.operations)
        blocks = _check_blocks(self.blocks)
        numbers = {
            "levels": check_int("levels", self.levels, 1, MOST_LEVELS),
            # The first convolution of the ImageNet stem has half of the width.
            "width": check_int(
                "width", self.width, 2 if self.stem == "imagenet" else 1, MOST_WIDTH
            ),
        }
        for name in ("num_classes", "in_channels", "image_size"):
            numbers[name] = check_int(name, getattr(self, name), 1)
        for name, value in {"operations": operations, "blocks": blocks, **numbers}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def cifar10(cls, **changes: Any) -> SearchSpace:
        """The paper's CIFAR-10 space: 3 stages of 8 blocks, width 48."""
        return cls(**changes)

    @classmethod
    def imagenet(cls, **changes: Any) -> SearchSpace:
        """The paper's ImageNet space: stages of 2, 2, 13 and 6 blocks, width 28."""
        paper: Dict[str, Any] = {
            "stem": "imagenet",
            "blocks": (2, 2, 13, 6),
            "width": 28,
            "num_classes": 1000,
            "image_size": 224,
        }
        return cls(**{**paper, **changes})

    # The block

    @cached_property
    def nodes(self) -> Tuple[str, ...]:
        """The M·N operations of a block, level by level: ``'1.sep3'``, ``'1.sep5'``, …"""
        return tuple(
            f"{level}.{name}" for level in range(1, self.levels + 1) for name in self.operations
        )

    @cached_property
    def connections(self) -> Tuple[Connection, ...]:
        """All (M²−M)N²/2 + 2MN − N connections of a block, in the order of λ.

        For each level from 2, for each operation, its sources (the block's input, then the
        operations of the levels before); then the output's sources.
        """
        targets = (*self.nodes[len(self.operations) :], OUTPUT)
        return tuple(
            Connection(source, target) for target in targets for source in self.sources(target)
        )

    def sources(self, target: str) -> Tuple[str, ...]:
        """What `target` has connections from; none for an operation of level 1."""
        if target == OUTPUT:
            return self.nodes
        before = self._position(target) // len(self.operations) * len(self.operations)
        return (INPUT, *self.nodes[:before]) if before else ()

    def inputs(self, target: str) -> slice:
        """Where the connections into `target` sit in `connections`."""
        if target != OUTPUT:
            self._position(target)  # refuses what is no node
        return self._slices.get(target, slice(0, 0))

    @cached_property
    def _slices(self) -> Dict[str, slice]:
        slices: Dict[str, slice] = {}
        start = 0
        for target in (*self.nodes[len(self.operations) :], OUTPUT):
            stop = start + len(self.sources(target))
            slices[target] = slice(start, stop)
            start = stop
        return slices

    def _position(self, node: str) -> int:
        try:
            return self.nodes.index(node)
        except ValueError:
            raise ValueError(
                f"no operation {shown(node)} in a block of {self.levels} levels of "
                f"{', '.join(self.operations)}"
            ) from None

    # The network

    @property
    def num_structures(self) -> int:
        """λ vectors: 1 in the share scope, one a block in the full scope."""
        return 1 if self.scope == "share" else self.num_blocks

    @property
    def num_reductions(self) -> int:
        """Reductions of the network, one between two stages."""
        return len(self.blocks) - 1

    @property
    def widths(self) -> Tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.width << stage for stage in range(len(self.blocks)))

    def structure_of(self, block_index: int) -> int:
        """Which structure the block at `block_index` (from 0, in network order) has."""
        if not 0 <= block_index < self.num_blocks:
            raise ValueError(
                f"block_index must be from 0 to {self.num_blocks - 1}, got {block_index}"
            )
        return 0 if self.scope == "share" else block_index

    @cached_property
    def stage_shapes(self) -> Tuple[Tuple[int, int], ...]:
        """(channels, side in pixels) of the maps of each stage; stride 2 gives ceil(side/2)."""
        channels, side = self.width, self.image_size
        if self.stem == "imagenet":
            side = halved(halved(side))
        shapes: List[Tuple[int, int]] = []
        for _ in self.blocks:
            shapes.append((channels, side))
            channels, side = 2 * channels, halved(side)
        return tuple(shapes)


def halved(side: int) -> int:
    """The side of a map of that `side` after a convolution of stride 2."""
    return (side + 1) // 2


def parse_blocks(text: str, stages: int) -> Tuple[int, ...]:
    """Blocks a stage from an option: ``'8'`` for each of `stages`, or ``'2,2,13,6'``."""
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"`blocks` must be a number or one a stage (2,2,13,6), got {shown(text)}"
        ) from None
    return _check_blocks(counts * stages if len(counts) == 1 else counts)


def _check_operations(value: Any) -> Tuple[str, ...]:
    names = check_list("operations", value)
    for name in names:
        if not isinstance(name, str) or name not in OPERATIONS:
            raise ValueError(
                f"operations has an unknown name {shown(name)}; known are {', '.join(OPERATIONS)}"
            )
        if names.count(name) > 1:
            raise ValueError(f"operations names {name} more than once")
    if not names:
        raise ValueError(f"operations must name at least one of {', '.join(OPERATIONS)}")
    return tuple(name for name in OPERATIONS if name in names)


def _check_blocks(value: Any) -> Tuple[int, ...]:
    counts = check_list("blocks", value)
    if not 1 <= len(counts) <= MOST_STAGES:
        raise ValueError(f"blocks must have from 1 to {MOST_STAGES} stages, got {len(counts)}")
    blocks = tuple(
        check_int(f"blocks[{stage}]", count, 1, MOST_BLOCKS) for stage, count in enumerate(counts)
    )
    check_int("blocks in all", sum(blocks), 1, MOST_BLOCKS)
    return blocks
