"""What a run does, for TensorBoard: scalars, λ, and the block that is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np

from ..io.files import PathLike
from ..space.architecture import Architecture

FOLDER = "tensorboard"  # in the run folder
INSTALL = "pip install -r requirements-tensorboard.txt"


class Board:
    """Writes events into ``tensorboard/`` of a run folder: ``tensorboard --logdir RUN`` shows them.

    Parameters
    ----------
    folder : path
        The run folder.
    epoch : int
        What an earlier start of the run has written of this epoch and later ones is not shown.

    Raises
    ------
    ValueError
        tensorboardX is not installed.
    """

    def __init__(self, folder: PathLike, epoch: int = 1) -> None:
        check()
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(Path(folder) / FOLDER), purge_step=epoch)
        self._drawn: Optional[Architecture] = None

    def add(
        self,
        row: Dict[str, Any],
        scales: Optional[Dict[str, float]] = None,
        architecture: Optional[Architecture] = None,
    ) -> None:
        """An epoch: its row of ``metrics.csv``, λ by name, and the architecture found so far."""
        epoch = row["epoch"]
        for name, value in row.items():
            if name != "epoch" and isinstance(value, (int, float)):
                self._writer.add_scalar(name, value, epoch)
        if scales:
            self._writer.add_histogram("lambdas", np.array(list(scales.values())), epoch)
        if architecture is not None and architecture != self._drawn:
            self._drawn = architecture
            self._writer.add_image("block", _picture(architecture), epoch, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def check() -> None:
    """Raise ValueError if tensorboardX is not installed."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError:
        raise ValueError(f"`tensorboard` needs tensorboardX: {INSTALL}") from None


def _picture(architecture: Architecture) -> np.ndarray:
    """H×W×3, uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from . import draw_block, draw_blocks

    draw = draw_block if architecture.space.scope == "share" else draw_blocks
    canvas = FigureCanvasAgg(draw(architecture))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
