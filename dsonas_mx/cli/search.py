"""A search from its options to what it leaves behind, whatever it searches."""

from typing import Any, Callable, Optional, Sequence

import mxnet as mx
from mxnet.gluon import HybridBlock

from ..data.loader import Loader
from ..engine.setup import Setup
from ..runs.folder import Run, save_parameters
from ..search.budget import Budget
from ..search.search import Search, SearchEpoch
from ..space.mobile_architecture import AnyArchitecture
from ..training.loss import cross_entropy
from ..training.transfer import PRETRAINED
from .data_log import DataLog
from .imagenet import write_parts
from .options import Told
from .run import open_run, origin, train


def search_to_end(
    options: Any,
    build: Callable[[Any], HybridBlock],
    start: AnyArchitecture,
    loaders: Sequence[Loader],
    setup: Setup,
    told: Told,
    *,
    loss: Callable[..., Any] = cross_entropy,
    budget: Optional[Budget] = None,
    target: Optional[Any] = None,
    before: Callable[[Run, Search], None] = lambda run, search: None,
    **identity: Any,
) -> None:
    """Search in a run folder; write what was found, and the supernet's parameters.

    Parameters
    ----------
    options : Groups
        With groups `data`, `search` and `run`.
    loaders : sequence of Loader
        Of the weights and, with a split, of λ.
    told : Told
        Of the data.
    before : callable
        Gets the run at its start, and the search.
    **identity
        What must not change when the run goes on, besides the options that decide its result.

    The others are those of `Search`.
    """
    mx.random.seed(options.data.seed)
    search = Search(
        build,
        start,
        weight_data=loaders[0],
        lambda_data=loaders[1] if options.search.split else None,
        options=options.search,
        loss=loss,
        budget=budget,
        target=target,
        setup=setup,
    )
    connections, log = start.space.num_connections, DataLog(loaders, None, told)
    has_latency = options.record().get("budget") == "latency"

    def record(epoch: SearchEpoch) -> None:
        run.tables.append("lambdas.csv", {"epoch": epoch.epoch, **epoch.scales})
        if has_latency:  # others: by λ
            run.tables.append("gammas.csv", {"epoch": epoch.epoch, **search.gammas()})
        if epoch.epoch == search.options.pretrain_epochs:  # a search on other data may use it
            save_parameters(run.folder / PRETRAINED, search.net)

    takes = search.takes  # refuses what does not fit before there is a run folder
    with open_run(options, told.name, setup.workers) as run:
        run.log(f"the supernet takes {takes}")
        write_parts(run, loaders)
        log.begin(run)
        before(run, search)
        decides = {**origin(options, told.name), **log.identity, **identity}
        say = f"{{}} of {connections}".format
        if not train(options.run, run, search, decides, record=record, describe=say, log=log.log):
            return
        path = run.folder / "architecture.json"
        search.architecture.save(path)
        save_parameters(run.folder / "model.params", search.net)
        if search.emptied:
            run.log(
                f"epoch {search.epoch} removed every connection: what epoch {search.epoch - 1} "
                f"left is kept; a gamma below {search.options.gamma} leaves more"
            )
        run.log(str(search.architecture))
        if target is not None:
            run.log(target.describe(search.architecture))
        run.log(f"saved {path}")
