"""What a run does, for TensorBoard: scalars, λ, and the block that is left."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import numpy as np

from ..io.files import PathLike
from ..space.mobile_architecture import AnyArchitecture

FOLDER = "tensorboard"  # in the run folder
INSTALL = "pip install -r requirements-tensorboard.txt"

_EDGES = 1e-12 * 1.1 ** np.arange(775)  # to 1e20, as TensorFlow's
_BINS = [*-_EDGES[::-1], 0, *_EDGES]


class Board:
    """Writes events into ``tensorboard/`` of a run folder: ``tensorboard --logdir RUN`` shows them.

    What goes wrong with that, with a full disk say, is noted, and the rest is left out. It is
    written by this thread: tensorboardX's own writer dies alone, and lets others wait for ever.

    Parameters
    ----------
    folder : path
        The run folder.
    epoch : int
        What an earlier start of the run has written of this epoch and later ones is not shown.
    note : callable
        Is told what went wrong.

    Raises
    ------
    ValueError
        tensorboardX is not installed.
    """

    def __init__(self, folder: PathLike, epoch: int = 1, note: Callable[[str], None] = print):
        check()
        self._folder = Path(folder) / FOLDER
        self._note = note
        self._drawn: Optional[AnyArchitecture] = None
        self._writer: Any = None
        self._failed = False
        self._try(self._open, epoch)

    def add(
        self,
        row: Dict[str, Any],
        scales: Optional[Dict[str, float]] = None,
        architecture: Optional[AnyArchitecture] = None,
    ) -> None:
        """An epoch: its row of ``metrics.csv``, λ by name, and the architecture found so far."""
        self._try(self._add, row, scales, architecture)

    def close(self) -> None:
        """Write what is left."""
        self._try(self._writer.close if self._writer is not None else lambda: None)

    def _try(self, do: Callable[..., None], *arguments: Any) -> None:
        if self._failed:
            return
        try:
            do(*arguments)
        except Exception as error:  # whatever it is, it is none of the run's
            self._failed = True
            self._note(f"{self._folder}: {error}: TensorBoard gets no more of this run")
            if self._writer is not None:
                with suppress(OSError):
                    self._writer.close()

    def _open(self, epoch: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        self._folder.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(self._folder / "events"))
        self._write(epoch, session_log=SessionLog(status=SessionLog.START))
        self._writer.flush()

    def _add(
        self,
        row: Dict[str, Any],
        scales: Optional[Dict[str, float]],
        architecture: Optional[AnyArchitecture],
    ) -> None:
        from tensorboardX import summary

        epoch = row["epoch"]
        for name, value in row.items():
            if name != "epoch" and isinstance(value, (int, float)):
                self._write(epoch, summary=summary.scalar(name, value))
        if scales:
            values = np.array(list(scales.values()))
            self._write(epoch, summary=summary.histogram("lambdas", values, _BINS))
        if architecture is not None and architecture != self._drawn:
            self._drawn = architecture
            picture = _picture(architecture)
            self._write(epoch, summary=summary.image("block", picture, dataformats="HWC"))
        self._writer.flush()

    def _write(self, epoch: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(step=epoch, wall_time=time.time(), **content))


def check() -> None:
    """Raise ValueError if tensorboardX is not installed."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError:
        raise ValueError(f"`tensorboard` needs tensorboardX: {INSTALL}") from None


def _picture(architecture: AnyArchitecture) -> np.ndarray:
    """H×W×3, uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from . import draw_architecture

    canvas = FigureCanvasAgg(draw_architecture(architecture))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
