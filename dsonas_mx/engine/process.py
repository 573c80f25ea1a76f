"""This process among those of one training that were launched together: which one, and its end."""

import os
import sys
from typing import NoReturn

RANK = "DSONAS_WORKER"  # ps-lite's own rank is that in which they arrived: another in each run

_connected = False


def rank() -> int:
    """The number of this process among those launched together, connected or not yet."""
    text = os.environ.get(RANK, "")
    return int(text) if text.isdigit() else 0


def is_connected() -> bool:
    """Whether others may wait for this process."""
    return _connected


def note_connection() -> None:
    """From now on others may."""
    global _connected
    _connected = True


def leave(status: int) -> NoReturn:
    """End this process now: a usual end would wait for the others, which wait for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
