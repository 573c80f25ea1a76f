"""A training from scratch, from its options to what it leaves behind, whatever it trains on."""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence, Tuple

import mxnet as mx
from mxnet.gluon import HybridBlock

from ..cost.network import count_network
from ..data import DataSet
from ..data.loader import Loader
from ..data.source import Source
from ..deploy.export import export, load_parameters
from ..engine.setup import Setup
from ..io.files import write_json
from ..io.params_file import read_params
from ..runs.folder import save_parameters
from ..training.fit import Fit, FitEpoch
from ..training.options import FitOptions
from .data_log import DataLog
from .quality import write_quality
from .run import open_run, origin, train


def train_to_end(
    options: Any,
    net: HybridBlock,
    build: Callable[[], HybridBlock],
    loaders: Tuple[Loader, Loader],
    setup: Setup,
    *,
    data: str,
    about: DataSet,
    source: Optional[Source] = None,
    settings: FitOptions,
    loss: Callable[..., Any],
    notes: Sequence[str] = (),
) -> None:
    """Train in a run folder, test, save the parameters, export the network, write the result.

    Parameters
    ----------
    options : Groups
        With groups `data` and `run`.
    net : HybridBlock
        With its `architecture`; not initialised.
    build : callable
        The network of the architecture as it is deployed.
    loaders : (Loader, Loader)
        To train and to test on.
    data : str
        The name of the data set.
    about : DataSet
        What is known of it.
    source : Source, optional
        Of own data.
    settings, loss
        Of `Fit`.
    notes : sequence of str
        What is to be said first.
    """
    architecture, log = net.architecture, DataLog(loaders[:1], loaders[1], about, source)
    cost = count_network(architecture)
    mx.random.seed(options.data.seed)
    net.initialize(ctx=setup.contexts)
    train_data, test_data = loaders
    fit = Fit(
        net, train_data=train_data, test_data=test_data, options=settings, loss=loss, setup=setup
    )

    def record(epoch: FitEpoch) -> None:
        run.tables.append("metrics.csv", epoch.row())

    def tell(epoch: FitEpoch) -> None:
        run.log(str(epoch), **epoch.row())
        log.log(run)

    takes = fit.takes  # refuses what does not fit before there is a run folder
    identity = {**origin(options, data), **log.identity, "architecture": architecture.to_json()}
    with open_run(options, data, setup.workers) as run:
        for line in notes:
            run.log(line)
        if not (run.folder / "architecture.json").exists():
            architecture.save(run.folder / "architecture.json")
        run.log(
            f"{cost.parameters:,} parameters, {cost.multiply_adds:,} multiply-adds; "
            f"training takes {takes}"
        )
        log.begin(run)
        if not train(options.run, run, fit, record, tell, identity):
            return
        test = fit.test()
        save_parameters(run.folder / "model.params", fit.net)
        deployed = build()
        load_parameters(deployed, read_params(run.folder / "model.params"))
        exported = export(deployed, run.folder / "model", next(test_data.epoch(0)).data)
        result = {
            "test_error": 1 - test.accuracy,
            "parameters": cost.parameters,
            "multiply_adds": cost.multiply_adds,
            "connections": cost.connections,
        }
        device = setup.contexts[0]
        result.update(write_quality(run, fit.net, test_data, device, about.classes))
        if test.top5 is not None:
            result["test_top5_error"] = 1 - test.top5
        write_json(run.folder / "result.json", result)
        top5 = "" if test.top5 is None else f", top-5 {1 - test.top5:.2%}"
        run.log(
            f"test error {1 - test.accuracy:.2%}{top5}; saved {exported.symbol}, "
            f"{exported.parameters}"
        )
