"""Budgets: γ of each connection, adapted to what the network costs (section 3.4, Eq. 17-19).

A budget gives γ of all connections for the architecture as it is now. A search asks it at the
start of every epoch. The λ of reductions keep the plain γ.
"""

import math
from typing import Callable, Iterator, Optional, Tuple

import numpy as np

from ..cost import count as cost
from ..space.architecture import Architecture
from ..space.normal import OUTPUT, SearchSpace

BUDGETS = ("none", "flops", "mac", "latency")

Measure = Callable[[Architecture], np.ndarray]


class Budget:
    """γ of every connection: here the same for all, which is no budget; others adapt it.

    Parameters
    ----------
    gamma : float
        γ, at least 0.
    """

    def __init__(self, gamma: float) -> None:
        if not 0 <= gamma < math.inf:
            raise ValueError(f"gamma must be at least 0, got {gamma}")
        self.gamma = gamma

    def gammas(self, architecture: Architecture) -> np.ndarray:
        """γ of every connection, removed ones too.

        Returns
        -------
        array, `num_structures` × `len(space.connections)`
        """
        space = architecture.space
        return np.full((space.num_structures, len(space.connections)), self.gamma)


class AdaptiveFLOPs(Budget):
    """A block is penalised by the share of its FLOPs that it still has (Eq. 17).

        γ^t = FLOPs^t / FLOPs_block · γ

    FLOPs^t are the multiply-adds of what is kept of a block, FLOPs_block those of the complete
    block: operations and 1×1 convolutions of the output, without the shortcut, which no λ can
    remove. In the full scope each block has its γ^t, so that large blocks are pruned more; in the
    share scope one γ^t falls as the network gets smaller.
    """

    def gammas(self, architecture: Architecture) -> np.ndarray:
        complete = Architecture.complete(architecture.space)
        share = _by_structure(architecture) / _by_structure(complete)
        return self.gamma * np.repeat(share[:, None], len(architecture.kept[0]), axis=1)


class AdaptiveMAC(Budget):
    """A connection is penalised by the memory access of the operation that it enters (Eq. 18).

        γ_(m,n) = MAC_(m,n) / MAC_max · γ

    MAC_(m,n) is that of the nth operation in the mth level, summed over the blocks that share it;
    MAC_max the largest of the network. Connections to the output enter their 1×1 convolution.
    """

    def gammas(self, architecture: Architecture) -> np.ndarray:
        space = architecture.space
        pieces = (*space.operations, OUTPUT)
        mac = np.zeros((space.num_structures, len(pieces)))
        for structure, channels, side in _blocks(space):
            mac[structure] += [_piece(name, channels, side).memory_access for name in pieces]
        entered = [pieces.index(edge.target.split(".")[-1]) for edge in space.connections]
        return self.gamma * mac[:, entered] / mac.max()


class AdaptiveLatency(Budget):
    """A connection is penalised by the latency that its removal saves (Eq. 19).

        γ_c^t = (LAT_c − LAT_min) / (LAT_max − LAT_min) · (γ − γ_0) + γ_0

    LAT_c is the latency deduction, in ms, of a network without the connection c: the largest is
    penalised with γ, the smallest with γ_0. As the paper prints it, LAT_c is the latency of the
    network without c, which would penalise most what saves least. A connection that saves nothing,
    or less than the noise of the measurement, has γ_0; and so have all if none saves more than
    another.

    Parameters
    ----------
    measure : callable
        `measure(architecture)` → how many ms of latency the network loses with each live
        connection, `num_structures` × `len(space.connections)`; 0 where dead or within the noise.
    gamma : float
        The largest weight. Eq. 19 calls γ what is γ − γ_0 here.
    gamma0 : float, optional
        γ_0, at most γ; the default is γ/2.
    """

    def __init__(self, measure: Measure, gamma: float, gamma0: Optional[float] = None) -> None:
        super().__init__(gamma)
        self.gamma0 = gamma / 2 if gamma0 is None else gamma0
        if not 0 <= self.gamma0 <= gamma:
            raise ValueError(f"gamma0 must be from 0 to gamma, which is {gamma}, got {gamma0}")
        self._measure = measure

    def gammas(self, architecture: Architecture) -> np.ndarray:
        live = np.array(architecture.kept)
        saved = np.asarray(self._measure(architecture), dtype=float)
        if saved.shape != live.shape or not np.isfinite(saved).all():
            raise ValueError(
                f"latency must be measured as {live.shape} finite numbers, got {saved.shape}"
            )
        saved = np.maximum(saved, 0)
        least, most = saved.min(where=live, initial=np.inf), saved.max(where=live, initial=0)
        share = (saved - least) / (most - least) if most > least else np.zeros(live.shape)
        return np.where(live, share, 0) * (self.gamma - self.gamma0) + self.gamma0


def make_budget(
    name: str, gamma: float, gamma0: Optional[float] = None, measure: Optional[Measure] = None
) -> Budget:
    """The budget of a name out of `BUDGETS`.

    Parameters
    ----------
    gamma : float
        γ.
    gamma0, measure : optional
        Of `AdaptiveLatency`, which needs `measure`; no other budget has a γ_0.
    """
    if name not in BUDGETS:
        raise ValueError(f"budget must be {', '.join(BUDGETS)}, got {name!r}")
    if name == "latency":
        if measure is None:
            raise ValueError("budget latency needs a way to measure latency")
        return AdaptiveLatency(measure, gamma, gamma0)
    if gamma0 is not None:
        raise ValueError(f"gamma0 is of budget latency: budget {name} has none")
    return {"none": Budget, "flops": AdaptiveFLOPs, "mac": AdaptiveMAC}[name](gamma)


def default_budget(scope: str) -> str:
    """Adaptive FLOPs balances the blocks of the full scope; one structure needs no balance."""
    return "flops" if scope == "full" else "none"


def flops_by_block(architecture: Architecture) -> np.ndarray:
    """Multiply-adds of what λ can remove, of each block in the order of the network."""
    return np.array(
        [
            cost.block(architecture, structure, channels, side, first=False).multiply_adds
            for structure, channels, side in _blocks(architecture.space)
        ]
    )


def _by_structure(architecture: Architecture) -> np.ndarray:
    """Multiply-adds of what λ can remove, of each structure, over the blocks that share it."""
    structures = [structure for structure, _, _ in _blocks(architecture.space)]
    return np.bincount(structures, weights=flops_by_block(architecture))


def _blocks(space: SearchSpace) -> Iterator[Tuple[int, int, int]]:
    """Of each block its structure, channels and side of its maps."""
    for index, (stage, _) in enumerate(space.block_positions):
        yield (space.structure_of(index), *space.stage_shapes[stage - 1])


def _piece(name: str, channels: int, side: int) -> cost.Cost:
    """An operation, or the 1×1 convolution of an operation to the output."""
    if name == OUTPUT:
        return cost.convolution(channels, channels, 1, side)
    return cost.operation(name, channels, side)
