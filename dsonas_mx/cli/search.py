"""Options of a search, and what it leaves behind, whatever it searched."""

from __future__ import annotations

import argparse
from typing import Any, Callable, Optional, Tuple

from ..runs.folder import Run, save_parameters
from ..search.search import Search, SearchEpoch, SearchOptions
from ..training.transfer import PRETRAINED
from .data import parse_split
from .run import open_run, train


def add_search(
    parser: argparse.ArgumentParser,
    epochs: Tuple[int, int],
    split: str,
    wd: float,
    gamma: float,
    shrink_every: int,
    lr: float = 0.1,
) -> argparse._ArgumentGroup:
    """Options of `SearchOptions`, with the defaults of a data set."""
    search = parser.add_argument_group("search")
    search.add_argument("--pretrain-epochs", type=int, default=epochs[0], help="with λ fixed at 1")
    search.add_argument("--num-epochs", type=int, default=epochs[1], help="of search, at most")
    search.add_argument("--split", default=split, help="weights:λ, samples and steps; or none")
    search.add_argument(
        "--shrink-every", type=int, default=shrink_every, help="epochs between removals"
    )
    search.add_argument("--patience", type=int, default=10, help="epochs without change to stop")
    search.add_argument("--lr", type=float, default=lr, help="of weights and λ")
    search.add_argument("--momentum", type=float, default=0.9)
    search.add_argument("--wd", type=float, default=wd, help="weight decay, not of λ")
    search.add_argument("--gamma", type=float, default=gamma, help="weight of L1 on λ")
    search.add_argument("--momentum-schedule", choices=("constant", "apg"), default="constant")
    search.add_argument(
        "--fix-gamma", choices=("all", "operations", "none"), default="all", help="fixed BN scales"
    )
    return search


def search_settings(options: argparse.Namespace) -> SearchOptions:
    """Those of `add_search`."""
    return SearchOptions(
        pretrain_epochs=options.pretrain_epochs,
        num_epochs=options.num_epochs,
        split=parse_split(options.split),
        shrink_every=options.shrink_every,
        patience=options.patience,
        learning_rate=options.lr,
        momentum=options.momentum,
        weight_decay=options.wd,
        gamma=options.gamma,
        momentum_schedule=options.momentum_schedule,
    )


def search_to_end(
    options: argparse.Namespace,
    search: Search,
    target: Optional[Any] = None,
    before: Callable[[Run], None] = lambda run: None,
    after_epoch: Callable[[Run], None] = lambda run: None,
    **identity: Any,
) -> None:
    """Search in a run folder; write what was found, and the supernet's parameters.

    Parameters
    ----------
    target : FLOPsTarget or OneOperation, optional
        Where the search has to end, to say whether it did.
    before, after_epoch : callable
        Get the run at its start and after each epoch.
    **identity
        See `train`.
    """
    connections = search.architecture.space.num_connections

    def record(epoch: SearchEpoch) -> None:
        run.append("metrics.csv", epoch.row())
        run.append("lambdas.csv", {"epoch": epoch.epoch, **epoch.scales})
        if getattr(options, "budget", None) == "latency":  # others: by λ
            run.append("gammas.csv", {"epoch": epoch.epoch, **search.gammas()})
        run.log(f"{epoch} of {connections}", **epoch.row())
        if epoch.epoch == search.options.pretrain_epochs:  # a search on other data may use it
            save_parameters(run.folder / PRETRAINED, search.net)
        after_epoch(run)

    megabytes = search.plan.megabytes  # refuses what does not fit before there is a run folder
    with open_run(options, search.workers) as run:
        run.log(f"the supernet takes {megabytes:,.0f} MB on each device")
        before(run)
        if not train(options, run, search, record, **identity):
            return
        path = run.folder / "architecture.json"
        search.architecture.save(path)
        save_parameters(run.folder / "model.params", search.net)
        run.log(str(search.architecture))
        if target is not None:
            run.log(target.describe(search.architecture))
        run.log(f"saved {path}")
