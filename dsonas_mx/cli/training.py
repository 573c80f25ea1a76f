"""A training from scratch, from its options to what it leaves behind, whatever it trains on."""

from contextlib import contextmanager
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence, Tuple

import mxnet as mx
from mxnet.gluon import HybridBlock

from ..cost.network import count_network
from ..cost.traced import Cost
from ..data.loader import Loader
from ..deploy.export import export, load_parameters
from ..engine.setup import Setup
from ..io.files import write_json
from ..io.params_file import read_params
from ..runs.folder import Run, save_parameters
from ..space.mobile_architecture import AnyArchitecture
from ..training.fit import Fit
from ..training.loop import Loop
from .data_log import DataLog
from .options import Told
from .quality import write_quality
from .run import open_run, origin, train


@contextmanager
def trained(
    options: Any,
    fit: Loop,
    *,
    data: str,
    architecture: Optional[AnyArchitecture],
    cost: Cost,
    identity: Mapping[str, Any],
    notes: Sequence[str] = (),
    begin: Callable[[Run], None],
    log: Callable[[Run], None] = lambda run: None,
) -> Iterator[Optional[Run]]:
    """The run folder of a training that has just come to its end; None if it had before.

    Parameters
    ----------
    architecture, cost
        Of the network as it is deployed; a baseline has no architecture.
    identity : mapping
        What must not change when the run goes on, besides the options that decide its result.
    notes : sequence of str
        What is to be said first.
    begin : callable
        Gets the run before its first epoch.
    log : callable
        Gets it after each.
    """
    takes = fit.takes  # refuses what does not fit before there is a run folder
    shown = architecture and architecture.to_json()
    decides = {**origin(options, data), **identity, "architecture": shown}
    with open_run(options, data, fit.workers) as run:
        for line in notes:
            run.log(line)
        if architecture is not None and not (run.folder / "architecture.json").exists():
            architecture.save(run.folder / "architecture.json")
        run.log(
            f"{cost.parameters:,} parameters, {cost.multiply_adds:,} multiply-adds; "
            f"training takes {takes}"
        )
        begin(run)
        yield run if train(options.run, run, fit, decides, log=log) else None


def train_to_end(
    options: Any,
    net: HybridBlock,
    build: Callable[[], HybridBlock],
    loaders: Tuple[Loader, Loader],
    setup: Setup,
    told: Told,
    *,
    loss: Callable[..., Any],
    notes: Sequence[str] = (),
) -> None:
    """Train in a run folder, test, save the parameters, export the network, write the result.

    Parameters
    ----------
    options : Groups
        With groups `data`, `training` and `run`.
    net : HybridBlock
        With its `architecture`; not initialised.
    build : callable
        The network of the architecture as it is deployed.
    loaders : (Loader, Loader)
        To train and to test on.
    told : Told
        Of the data.
    loss : callable
        Of `Fit`.
    notes : sequence of str
        What is to be said first.
    """
    train_data, test_data = loaders
    assert told.about is not None  # of images it is known
    architecture, log = net.architecture, DataLog([train_data], test_data, told)
    cost = count_network(architecture)
    mx.random.seed(options.data.seed)
    net.initialize(ctx=setup.contexts)
    fit = Fit(
        net,
        train_data=train_data,
        test_data=test_data,
        options=options.training,
        loss=loss,
        setup=setup,
    )
    with trained(
        options,
        fit,
        data=told.name,
        architecture=architecture,
        cost=cost,
        identity=log.identity,
        notes=notes,
        begin=log.begin,
        log=log.log,
    ) as run:
        if run is None:
            return
        test = fit.test()
        save_parameters(run.folder / "model.params", net)
        deployed = build()
        load_parameters(deployed, read_params(run.folder / "model.params"))
        exported = export(deployed, run.folder / "model", next(test_data.epoch(0)).data)
        top5 = {} if test.top5 is None else {"test_top5_error": 1 - test.top5}
        result = {
            "test_error": 1 - test.accuracy,
            "parameters": cost.parameters,
            "multiply_adds": cost.multiply_adds,
            "connections": cost.connections,
            **write_quality(run, net, test_data, setup.contexts[0], told.about.classes),
            **top5,
        }
        write_json(run.folder / "result.json", result)
        also = "".join(f", top-5 {error:.2%}" for error in top5.values())
        run.log(
            f"test error {1 - test.accuracy:.2%}{also}; saved {exported.symbol}, "
            f"{exported.parameters}"
        )
