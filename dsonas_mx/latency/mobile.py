"""What each operation of the mobile setting takes on a device (section 4.3.2, for Eq. 19).

A block has one level, so the network without an operation is faster by what that operation takes
alone: each is measured by itself at the shape of its block, the six of a shape in turns.
"""

from __future__ import annotations

from typing import Callable, Dict, Optional

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..io.checks import check_int
from ..space.mobile import OPERATIONS, BlockShape
from ..space.mobile_architecture import MobileArchitecture
from .deductions import ROUNDS, take_turns
from .measure import deploy


class OperationLatency:
    """Milliseconds of every live operation; those of one shape are measured once.

    Parameters
    ----------
    build : callable
        `build(shape, operation)` → a network of that operation alone, as it is deployed.
    device : Context
        The CPU by default.
    batch_size : int
        The paper's is 1 on a CPU, 8 on a GPU.
    rounds : int
        Turns of which the fastest counts.
    """

    def __init__(
        self,
        build: Callable[[BlockShape, str], HybridBlock],
        device: Optional[mx.Context] = None,
        batch_size: int = 1,
        rounds: int = ROUNDS,
    ) -> None:
        self._build = build
        self._device = device or mx.cpu()
        self._batch_size = check_int("batch_size", batch_size, 1)
        self._rounds = check_int("rounds", rounds, 2)
        self._known: Dict[BlockShape, np.ndarray] = {}

    def __call__(self, architecture: MobileArchitecture) -> np.ndarray:
        """Blocks × 6, in ms; 0 where dead."""
        times = np.stack([self.of_shape(shape) for shape in architecture.space.block_shapes])
        return np.where(architecture.kept, times, 0.0)

    def of_shape(self, shape: BlockShape) -> np.ndarray:
        """Of the six operations at the shape of a block."""
        if shape not in self._known:
            data = (self._batch_size, shape.inputs, shape.side, shape.side)
            pieces = {
                name: deploy(self._build(shape, name), data, self._device) for name in OPERATIONS
            }
            fastest = take_turns(pieces, self._rounds)
            self._known[shape] = np.array([fastest[name].ms for name in OPERATIONS])
        return self._known[shape]
