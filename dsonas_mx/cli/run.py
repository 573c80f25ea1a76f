"""Options of the run folder, and runs that go on from a checkpoint."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Mapping, Optional

from ..engine.workers import Workers, rank
from ..plots import tensorboard
from ..runs.checkpoint import is_checkpoint
from ..runs.folder import Run, check_folder
from ..runs.session import Session
from ..training.loop import Loop
from .data import origin


def add_run(parser: argparse.ArgumentParser, save_dir: str) -> None:
    """`--save-dir`, with its default, and how a run survives."""
    group = parser.add_argument_group("run folder")
    group.add_argument("--save-dir", default=save_dir, help="the run folder")
    group.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    group.add_argument(
        "--resume-from",
        metavar="PATH",
        help="go on from a checkpoint, as "
        "RUN/checkpoint/000012, of this run folder or, in a new one, of another",
    )
    group.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=30,
        help="between checkpoints within an epoch; 0 for none but at its end",
    )
    group.add_argument(
        "--on-nan",
        choices=("stop", "rollback"),
        default="stop",
        help="a loss that is not finite ends the run, or takes it back to the end of the last "
        "epoch, with half the learning rate, five times at most",
    )
    add_watching(group)


class _Aside(Run):
    """A run folder that is gone in the end: for workers whose files nobody needs."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._place = TemporaryDirectory(prefix="dsonas-worker-")
        super().__init__(self._place.name, vars(options), quiet=True)

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._place.cleanup()


def add_watching(group: argparse._ArgumentGroup) -> None:
    """`--tensorboard` and `--log-format`."""
    group.add_argument(
        "--tensorboard",
        action="store_true",
        help="write scalars, λ and the block for TensorBoard; needs tensorboardX",
    )
    group.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="of what is printed: json for an object a line, of an epoch with its numbers, of an "
        "error with its status",
    )


def recorded(options: argparse.Namespace) -> Optional[Mapping[str, Any]]:
    """The options of the run that shall go on, as it was started; None for a new run."""
    if options.resume_from is not None:
        folder = Path(options.resume_from).resolve().parent.parent
    elif options.resume:
        folder = Path(options.save_dir)
    else:
        return None
    try:
        content = json.loads((folder / "args.json").read_text(encoding="utf-8"))
        return dict(content["options"])
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged
        return None


def open_run(options: argparse.Namespace, workers: Optional[Workers] = None) -> Run:
    """The run folder of `add_run`: for worker 0, which writes for all."""
    if workers is not None and workers.rank:
        return _Aside(options)
    resumes = _resumes(options)
    return Run(options.save_dir, vars(options), resume=resumes, log_format=options.log_format)


def check_run(options: argparse.Namespace) -> None:
    """Refuse options of `add_run` that cannot be met; a dry run needs no folder of its own."""
    if not 0 <= options.checkpoint_minutes < math.inf:
        raise ValueError(
            f"--checkpoint-minutes must be at least 0, got {options.checkpoint_minutes}"
        )
    if options.tensorboard:
        tensorboard.check()
    if rank():
        return
    if options.resume_from is not None and not is_checkpoint(options.resume_from):
        raise ValueError(
            f"--resume-from {options.resume_from}: no checkpoint; they are RUN/checkpoint/000012 "
            "and so on"
        )
    if not options.dry_run and Path(options.save_dir).exists():
        check_folder(Path(options.save_dir), _resumes(options))


def _resumes(options: argparse.Namespace) -> bool:
    return options.resume or options.resume_from is not None


def train(
    options: argparse.Namespace,
    run: Run,
    loop: Loop,
    record: Callable[[Any], None],
    **identity: Any,
) -> bool:
    """Take a loop to its end, from a checkpoint if that was asked for.

    Parameters
    ----------
    record : callable
        Gets what each epoch did, to append it to tables and log it.
    **identity
        What must not change when the run goes on, besides the options that change its result.

    Returns
    -------
    bool
        False for a run that came to its end long ago: there is nothing to do.
    """
    session = Session(
        run,
        loop,
        {**origin(options), **identity},
        options.checkpoint_minutes,
        options.on_nan == "rollback",
    )
    if options.resume or options.resume_from is not None:
        session.resume(options.resume_from)
    if loop.workers.tell(run.finished):
        run.log(f"{run.folder} is finished: nothing to do")
        return False
    board = None
    if options.tensorboard and not loop.workers.rank:
        board = tensorboard.Board(run.folder, loop.epoch + 1)

    def record_all(epoch: Any) -> None:
        record(epoch)
        if board is not None:
            found = getattr(loop, "architecture", None)  # of a search
            board.add(epoch.row(), getattr(epoch, "scales", None), found)

    try:
        session.train(record_all)
    finally:
        if board is not None:
            board.close()
    return True
