"""Setup: where and how the steps of a loop run, whatever it trains."""

from dataclasses import dataclass, field
from typing import Any, Callable, Sequence, Union

import mxnet as mx

from .memory import Allowance, Mirror
from .workers import Workers

Progress = Callable[[Any, int, str, int], Any]  # steps, how many, of what, how many after them


def in_silence(steps: Any, length: int, what: str, later: int) -> Any:
    """The steps, without a bar."""
    return steps


@dataclass(frozen=True)
class Setup:
    """Where and how a loop runs: nothing of it is learned.

    Parameters
    ----------
    contexts : sequence of mx.Context
        The devices of this process; the CPU by default.
    recompute : {'auto', 'least', 'off'}, float or Allowance
        What is computed again in backward, see `TrainGraph`; planned anew for a smaller network.
    dtype : {'float32', 'float16'}
        Of the maps, see `TrainGraph`.
    workers : Workers
        All processes of this training, which take its steps together; alone by default.
    progress : callable
        Wraps the steps of an epoch, to show a bar.
    """

    contexts: Sequence[mx.Context] = field(default_factory=lambda: (mx.cpu(),))
    recompute: Union[Mirror, Allowance] = "off"
    dtype: str = "float32"
    workers: Workers = field(default_factory=Workers)
    progress: Progress = in_silence
