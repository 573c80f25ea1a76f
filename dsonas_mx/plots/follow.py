"""Pictures of a run that goes on."""

import time
from pathlib import Path
from typing import Iterator, Optional, Tuple

from ..io.files import PathLike
from ..runs.folder import CHECKPOINTS, FINISHED
from . import draw_run

_FILES = ("architecture.json", "lambdas.csv", "metrics.csv")
_SECONDS = 2.0  # between two looks at the files


def follow(
    folder: PathLike, out: Optional[PathLike] = None, seconds: float = _SECONDS
) -> Iterator[Path]:
    """Draw a run folder whenever its files have changed, until the run is finished.

    Yields
    ------
    Path
        Each picture that was drawn, as `draw_run` returns them.

    Raises
    ------
    ValueError, OSError
        As `draw_run`, of a run that is finished. One that has not begun, not finished its first
        epoch, or was cut off and may go on, is waited for.
    """
    folder = Path(folder)
    drawn: Optional[Tuple[object, ...]] = None
    while True:
        finished = (folder / CHECKPOINTS / FINISHED).exists()
        state = _state(folder)
        if state != drawn and (finished or (folder / "metrics.csv").exists()):
            try:
                yield from draw_run(folder, out)
            except ValueError:  # a row is half written, or there is none yet
                if finished:
                    raise
            else:
                drawn = state
        if finished:
            return
        time.sleep(seconds)


def _state(folder: Path) -> Tuple[object, ...]:
    paths = [folder / name for name in _FILES]
    return tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in paths if path.exists())
