"""What a training from scratch leaves behind, whatever it trained on."""

from __future__ import annotations

import argparse
from typing import Any, Callable

import mxnet as mx
from mxnet.gluon import HybridBlock

from ..cost.mobile import count_network
from ..deploy.export import export, load_parameters
from ..io.files import write_json
from ..runs.folder import Run, save_parameters
from ..training.fit import Fit, FitEpoch
from .run import open_run, train


def train_to_end(
    options: argparse.Namespace,
    fit: Fit,
    architecture: Any,
    build: Callable[[], HybridBlock],
    after_epoch: Callable[[Run], None] = lambda run: None,
) -> None:
    """Train in a run folder, test, save the parameters, export the network, write the result.

    Parameters
    ----------
    architecture : Architecture or MobileArchitecture
        Of the network that `fit` trains.
    build : callable
        The network of the architecture as it is deployed.
    after_epoch : callable
        Gets the run after each epoch.
    """
    cost = count_network(architecture)

    def record(epoch: FitEpoch) -> None:
        run.append("metrics.csv", epoch.row())
        run.log(str(epoch), **epoch.row())
        after_epoch(run)

    megabytes = fit.plan.megabytes  # refuses what does not fit before there is a run folder
    with open_run(options, fit.workers) as run:
        if not (run.folder / "architecture.json").exists():
            architecture.save(run.folder / "architecture.json")
        run.log(
            f"{cost.parameters:,} parameters, {cost.multiply_adds:,} multiply-adds; training takes "
            f"{megabytes:,.0f} MB on each device"
        )
        if not train(options, run, fit, record, architecture=architecture.to_json()):
            return
        test = fit.test()
        save_parameters(run.folder / "model.params", fit.net)
        deployed = build()
        load_parameters(deployed, mx.nd.load(str(run.folder / "model.params")))
        exported = export(deployed, run.folder / "model", next(fit.test_data.epoch(0)).data)
        result = {
            "test_error": 1 - test.accuracy,
            "parameters": cost.parameters,
            "multiply_adds": cost.multiply_adds,
            "connections": cost.connections,
        }
        if test.top5 is not None:
            result["test_top5_error"] = 1 - test.top5
        write_json(run.folder / "result.json", result)
        top5 = "" if test.top5 is None else f", top-5 {1 - test.top5:.2%}"
        run.log(
            f"test error {1 - test.accuracy:.2%}{top5}; saved {exported.symbol}, "
            f"{exported.parameters}"
        )
