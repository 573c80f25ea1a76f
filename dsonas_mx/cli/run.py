"""Options of the run folder, and runs that go on from a checkpoint."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Dict, Mapping, Optional

from ..engine.process import rank
from ..engine.workers import Workers
from ..io.files import read_json
from ..plots import tensorboard
from ..runs.checkpoint import is_checkpoint
from ..runs.folder import Run, check_folder
from ..runs.session import Session
from ..training.loop import Loop
from .machine import RunOptions, Script


class _Aside(Run):
    """A run folder that is gone in the end: for workers whose files nobody needs."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._place = TemporaryDirectory(prefix="dsonas-worker-")
        super().__init__(self._place.name, record, quiet=True)

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._place.cleanup()


def recorded(options: RunOptions) -> Optional[Mapping[str, Any]]:
    """The options of the run that shall go on, as it was started; None for a new run."""
    if options.resume_from is not None:
        folder = Path(options.resume_from).resolve().parent.parent
    elif options.resume:
        folder = Path(options.save_dir)
    else:
        return None
    try:
        return dict(read_json(folder / "args.json")["options"])
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged
        return None


def origin(options: Script, data: str) -> Dict[str, Any]:
    """What decides a result: the data set and the options, without files, folders and devices."""
    return {"data": data, **options.record(deciding=True)}


def open_run(options: Script, data: str, workers: Optional[Workers] = None) -> Run:
    """The run folder of the options: for worker 0, which writes for all."""
    record = {**options.record(), "data_set": data}
    if workers is not None and workers.rank:
        return _Aside(record)
    run = options.run
    return Run(run.save_dir, record, resume=run.resumes, log_format=run.log_format)


def check_run(options: Script) -> None:
    """Refuse what cannot be met, before data are read; a dry run needs no folder of its own."""
    run = options.run
    if run.tensorboard:
        tensorboard.check()
    if rank():
        return
    if run.resume_from is not None and not is_checkpoint(run.resume_from):
        raise ValueError(
            f"--resume-from {run.resume_from}: no checkpoint; they are RUN/checkpoint/000012 "
            "and so on"
        )
    if not options.memory.dry_run and Path(run.save_dir).exists():
        check_folder(Path(run.save_dir), run.resumes)


def train(
    options: RunOptions,
    run: Run,
    loop: Loop,
    identity: Mapping[str, Any],
    *,
    record: Callable[[Any], None] = lambda epoch: None,
    describe: Callable[[Any], str] = str,
    log: Callable[[Run], None] = lambda run: None,
) -> bool:
    """Take a loop to its end, from a checkpoint if that was asked for.

    What each epoch did is a row of ``metrics.csv`` before its checkpoint, and a line of the log
    after that.

    Parameters
    ----------
    identity : mapping
        What must not change when the run goes on.
    record : callable
        Gets each epoch before its checkpoint, too, for further tables.
    describe : callable
        The line of an epoch.
    log : callable
        Logs what else is to be said after an epoch.

    Returns
    -------
    bool
        False for a run that came to its end long ago: there is nothing to do.
    """
    roll_back = options.on_nan == "rollback"
    session = Session(run, loop, identity, options.checkpoint_minutes, roll_back)
    if options.resumes:
        session.resume(options.resume_from)
    if loop.workers.tell(run.finished):
        run.log(f"{run.folder} is finished: nothing to do")
        return False
    board = None
    if options.tensorboard and not loop.workers.rank:
        board = tensorboard.Board(run.folder, loop.epoch + 1, run.log)

    def record_all(epoch: Any) -> None:
        run.tables.append("metrics.csv", epoch.row())
        record(epoch)

    def tell(epoch: Any) -> None:
        run.log(describe(epoch), **epoch.row())
        log(run)
        if board is not None:
            found = getattr(loop, "architecture", None)  # of a search
            board.add(epoch.row(), getattr(epoch, "scales", None), found)

    try:
        session.train(record_all, tell)
    finally:
        if board is not None:
            board.close()
    return True
