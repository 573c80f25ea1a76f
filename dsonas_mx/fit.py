"""Fit: train a network from scratch and test it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Optional, Sequence

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import HybridBlock

from .data.loader import Loader
from .graph import Outputs, TrainGraph, shares
from .loss import cross_entropy
from .metric import Score, Tally
from .schedule import cosine

Progress = Callable[[Any, int, str], Any]  # iterable, length, what it is


@dataclass(frozen=True)
class FitOptions:
    """How a network is trained; the defaults are the paper's for CIFAR-10 (section 4.2).

    Parameters
    ----------
    num_epochs : int
        The default is the end of the sixth period of the cosine.
    learning_rate, final_learning_rate : float
        l_max and l_min of the cosine, which changes once an epoch.
    period, factor : int
        T_0, the epochs of the first period, and T_mul, what each is longer by than the last.
    momentum, weight_decay : float
        Of NAG; only weights of convolutions and classifiers decay.
    """

    num_epochs: int = 630
    learning_rate: float = 0.05
    final_learning_rate: float = 0.001
    period: int = 10
    factor: int = 2
    momentum: float = 0.9
    weight_decay: float = 3e-4

    def __post_init__(self) -> None:
        if self.num_epochs < 1:
            raise ValueError(f"num_epochs must be at least 1, got {self.num_epochs}")
        if not 0 <= self.final_learning_rate <= self.learning_rate < math.inf:
            raise ValueError(
                "learning_rate must be finite and not below final_learning_rate, got "
                f"{self.learning_rate} and {self.final_learning_rate}"
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")
        cosine(0, 1, 0, self.period, self.factor)  # checks them


@dataclass(frozen=True)
class FitEpoch:
    """What an epoch did: the number of the epoch from 0, and scores on both halves."""

    epoch: int
    learning_rate: float
    train: Score
    test: Score


class Fit:
    """Training of one network. `run` does it; `step_epoch` does an epoch of it.

    Parameters
    ----------
    net : HybridBlock
        Initialised on `contexts`.
    train_data, test_data : Loader
        Whole batches to train on; all samples, to test on.
    options : FitOptions
    contexts : list of mx.Context
    loss : callable
        See `dsonas_mx.loss`; of all outputs of the network.
    progress : callable, optional
        Wraps the steps of an epoch, to show a bar.
    """

    def __init__(
        self,
        net: HybridBlock,
        train_data: Loader,
        test_data: Loader,
        options: FitOptions,
        contexts: Optional[Sequence[mx.Context]] = None,
        loss: Callable[..., Any] = cross_entropy,
        progress: Optional[Progress] = None,
    ) -> None:
        self.net = net
        self.options = options
        self.epoch = 0
        self._data = (train_data, test_data)
        self._contexts = list(contexts or [mx.cpu()])
        self._progress: Progress = progress or (lambda steps, length, what: steps)
        self._graph = TrainGraph(
            net, loss, train_data.data_shape, (train_data.batch_size,), self._contexts
        )
        self._trainer = gluon.Trainer(
            net.collect_params(),
            mx.optimizer.create(
                "nag",
                learning_rate=options.learning_rate,
                momentum=options.momentum,
                wd=options.weight_decay,
            ),
            update_on_kvstore=False,
        )

    def run(self, record: Optional[Callable[[FitEpoch], None]] = None) -> Score:
        """Train to the end; `record` is called after every epoch. Returns the last test score.

        Raises
        ------
        ArithmeticError
            A loss that is not finite.
        """
        epoch = None
        while self.epoch < self.options.num_epochs:
            epoch = self.step_epoch()
            if record is not None:
                record(epoch)
        return epoch.test if epoch is not None else self.test()

    def step_epoch(self) -> FitEpoch:
        """Train for an epoch, then test."""
        options = self.options
        rate = cosine(
            self.epoch,
            options.learning_rate,
            options.final_learning_rate,
            options.period,
            options.factor,
        )
        self._trainer.set_learning_rate(rate)
        data = self._data[0]
        tally = Tally()
        batches = data.epoch(self.epoch)
        for batch in self._progress(batches, len(data), f"train {self.epoch + 1}"):
            tally.add(self._graph.step("all", batch.data, batch.labels))
            self._trainer.step(len(batch.labels))
        train = tally.score()
        if not math.isfinite(train.loss):
            raise ArithmeticError(
                f"the loss is {train.loss} in epoch {self.epoch}: use a learning rate below {rate}"
            )
        self.epoch += 1
        return FitEpoch(self.epoch - 1, rate, train, self.test())

    def test(self) -> Score:
        """Loss and accuracy on the test data, with the moving statistics of BN."""
        return evaluate(self.net, self._data[1], self._contexts)


def evaluate(net: HybridBlock, data: Loader, contexts: Sequence[mx.Context]) -> Score:
    """Cross-entropy and accuracy of a classifier on all samples of `data`."""
    net.hybridize()
    tally = Tally()
    for batch in data.epoch(0):
        devices = contexts[: len(batch.labels)]
        start = 0
        for context, size in zip(devices, shares(len(batch.labels), len(devices))):
            part = slice(start, start + size)
            start += size
            logits = net(mx.nd.array(batch.data[part], ctx=context))
            if isinstance(logits, (list, tuple)):
                logits = logits[0]
            label = mx.nd.array(batch.labels[part], ctx=context)
            tally.add([Outputs(cross_entropy(mx.nd, logits, label), logits, label)])
    return tally.score()
