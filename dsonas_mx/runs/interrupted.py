"""Interrupted: how a run ends that was asked to."""

import signal


class Interrupted(Exception):
    """A signal asked for the end; the checkpoint is written.

    Attributes
    ----------
    status : int
        What a shell expects: 128 and the number of the signal.
    """

    def __init__(self, number: int) -> None:
        name = signal.Signals(number).name
        super().__init__(f"ended by {name}, with a checkpoint: `resume` goes on from here")
        self.status = 128 + number
