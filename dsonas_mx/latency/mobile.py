"""What each operation of the mobile setting takes on a device (section 4.3.2, for Eq. 19).

A block has one level, so the network without an operation is faster by what that operation takes
alone: each is measured by itself at the shape of its block, the six of a shape in turns.
"""

import numpy as np

from ..space.mobile import OPERATIONS, BlockShape
from ..space.mobile_architecture import MobileArchitecture
from .deductions import InTurns, take_turns
from .measure import deploy


class OperationLatency(InTurns):
    """Milliseconds of every live operation; those of one shape are measured once.

    `build(shape, operation)` makes a network of that operation alone; see `InTurns`. The paper's
    batch size is 1 on a CPU, 8 on a GPU.
    """

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
