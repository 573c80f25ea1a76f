"""Loop: epochs of steps that can end after any step, and go on later from the same bits."""

import math
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, Parameter

from ..data.loader import Batch, Loader
from ..engine.device import threads
from ..engine.flat import FlatTrainer, is_lambda
from ..engine.graph import TrainGraph, shares
from ..engine.recompute import Plan
from ..engine.setup import Setup
from .metric import Score, Tally
from .state import State, not_finite, take

GLANCE_EVERY = 50  # steps


class Diverged(ArithmeticError):
    """A loss or a parameter that is not finite: a smaller learning rate may help."""


class Loop:
    """What every training of a network has in common: its steps, and its state.

    A class derived from it sets `net` and `num_epochs`, calls `_bind`, and defines `steps_of`,
    `outcome` and `step_epoch`, which calls `_set_rate`, `_run_steps` and, at its end,
    `_next_epoch`. Then it can be stopped after any step: `state` is all that it has to know to go
    on.

    Parameters
    ----------
    sample : Loader
        One of those that it learns from: the shape of the batches, and the seed.
    loss : callable
        See `dsonas_mx.training.loss`.
    setup : Setup
        Devices, recomputation, type of the maps, workers, and a bar.

    Attributes
    ----------
    epoch, position : int
        How many epochs, and steps of the present one, are done.
    rate_scale : float
        Factor of the learning rate, below one after a loss that was not finite.
    after_step : callable
        Called when a step is done, and between the batches of a test: `state` may be asked for.
    data_failed : callable
        Called when a batch could not be had, before the error goes on its way; the same holds.
    graph : TrainGraph
        Of the present network.
    trainers : dict of kind to FlatTrainer
        What updates its parameters: weights, lambdas, or all.
    """

    net: HybridBlock
    num_epochs: int
    graph: TrainGraph
    trainers: Dict[str, FlatTrainer]

    def __init__(self, sample: Loader, loss: Callable[..., Any], setup: Setup) -> None:
        self.setup = setup
        self.workers = setup.workers
        self.epoch = 0
        self.position = 0
        self.rate_scale = 1.0
        self.after_step: Callable[[], None] = lambda: None
        self.data_failed: Callable[[], None] = lambda: None
        self._sample = sample
        self._contexts = list(setup.contexts)
        self._loss = loss
        self._tallies: Dict[str, Tally] = {}
        self._seen: List[mx.nd.NDArray] = []

    def steps_of(self, epoch: int) -> int:
        """The steps of an epoch, counted from 0."""
        raise NotImplementedError

    @property
    def finished(self) -> bool:
        """Whether there is no epoch left."""
        return self.epoch >= self.num_epochs

    def step_epoch(self) -> Any:
        """The rest of an epoch, and what it did: an object with `row()`, for a table."""
        raise NotImplementedError

    def outcome(self) -> Any:
        """What it was all for."""
        raise NotImplementedError

    @property
    def plan(self) -> Plan:
        """What is computed again in backward."""
        return self.graph.plan

    @property
    def takes(self) -> str:
        """What the training takes on each device, part by part, and why."""
        return self.graph.takes

    def surroundings(self) -> Dict[str, Any]:
        """What may be another when it goes on from a state, but not without changing bits."""
        return {
            "number of devices": self._devices,
            "number of threads": threads(),
            "C++ operators": self.graph.is_native,
        }

    @property
    def _devices(self) -> int:
        """Those of all workers."""
        return self.workers.size * len(self._contexts)

    def run(self, record: Callable[[Any], None] = lambda epoch: None) -> Any:
        """Take it to its end; `record` is called after every epoch. Returns its `outcome`.

        Raises
        ------
        ArithmeticError
            A loss that is not finite; of a search, a first epoch that leaves no connection.
        """
        while not self.finished:
            record(self.step_epoch())
        return self.outcome()

    # Steps

    def _bind(self, optimizers: Mapping[str, mx.optimizer.Optimizer]) -> None:
        """A graph of `net`, and a Trainer for each kind of parameters: weights, lambdas, or all."""
        sample = self._sample
        self._part, sizes = self.workers.sizes(sample.batch_size, len(self._contexts))
        if not all(sizes):
            shares(sample.batch_size, self._devices)  # says that there are too few
        self.graph = TrainGraph(
            self.net,
            self._loss,
            (sum(sizes), *sample.data_shape[1:]),
            (sum(sizes), *sample.label_shape[1:]),
            self._contexts,
            self.setup.recompute,
            self.setup.dtype,
        )
        self.trainers = {
            kind: FlatTrainer([p for p in self.graph.learned if kind in ("all", _kind(p))], one)
            for kind, one in optimizers.items()
        }

    def _set_rate(self, rate: float) -> float:
        """Give the Trainers a learning rate, which they get scaled; returns what they got."""
        for trainer in self.trainers.values():
            trainer.set_learning_rate(rate * self.rate_scale)
        return rate * self.rate_scale

    def _run_steps(
        self, order: Sequence[str], data: Mapping[str, Loader], what: str
    ) -> Dict[str, Score]:
        """The steps of an epoch that are left, and the scores of all of them by kind.

        Parameters
        ----------
        order : sequence of {'weights', 'lambdas', 'all'}
            The gradients of each step of the epoch.
        data : mapping of these to Loader
        what : str
            For the bar.
        """
        done = list(order[: self.position])
        if not done:
            self._tallies = {kind: Tally(self.workers, len(self._contexts)) for kind in data}
        for loader in data.values():
            loader.part = self._part if self.workers.size > 1 else None
        batches = {k: loader.epoch(self.epoch, done.count(k)) for k, loader in data.items()}
        left = order[self.position :]
        later = sum(map(self.steps_of, range(self.epoch + 1, self.num_epochs)))
        what = f"{what} {self.epoch + 1} of {self.num_epochs}"
        try:
            for kind in self.setup.progress(left, len(left), what, later):
                self._step(kind, self._fetch(batches[kind]))
                self._glance(order)
                self.after_step()
        finally:
            for iterator in batches.values():
                iterator.close()  # ends the thread that reads ahead
        self.graph.wait()
        scores = {kind: tally.score() for kind, tally in self._tallies.items()}
        for score in scores.values():
            if not math.isfinite(score.loss):
                raise self._diverged(order, score.loss)
        return scores

    def _fetch(self, batches: Iterator[Batch]) -> Batch:
        try:
            return next(batches)
        except Exception:
            self.data_failed()
            raise

    def _step(self, kind: str, batch: Batch) -> None:
        seeds = self._seeds() if self.graph.is_random else None
        outputs = self.graph.step(kind, batch.data[self._part], batch.labels[self._part], seeds)
        self._tallies[kind].add(outputs, len(batch.labels))
        for name, trainer in self.trainers.items():
            if kind not in (name, "all"):
                continue
            if self.workers.size > 1:
                trainer.allreduce_grads()
                self.workers.add_up([parameter.list_grad() for parameter in trainer.parameters])
                trainer.update(len(batch.labels))
            else:
                trainer.step(len(batch.labels))
        self.position += 1

    def _seeds(self) -> List[int]:
        """Of each device in this step: MXNet's generators cannot be read, so no state has them."""
        count = len(self._contexts)
        seeds = []
        for device in range(self.workers.rank * count, (self.workers.rank + 1) * count):
            place = [self._sample.seed, self.epoch, self.position] + [device] * (device > 0)
            seeds.append(int(np.random.SeedSequence(place).generate_state(1)[0] >> 1))
        return seeds

    def _next_epoch(self) -> None:
        self.epoch += 1
        self.position = 0
        self._tallies, self._seen = {}, []

    # A loss that is not finite

    def _glance(self, order: Sequence[str]) -> None:
        """Look at the losses of a while ago, which nobody has to wait for any more."""
        if self.position % GLANCE_EVERY:
            return
        before = self._seen
        self._seen = [array for tally in self._tallies.values() for array in tally.losses()]
        if not before:
            return
        for loss in self.workers.gather(np.concatenate([a.asnumpy() for a in before])).ravel():
            if not math.isfinite(loss):
                raise self._diverged(order, float(loss))

    def _diverged(self, order: Sequence[str], loss: float) -> Diverged:
        """What to say of a loss that is not finite: the step that it was first seen in."""
        self.graph.wait()
        finite = {kind: tally.finite_batches() for kind, tally in self._tallies.items()}
        step = 0
        for kind in order[: self.position]:
            step += 1
            finite[kind] -= 1
            if finite[kind] < 0:
                break
        return Diverged(
            f"the loss is {loss} in epoch {self.epoch + 1}, from step {step} of {len(order)} on: "
            f"{self._advice()}"
        )

    def _advice(self) -> str:
        """The learning rate, and which parameters are not finite by now."""
        rate = next(iter(self.trainers.values())).learning_rate
        parameters = self.net.collect_params().items()
        bad = not_finite({name: p.list_data()[0].asnumpy() for name, p in parameters})
        names = ", ".join(bad[:3]) + (f" and {len(bad) - 3} others" if len(bad) > 3 else "")
        return f"use a learning rate below {rate}; parameters not finite by now: {names or 'none'}"

    # State

    def state(self) -> State:
        """All that the loop has to know to go on, read when the devices have done their work.

        Learned parameters and optimizer states are those of the first device, which all devices
        have; statistics are those of each.

        Raises
        ------
        Diverged
            A parameter or optimizer state is not finite.
        ArithmeticError
            The workers have not the same parameters and states.
        """
        self.graph.wait()
        arrays: Dict[str, np.ndarray] = {}
        statistics: List[np.ndarray] = []
        for name, parameter in self.net.collect_params().items():
            copies = [array.asnumpy() for array in parameter.list_data()]
            if parameter.grad_req != "null":
                arrays[f"net.0/{name}"] = copies[0]
            else:
                statistics.extend(copies)
        updates: Dict[str, Dict[str, int]] = {}
        for kind, trainer in self.trainers.items():
            updates[kind] = trainer.updates(0)
            for name, state in trainer.states(0).items():
                for number, array in enumerate(state):
                    arrays[f"{kind}.{number}/{name}"] = array.asnumpy()
        self.workers.check_same(arrays)
        arrays.update(self._statistics(statistics))
        for kind, tally in self._tallies.items():
            arrays[f"tally/{kind}"] = tally.sums()
        bad = not_finite(arrays)
        if bad:
            raise Diverged(f"{bad[0]} is not finite in epoch {self.epoch + 1}: {self._advice()}")
        values = {
            "epoch": self.epoch,
            "position": self.position,
            "rate_scale": self.rate_scale,
            "devices": self._devices,
            "updates": updates,
            "samples": {kind: tally.samples for kind, tally in self._tallies.items()},
        }
        return State(values, arrays)

    def _statistics(self, copies: Sequence[np.ndarray]) -> Dict[str, np.ndarray]:
        """Statistics, parameter by parameter those of each device, by name: of all workers."""
        flat = np.concatenate([array.ravel() for array in copies] or [np.zeros(0, np.float32)])
        arrays = {}
        for rank, row in enumerate(self.workers.gather(flat)):
            start, count = 0, len(self._contexts)
            for name, parameter in self.net.collect_params().items():
                for device in range(count if parameter.grad_req == "null" else 0):
                    size = math.prod(parameter.shape)
                    values = row[start : start + size].reshape(parameter.shape)
                    arrays[f"net.{rank * count + device}/{name}"] = values
                    start += size
        return arrays

    def restore(self, state: State) -> None:
        """Go on from a state; with another number of devices not bit for bit.

        Raises
        ------
        ValueError, KeyError, TypeError
            It is not one of such a loop.
        """
        values, arrays = state.values, dict(state.arrays)
        self.epoch, self.position = int(values["epoch"]), int(values["position"])
        self.rate_scale = float(values["rate_scale"])
        if min(self.epoch, self.position) < 0 or not 0 < self.rate_scale <= 1:
            raise ValueError("epoch, position or rate_scale is out of range")
        devices = int(values["devices"])
        for name, parameter in self.net.collect_params().items():
            copies = devices if parameter.grad_req == "null" else 1
            saved = [take(arrays, f"net.{d}/{name}", parameter.shape) for d in range(copies)]
            first = self.workers.rank * len(self._contexts)
            for device, array in enumerate(parameter.list_data(), first):
                array[:] = saved[device if device < copies else 0]
        for kind, trainer in self.trainers.items():
            trainer.start_from({n: int(count) for n, count in values["updates"][kind].items()})
            every = [trainer.states(device) for device in range(len(self._contexts))]
            for name, held in every[0].items():
                for number, array in enumerate(held):
                    before = take(arrays, f"{kind}.{number}/{name}", array.shape)
                    for states in every:
                        states[name][number][:] = before
        self._tallies, self._seen = {}, []
        for kind, samples in values["samples"].items():
            name = f"tally/{kind}"
            old = name in arrays and arrays[name].shape[1:] == (3,)  # see Tally.of
            sums = take(arrays, name, (devices if samples else 0, 3 if old else 4))
            self._tallies[kind] = Tally.of(int(samples), sums, self._contexts, self.workers)
        if arrays:
            raise ValueError(f"it has {min(arrays)}, which this network has not")


def _kind(parameter: Parameter) -> str:
    return "lambdas" if is_lambda(parameter) else "weights"
