"""Session: a loop in a run folder, from its newest checkpoint to its end or a signal."""

import json
import os
import re
import signal
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, NoReturn, Optional, Tuple

import numpy as np

from ..engine.workers import Workers
from ..io.checks import check_int, check_object, shown
from ..io.files import PathLike
from ..training.loop import Diverged, Loop
from ..training.state import State
from .checkpoint import Checkpoints, read_checkpoint
from .folder import Run, environment
from .interrupted import Interrupted

LEAST_RATE = 2.0**-5  # of the learning rate: so often is it halved
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)  # ask for the end
_KEPT = 2  # checkpoints, besides the best and the last one at the end of an epoch


class Session:
    """Takes a loop to its end, and writes down all that is needed to go on from any moment.

    Parameters
    ----------
    run : Run
    loop : Loop
    identity : mapping
        What must not change between a start and the next: options by name, ready for JSON.
    minutes : float
        A checkpoint is written so often within an epoch; 0 for none. At the end of an epoch there
        always is one.
    roll_back : bool
        Whether a loss that is not finite takes the loop back to the end of the last epoch, with
        half the learning rate; it is halved five times at most. Otherwise it ends the run.
    """

    def __init__(
        self,
        run: Run,
        loop: Loop,
        identity: Mapping[str, Any],
        minutes: float = 30.0,
        roll_back: bool = False,
    ) -> None:
        self._run = run
        self._loop = loop
        self._checkpoints = Checkpoints(run.checkpoints)
        self._about = {
            "identity": json.loads(json.dumps(dict(identity))),
            "environment": _surroundings(loop),
        }
        self._workers = loop.workers
        self._minutes = minutes
        self._roll_back = roll_back
        self._signal: Optional[int] = None
        self._due = 0.0
        self._good: List[str] = []  # names of checkpoints, the newest last
        self._boundary: Optional[str] = None  # the newest at the end of an epoch
        self._best: Optional[str] = None
        self._least_error = float("inf")

    # Going on

    def resume(self, path: Optional[PathLike] = None) -> None:
        """Go on from a checkpoint, or from the newest that can be used, if there is any.

        Raises
        ------
        ValueError, OSError
            The checkpoint is of a run with other options, or it cannot be used.
        """
        found, state, source = self._find(path) if self._workers.rank == 0 else (None, None, None)
        state = _told(self._workers, state)
        if state is None:
            return
        try:
            self._restore(state, source)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{found} is no checkpoint of such a run: {error!r}") from None
        self._good = ["" if found is None else found.name]
        if path is not None:
            if source is not None:
                self._good, self._boundary, self._best = [], None, None
            self._run.reopen()
            self._save(self._loop.state())  # the newest from now on
        if not self._run.finished:
            place = f"epoch {self._loop.epoch + 1}, step {self._loop.position + 1}"
            self._run.log(f"going on from {found}: {place}")

    def _find(
        self, path: Optional[PathLike]
    ) -> Tuple[Optional[Path], Optional[State], Optional[Path]]:
        """A checkpoint, what is in it, and the folder of the run that it is of if not of this."""
        source = None
        if path is not None:
            found = Path(path)
            state = read_checkpoint(found)
            if found.resolve().parent.parent != self._run.folder.resolve():
                source = found.resolve().parent.parent
                if self._checkpoints.paths():
                    raise ValueError(
                        f"{self._run.folder} has checkpoints of its own: give `resume`, or another "
                        "`save_dir`"
                    )
        else:
            newest = self._checkpoints.newest(self._run.log)
            if newest is None:
                return None, None, None
            found, state = newest
        try:
            self._check(state)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{found} is no checkpoint of such a run: {error!r}") from None
        return found, state, source

    def _check(self, state: State) -> None:
        """Refuse other options; say what else is different."""
        about = state.values["about"]
        other = [
            f"`{name}` {_brief(value, about['identity'][name])}"
            for name, value in self._about["identity"].items()
            if name in about["identity"] and about["identity"][name] != value
        ]
        if other:
            raise ValueError(
                f"the checkpoint is of a run with other options: {', '.join(other)}; give the "
                "same, or start another run with another `save_dir`"
            )
        for name, value in self._about["environment"].items():
            before = about["environment"].get(name, value)  # older checkpoints have fewer names
            if before != value:
                self._run.log(f"{name} was {before}, is {value}: it may not go on bit for bit")

    def _restore(self, state: State, source: Optional[Path] = None) -> None:
        values = state.values
        check_tables(values["tables"])
        self._loop.restore(State(values["loop"], state.arrays))
        if self._workers.rank == 0:
            self._run.tables.cut(values["tables"], source)
        self._boundary, self._best = values["boundary"], values["best"]
        error = values["least_error"]
        self._least_error = float("inf") if error is None else float(error)

    # Going on to the end

    def train(
        self, record: Callable[[Any], None], tell: Callable[[Any], None] = lambda epoch: None
    ) -> None:
        """Run the loop to its end.

        Parameters
        ----------
        record : callable
            Gets what `step_epoch` returns before the checkpoint, to append it to tables.
        tell : callable
            Gets it after the checkpoint, to say it; then nothing is lost with the words.

        Raises
        ------
        Interrupted
            After a signal that asks for the end, when the step is done and a checkpoint written.
        ArithmeticError, OSError
            As the loop; the disk is full. The checkpoints are there.
        """
        loop = self._loop
        loop.after_step, loop.data_failed = self._after_step, self._data_failed
        self._postpone()
        with self._catching_signals():
            if not self._good:
                self._save(loop.state())
            while not loop.finished:
                try:
                    tell(self._epoch(record))
                except Diverged as error:
                    if not self._roll_back:
                        raise
                    self._back(error)
                if self._workers.agree(self._signal is not None, False)[0]:
                    self._stop()

    def _epoch(self, record: Callable[[Any], None]) -> Any:
        epoch = self._loop.step_epoch()
        state = self._loop.state()  # or it is not finite, and nothing to be recorded
        record(epoch)
        error = getattr(epoch, "error", None)
        if error is not None and error < self._least_error:
            self._least_error, self._best = error, self._checkpoints.next.name
        self._save(state)
        return epoch

    def _after_step(self) -> None:
        due = time.monotonic() >= self._due
        if due:
            self._postpone()
        stop, save = self._workers.agree(self._signal is not None, due and self._workers.rank == 0)
        if stop or save:
            self._save(self._loop.state())
        if stop:
            self._stop()

    def _data_failed(self) -> None:
        """The steps that are done are not lost with the data that could not be read."""
        if self._workers.size > 1:
            return  # the others do not know
        with suppress(OSError, Diverged):  # of both, the error of the data is to be seen
            self._save(self._loop.state())

    def _stop(self) -> NoReturn:
        raise Interrupted(self._signal or signal.SIGTERM)

    def _postpone(self) -> None:
        self._due = time.monotonic() + 60 * self._minutes if self._minutes else float("inf")

    def _save(self, loop: State) -> None:
        name = self._checkpoints.next.name
        if loop.values["position"] == 0:
            self._boundary = name
        values: Dict[str, Any] = {
            "about": self._about,
            "loop": loop.values,
            "tables": self._run.tables.lengths(),
            "boundary": self._boundary,
            "best": self._best,
            "least_error": None if self._best is None else self._least_error,
        }
        self._good = [*self._good, name][-_KEPT:]
        self._postpone()
        if self._workers.rank:
            return  # that one writes for all
        keep = {*self._good, self._boundary, self._best} - {None}
        best = self._best if self._best == name else None
        self._checkpoints.save(State(values, loop.arrays), {str(k) for k in keep}, best)

    def _back(self, error: Diverged) -> None:
        """To the end of the last epoch: where that is does not depend on when a run was stopped."""
        scale = self._loop.rate_scale / 2
        if scale < LEAST_RATE:
            raise error
        path, state = self._last_boundary() if self._workers.rank == 0 else (None, None)
        state = _told(self._workers, state)
        assert state is not None
        self._restore(state)
        self._loop.rate_scale = scale
        self._run.log(f"{error}; going back to {path} with {scale:g} of the learning rate")
        self._save(self._loop.state())

    def _last_boundary(self) -> Tuple[Path, State]:
        paths = [self._checkpoints.folder / name for name in self._good[::-1]]
        if self._boundary is not None:
            paths.insert(0, self._checkpoints.folder / self._boundary)
        path = next(path for path in paths if path.exists())
        return path, read_checkpoint(path)

    @contextmanager
    def _catching_signals(self) -> Iterator[None]:
        """Note what asks for the end; SIGINT after that ends the process at once.

        SIGHUP and SIGUSR1 are a terminal's and a scheduler's warning. What is ignored from the
        start, in the background of a script or by nohup, stays so.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: Any) -> None:
            self._signal = number
            if signal.SIGINT in before:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
            text = "ending after this step, with a checkpoint; Ctrl-C ends at once"
            with suppress(OSError):  # not print, which may be what was interrupted
                os.write(2, f"{self._run.printed(text)}\n".encode())

        before = {
            number: signal.signal(number, note)
            for number in SIGNALS
            if signal.getsignal(number) != signal.SIG_IGN
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _told(workers: Workers, state: Optional[State]) -> Optional[State]:
    """The state that worker 0 has, which alone has read the checkpoint."""
    if workers.size == 1:
        return state
    given = state.arrays if state is not None else {}
    forms = [[name, array.dtype.str, array.shape] for name, array in given.items()]
    told = workers.tell(None if state is None else [state.values, forms])
    if told is None:
        return None
    values, forms = told
    arrays = {}
    for name, form, shape in forms:
        own = given[name] if name in given else np.zeros(shape, form)
        arrays[name] = workers.broadcast(own)
    return State(values, arrays)


def _surroundings(loop: Loop) -> Dict[str, Any]:
    """What may change between a start and the next, but not without changing bits."""
    versions = environment()
    return {
        **{name: versions[name] for name in ("mxnet", "numpy", "commit")},
        **loop.surroundings(),
    }


def _brief(now: Any, before: Any) -> str:
    if isinstance(now, dict) or isinstance(before, dict):
        return "is another"
    return f"is {now}, was {before}"


def check_tables(tables: Any) -> None:
    """Refuse a checkpoint that names other files than tables, which are cut and replaced."""
    for name, length in check_object("tables of a checkpoint", tables).items():
        if not re.fullmatch(r"[A-Za-z0-9_]+\.csv", name):
            raise ValueError(f"tables of a checkpoint: {shown(name)} is not the name of a table")
        check_int(f"tables of a checkpoint: the bytes of {name}", length, 0, 2**40)
