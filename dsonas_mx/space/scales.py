"""λ, or γ: one number for every connection and every branch of a reduction (Eq. 2, 8, 17-19).

The order of them all is decided here: structure by structure the connections, in the order of
`space.connections`; then the 1×1 and the 3×3 branch of every reduction. Vectors, files and
parameters have this order. A weighted network holds the live ones alone, in the parameters that
`lambda_parameters` names.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Tuple

import numpy as np

from ..io.checks import shown

BRANCHES = ("1x1", "3x3")  # of a reduction

_NAME = re.compile(
    r"(?:(?P<block>stage\d+\.block\d+):)?(?P<source>[\w.]+)->(?P<target>[\w.]+)"
    rf"|(?P<reduction>reduction\d+)\.(?P<branch>{'|'.join(BRANCHES)})"
)


class ScaleName(NamedTuple):
    """What the name of a scale says.

    Attributes
    ----------
    group : str
        ``''`` for the block that all share, ``'stage1.block1'`` or ``'reduction1'``.
    source, target : str
        Of a connection; a branch has no target, and its kernel as source.
    """

    group: str
    source: str
    target: str

    @classmethod
    def parse(cls, name: str) -> ScaleName:
        """The parts of a name; ValueError if it is none."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"{shown(name)} is no connection and no scale of a reduction")
        if match["reduction"]:
            return cls(match["reduction"], match["branch"], "")
        return cls(match["block"] or "", match["source"], match["target"])


def scale_names(space: Any) -> Tuple[str, ...]:
    """Names of all scales of a space, in their order."""
    names = [
        prefix + edge.name
        for prefix in (f"{owner}:" if owner else "" for owner in _owners(space))
        for edge in space.connections
    ]
    for stage in range(1, space.num_reductions + 1):
        names += [f"reduction{stage}.{branch}" for branch in BRANCHES]
    return tuple(names)


def lambda_parameters(architecture: Any) -> Dict[str, np.ndarray]:
    """The parameters of λ of a weighted network, and which of all scales each of them holds.

    ``lambdas`` in the share scope, ``stage1_block2_lambdas`` in the full one, and
    ``reduction1_lambdas``. What has nothing that is left has no parameter.
    """
    space = architecture.space
    connections = len(space.connections)
    prefixes = [owner.replace(".", "_") + "_" if owner else "" for owner in _owners(space)]
    masks = dict(zip(prefixes, architecture.kept))
    masks.update(
        (f"reduction{stage}_", branches)
        for stage, branches in enumerate(architecture.reductions, 1)
    )
    starts = [connections * index for index in range(len(prefixes))]
    starts += [space.num_connections + 2 * index for index in range(space.num_reductions)]
    return {
        f"{prefix}lambdas": start + np.flatnonzero(mask)
        for start, (prefix, mask) in zip(starts, masks.items())
        if any(mask)
    }


class Scales(Mapping[str, float]):
    """The scales of a space, by name and as arrays; 0 for what is gone.

    Parameters
    ----------
    space : SearchSpace or MobileSpace
    vector : array of all scales, in their order
    """

    def __init__(self, space: Any, vector: Any) -> None:
        self.space = space
        self.vector = np.array(vector, dtype=np.float64)
        self.vector.flags.writeable = False
        size = space.num_connections + 2 * space.num_reductions
        if self.vector.shape != (size,):
            raise ValueError(f"{size} scales are needed, got the shape {self.vector.shape}")

    @classmethod
    def of_parameters(cls, architecture: Any, arrays: Mapping[str, Any]) -> Scales:
        """From what the parameters of a weighted network hold: an array, or one number for all."""
        space = architecture.space
        vector = np.zeros(space.num_connections + 2 * space.num_reductions)
        for name, positions in lambda_parameters(architecture).items():
            vector[positions] = arrays[name]
        return cls(space, vector)

    def to_parameters(self, architecture: Any) -> Dict[str, np.ndarray]:
        """What the parameters of the weighted network of `architecture` would hold."""
        parameters = lambda_parameters(architecture).items()
        return {name: self.vector[positions] for name, positions in parameters}

    @property
    def connections(self) -> np.ndarray:
        """Structures × connections."""
        return self.vector[: self.space.num_connections].reshape(self.space.num_structures, -1)

    @property
    def branches(self) -> np.ndarray:
        """Reductions × (1×1, 3×3)."""
        return self.vector[self.space.num_connections :].reshape(self.space.num_reductions, 2)

    def above(self, threshold: float) -> Scales:
        """Those above a threshold, and 0 for the others."""
        return Scales(self.space, np.where(self.vector > threshold, self.vector, 0.0))

    def __getitem__(self, name: str) -> float:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self.vector)

    @cached_property
    def _by_name(self) -> Dict[str, float]:
        return dict(zip(scale_names(self.space), self.vector.tolist()))


def _owners(space: Any) -> Tuple[str, ...]:
    """Whose each structure is: '' for the one of all blocks, or a block's stage and number."""
    if space.scope == "share":
        return ("",)
    return tuple(f"stage{stage}.block{block}" for stage, block in space.block_positions)
