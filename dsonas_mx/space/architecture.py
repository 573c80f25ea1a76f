"""Architecture: which connections of a search space survive, and its JSON file.

A connection survives iff its λ > 0, its source is reachable from the block's input and its target
reaches the block's output over such connections. A block with nothing left is its shortcut.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from ..io.checks import check_int, check_json, check_list, check_object, shown
from .base import Found
from .masks import Branches, Mask, draw_count, draw_density, live_branches, prune
from .normal import INPUT, OUTPUT, SearchSpace
from .scales import BRANCHES, Scales

# What a space can change without changing what its connections mean.
_CHANGEABLE = ("stem", "blocks", "width", "num_classes", "in_channels", "image_size")


@dataclass(frozen=True)
class Architecture(Found):
    """The surviving connections of every structure, and branches of every reduction.

    Parameters
    ----------
    space : SearchSpace
    kept : sequence of masks, `space.num_structures` × `len(space.connections)`
        Every kept connection must lie on a way from the block's input to its output: `prune`
        makes any mask so. A mask that keeps nothing is valid: the block is its shortcut.
    reductions : sequence of (bool, bool), `space.num_reductions` × 2
        Whether the 1×1 and the 3×3 convolution live; at least one does.
    origin : mapping
        Where it came from (data set, seed, options), as JSON has it.

    Raises
    ------
    ValueError
        Names the field that is wrong.
    """

    space: SearchSpace
    kept: Tuple[Mask, ...]
    reductions: Tuple[Branches, ...]
    origin: Mapping[str, Any] = field(default_factory=dict, hash=False)

    network: ClassVar[str] = "dsonas"  # as `symbols.get_model` knows it
    FORMAT = "dsonas-architecture"
    FIELDS = ("format", "version", "space", "structures", "reductions", "origin")

    def __post_init__(self) -> None:
        if not isinstance(self.space, SearchSpace):
            raise ValueError(f"space must be a SearchSpace, got {shown(self.space)}")
        kept = _check_masks(
            "kept", self.kept, self.space.num_structures, len(self.space.connections)
        )
        for structure, mask in enumerate(kept):
            for edge, keeps, lives in zip(self.space.connections, mask, prune(self.space, mask)):
                if keeps and not lives:
                    raise ValueError(
                        f"structures[{structure}] keeps {edge.name}, which is on no way from "
                        "input to output: prune it"
                    )
        reductions = _check_masks("reductions", self.reductions, self.space.num_reductions, 2)
        for position, branches in enumerate(reductions):
            if not any(branches):
                raise ValueError(f"reductions[{position}] must keep at least one branch")
        check_object("origin", self.origin)
        object.__setattr__(self, "kept", kept)
        object.__setattr__(self, "reductions", reductions)
        object.__setattr__(self, "origin", check_json("origin", self.origin))

    # Where architectures come from

    @classmethod
    def complete(cls, space: SearchSpace, origin: Mapping[str, Any] = {}) -> Architecture:
        """The supernet: every connection of every block, both branches of every reduction."""
        mask = (True,) * len(space.connections)
        return cls(space, (mask,) * space.num_structures, _complete_reductions(space), origin)

    @classmethod
    def from_lambdas(
        cls,
        space: SearchSpace,
        lambdas: Any,
        reduction_lambdas: Any = None,
        origin: Mapping[str, Any] = {},
    ) -> Architecture:
        """What is left of the supernet with these scales.

        Parameters
        ----------
        lambdas : array, `space.num_structures` × `len(space.connections)`
            In the order of `space.connections`; a plain vector if there is one structure.
        reduction_lambdas : array, `space.num_reductions` × 2, optional
            Scales of the 1×1 and the 3×3 branch. If none of a reduction is above zero, the
            larger lives. Without it all branches live.

        Raises
        ------
        ValueError
            The shape is wrong, or a scale is not finite.
        """
        shape = (space.num_structures, len(space.connections))
        kept = tuple(prune(space, row > 0) for row in _matrix("lambdas", lambdas, *shape))
        if reduction_lambdas is None:
            reductions = _complete_reductions(space)
        else:
            pairs = _matrix("reduction_lambdas", reduction_lambdas, space.num_reductions, 2)
            reductions = tuple(live_branches(pair) for pair in pairs)
        return cls(space, kept, reductions, origin)

    @classmethod
    def from_scales(cls, scales: Scales, origin: Mapping[str, Any] = {}) -> Architecture:
        """What is left of the supernet with these λ, see `from_lambdas`."""
        return cls.from_lambdas(scales.space, scales.connections, scales.branches, origin)

    @classmethod
    def random(
        cls,
        space: SearchSpace,
        seed: int,
        connections: Union[int, Sequence[int], None] = None,
        density: Optional[float] = None,
        origin: Mapping[str, Any] = {},
    ) -> Architecture:
        """A random architecture without dangling operations; all reductions complete.

        The same seed gives the same architecture on every Python: only `random.Random.random`
        is used, whose sequence Python promises to keep (the sequences of `shuffle` and `sample`,
        and of NumPy's generators' methods, have changed between versions).

        Parameters
        ----------
        connections : int or a sequence of one a structure, optional
            Exactly so many connections survive in each structure. Connections are taken out of
            the complete block in random order, each with what dangles after it, unless fewer
            than `connections` would be left; drawn anew until the number is met.
        density : float in (0, 1], optional
            Each connection is drawn with this probability, then the block is pruned (so fewer
            survive); drawn anew until something survives. The default, at 0.5, if
            `connections` is not given.
        """
        if connections is not None and density is not None:
            raise ValueError("give connections or density, not both")
        generator = random.Random(check_int("seed", seed, 0))
        if connections is None:
            density = 0.5 if density is None else density
            if not 0 < density <= 1:  # false for NaN
                raise ValueError(f"density must be above 0 and at most 1, got {density}")
            kept = [draw_density(space, generator, density) for _ in range(space.num_structures)]
        else:
            counts = _check_counts(space, connections)
            kept = [draw_count(space, generator, count) for count in counts]
        return cls(space, tuple(kept), _complete_reductions(space), origin)

    def with_space(self, **changes: Any) -> Architecture:
        """The same structures in a network of another width, depth, stem or image.

        In the share scope `blocks` can be anything; with another number of stages all
        reductions are complete. In the full scope every block has its own structure, so the
        number of blocks of each stage must stay.
        """
        for name in changes:
            if name not in _CHANGEABLE:
                raise ValueError(
                    f"{name} of an architecture cannot be changed, only {', '.join(_CHANGEABLE)}"
                )
        space = replace(self.space, **changes)
        if space.scope == "full" and space.blocks != self.space.blocks:
            raise ValueError(
                f"blocks must stay {listed(self.space.blocks)} in the full scope, where each has "
                f"its own structure; got {listed(space.blocks)}"
            )
        same_stages = space.num_reductions == self.space.num_reductions
        reductions = self.reductions if same_stages else _complete_reductions(space)
        return replace(self, space=space, reductions=reductions)

    def transferred_to(self, space: SearchSpace) -> Architecture:
        """The same blocks in the network of `space`, as CIFAR-10's in the one for ImageNet.

        Stem, stages, width, classes and images are those of `space`; levels and operations stay.
        Reductions stay if there are as many, else all are complete. Only a structure that all
        blocks share can go into other stages.
        """
        return self.with_space(**{name: getattr(space, name) for name in _CHANGEABLE})

    # What survives

    def live_sources(self, structure: int, target: str) -> Tuple[str, ...]:
        """The sources of the kept connections into `target` (an operation or ``'output'``)."""
        mask = self.kept[structure][self.space.inputs(target)]
        return tuple(source for source, kept in zip(self.space.sources(target), mask) if kept)

    def live_nodes(self, structure: int) -> Tuple[str, ...]:
        """The operations that are left, in the order of `space.nodes`."""
        connections = zip(self.space.connections, self.kept[structure])
        sources = {connection.source for connection, kept in connections if kept}
        return tuple(node for node in self.space.nodes if node in sources)

    def __str__(self) -> str:
        space = self.space
        lines = [
            f"{space.scope} scope, {space.levels} levels of {', '.join(space.operations)}; "
            f"{listed(space.blocks)} blocks, width {space.width}, stem {space.stem}"
        ]
        for structure, mask in enumerate(self.kept):
            stage, block = space.block_positions[structure]
            title = f"stage {stage}, block {block}" if space.scope == "full" else "block"
            lines.append(f"{title}: {sum(mask)} of {len(mask)} connections")
            for node in self.live_nodes(structure):
                sources = self.live_sources(structure, node) or (INPUT,)
                lines.append(f"  {node} <- {' + '.join(sources)}")
            outputs = (*self.live_sources(structure, OUTPUT), "shortcut")
            lines.append(f"  {OUTPUT} <- {' + '.join(outputs)}")
        for position, branches in enumerate(self.reductions, 1):
            alive = [name for name, lives in zip(BRANCHES, branches) if lives]
            lines.append(f"reduction {position}: {' + '.join(alive)}")
        return "\n".join(lines)

    # Files

    def lists(self) -> Dict[str, Any]:
        """Connections of each structure, and branches of each reduction."""
        connections = self.space.connections
        return {
            "structures": [[c.name for c, kept in zip(connections, m) if kept] for m in self.kept],
            "reductions": [list(branches) for branches in self.reductions],
        }

    @classmethod
    def of_lists(cls, data: Mapping[str, Any]) -> Architecture:
        """That of the fields of a file, which are all there."""
        space = SearchSpace.from_json(data["space"])
        structures = check_list("structures", data["structures"], space.num_structures)
        known = {connection.name: i for i, connection in enumerate(space.connections)}
        kept = tuple(
            _mask(known, f"structures[{position}]", names)
            for position, names in enumerate(structures)
        )
        reductions = check_list("reductions", data["reductions"], space.num_reductions)
        for position, branches in enumerate(reductions):
            # The constructor takes 0 and 1 too; a file must not.
            for branch in check_list(f"reductions[{position}]", branches, 2):
                if not isinstance(branch, bool):
                    raise ValueError(
                        f"reductions[{position}] must be two of true and false, got {shown(branch)}"
                    )
        return cls(space, kept, tuple(reductions), data["origin"])


def _complete_reductions(space: SearchSpace) -> Tuple[Branches, ...]:
    return ((True, True),) * space.num_reductions


def _mask(known: Mapping[str, int], where: str, names: Any) -> Mask:
    """The mask of a structure that a file lists by name."""
    mask = [False] * len(known)
    for name in check_list(where, names):
        if not isinstance(name, str) or name not in known:
            raise ValueError(f"{where} has an unknown connection {shown(name)}")
        if mask[known[name]]:
            raise ValueError(f"{where} has {name} more than once")
        mask[known[name]] = True
    return tuple(mask)


def _matrix(where: str, value: Any, rows: int, columns: int) -> np.ndarray:
    """`value` as a matrix of floats; a vector will do where there is one row."""
    try:
        matrix = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{where} must be {rows}x{columns} numbers") from None
    if matrix.shape == (columns,) and rows == 1:
        matrix = matrix[np.newaxis]
    if matrix.shape != (rows, columns) and not matrix.size == rows * columns == 0:
        raise ValueError(f"{where} must have the shape {(rows, columns)}, got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{where} has a value that is not finite")
    return matrix.reshape(rows, columns)


def _check_masks(where: str, value: Any, rows: int, columns: int) -> Tuple[Any, ...]:
    matrix = _matrix(where, value, rows, columns)
    if not np.isin(matrix, (0, 1)).all():
        raise ValueError(f"{where} must be of True and False only")
    return tuple(tuple(row) for row in matrix.astype(bool).tolist())


def _check_counts(space: SearchSpace, connections: Union[int, Sequence[int]]) -> List[int]:
    if not isinstance(connections, (list, tuple)):
        connections = [check_int("connections", connections, 0)] * space.num_structures
    most = len(space.connections)
    counts = check_list("connections", connections, space.num_structures)
    return [check_int("connections", count, 0, most) for count in counts]


def listed(numbers: Iterable[int]) -> str:
    """(8, 8, 8) → '8,8,8'."""
    return ",".join(str(number) for number in numbers)
