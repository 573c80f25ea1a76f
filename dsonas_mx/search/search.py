"""Search: pre-train the supernet, then train weights and λ in turn until it has converged.

Algorithm 1 of the paper. What L1 drives to zero is removed for good every few epochs: the network
is rebuilt without it, and every parameter and optimizer state carried over.
"""

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Optional, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..data.loader import Loader
from ..engine.setup import Setup
from ..space.mobile_architecture import AnyArchitecture
from ..space.scales import Scales
from ..training.loop import Diverged, Loop
from ..training.loss import cross_entropy
from ..training.metric import Score
from ..training.state import State
from .apg_nag import APGNAG, gamma_from_state, gamma_state
from .budget import Budget
from .options import SearchOptions
from .shrink import inherit, inherit_states
from .target import FLOPsTarget, OneOperation


@dataclass(frozen=True)
class SearchEpoch:
    """What an epoch did.

    Attributes
    ----------
    epoch : int
        From 1, pre-training included.
    phase : {'pretrain', 'search'}
    weights, lambdas : Score
        On the samples of the weights and of λ, while they were trained on; none in pre-training.
    connections : int
        Kept at the end of the epoch.
    learning_rate : float
        Of weights and λ.
    scales : Scales
        λ of every connection and branch, 0 where removed.
    """

    epoch: int
    phase: str
    weights: Score
    lambdas: Optional[Score]
    connections: int
    learning_rate: float
    scales: Scales = field(repr=False)

    def row(self) -> Dict[str, Any]:
        """The row of ``metrics.csv``."""
        return {
            "epoch": self.epoch,
            "phase": self.phase,
            "weight_loss": self.weights.loss,
            "weight_accuracy": self.weights.accuracy,
            "lambda_loss": self.lambdas and self.lambdas.loss,
            "lambda_accuracy": self.lambdas and self.lambdas.accuracy,
            "connections": self.connections,
            "learning_rate": self.learning_rate,
        }

    def __str__(self) -> str:
        halves = {"weights": self.weights, "λ": self.lambdas}
        parts = "; ".join(
            f"{name}: loss {score.loss:.4f}, accuracy {score.accuracy:.2%}"
            for name, score in halves.items()
            if score
        )
        return f"{self.phase} epoch {self.epoch}: {parts}; connections: {self.connections}"


class Search(Loop):
    """One search. `run` does it; `step_epoch` does an epoch of it, or the rest of one.

    Parameters
    ----------
    build : callable
        `build(architecture)` → a weighted network with `packed` and `lambda_names`, as
        `symbols.get_model` makes them; not initialised.
    architecture : Architecture or MobileArchitecture
        Where to start: the complete one.
    weight_data : Loader
        D_w, of whole batches.
    lambda_data : Loader, optional
        D_λ, of whole batches; None without a split.
    options : SearchOptions
    loss : callable
        See `dsonas_mx.training.loss`.
    budget : budget, optional
        γ of each connection at the start of each epoch of search, see `dsonas_mx.search.budget`;
        the γ of the options by default.
    target : FLOPsTarget or OneOperation, optional
        Where the search has to end; it then does not end because nothing changes any more.
    setup : Setup
        Where the networks of `build` are initialised and run.
    """

    def __init__(
        self,
        build: Callable[[Any], HybridBlock],
        architecture: AnyArchitecture,
        *,
        weight_data: Loader,
        lambda_data: Optional[Loader] = None,
        options: SearchOptions,
        loss: Callable[..., Any] = cross_entropy,
        budget: Optional[Budget] = None,
        target: Optional[Union[FLOPsTarget, OneOperation]] = None,
        setup: Optional[Setup] = None,
    ) -> None:
        budget = budget or Budget(options.gamma)
        if budget.gamma != options.gamma:
            raise ValueError(f"gamma is {options.gamma}, but that of the budget {budget.gamma}")
        self._target: Any = target
        if target is not None:
            self._target.check(architecture)
        if (lambda_data is None) != (options.split is None):
            raise ValueError("lambda_data must be given if, and only if, there is a split")
        super().__init__(weight_data, loss, setup or Setup())
        self.options = options
        self.num_epochs = options.pretrain_epochs + options.num_epochs  # at most
        self.architecture: Any = architecture
        self._unchanged = 0
        self._complete: Any = architecture
        self._budget = budget
        self._build = build
        self.weight_data, self.lambda_data = weight_data, lambda_data
        if lambda_data is not None:
            check_turns(len(weight_data), len(lambda_data), options.split)
        self._start(architecture)

    def steps_of(self, epoch: int) -> int:
        """Those of pre-training see all samples of the weights."""
        pretrains = epoch < self.options.pretrain_epochs
        return len(self.weight_data) if pretrains else self.steps_per_epoch

    @property
    def finished(self) -> bool:
        """Whether the search has converged, or met its target, or its epochs are over."""
        if self._epochs_left <= 0:
            return True
        if self._target is not None:
            return self._target.is_met(self.architecture)
        return self._unchanged >= self.options.patience

    @property
    def emptied(self) -> bool:
        """Whether its last epoch removed every connection: what was found is of the one before."""
        return self.finished and not self._found(self.scales()).num_connections

    @property
    def _epochs_left(self) -> int:
        return self.num_epochs - self.epoch

    @property
    def steps_per_epoch(self) -> int:
        """Weight and λ steps of an epoch of search, which ends with the shorter part."""
        return len(self._turns)

    @property
    def _turns(self) -> Tuple[str, ...]:
        return turns(len(self.weight_data), len(self.lambda_data or ()), self.options.split)

    def outcome(self) -> AnyArchitecture:
        """What was found."""
        return self.architecture

    def step_epoch(self) -> SearchEpoch:
        """One epoch of pre-training or of search, and what follows from it.

        Raises
        ------
        ArithmeticError
            As `run`; `Diverged` if a smaller learning rate may help.
        """
        searching = self.epoch >= self.options.pretrain_epochs
        rate = self._set_rate(self.options.learning_rate)
        if not searching:
            order = ("weights",) * len(self.weight_data)
            scores = self._run_steps(order, {"weights": self.weight_data}, "pretrain")
        else:
            if not self.position:  # in the middle of an epoch they are in force
                self._set_gammas()
            data = {"all": self.weight_data}
            if self.lambda_data is not None:
                data = {"weights": self.weight_data, "lambdas": self.lambda_data}
            scores = self._run_steps(self._turns, data, "search")
        self._next_epoch()
        if searching:
            self._update_architecture()
        return SearchEpoch(
            self.epoch,
            "search" if searching else "pretrain",
            scores["weights" if "weights" in scores else "all"],
            scores.get("lambdas"),
            self.architecture.num_connections,
            rate,
            self.scales(),
        )

    # λ and γ

    def scales(self) -> Scales:
        """λ of every connection and every branch of a reduction; 0 where removed."""
        parameters = self.net.collect_params()
        arrays = {
            name: parameters[name].data(self._contexts[0]).asnumpy()
            for name in self.net.lambda_names
        }
        return Scales.of_parameters(self.net.architecture, arrays)

    def gammas(self) -> Scales:
        """γ in force of every connection and every branch of a reduction; 0 where removed.

        That of the budget from the start of an epoch of search until a smaller network is built.
        """
        in_force = self.trainers["lambdas"].optimizer.gamma
        return Scales.of_parameters(self.net.architecture, in_force)

    def _set_gammas(self) -> None:
        """Put γ of the epoch that begins in force: that of the budget, and plain for reductions."""
        space = self._complete.space
        gammas = self._budget.gammas(self.architecture)
        if self._target is not None:
            progress = 1 - self._epochs_left / self.options.num_epochs
            gammas = gammas * self._target.adapt(self.scales(), progress)
        gammas = self.workers.broadcast(gammas.ravel())  # latency differs between machines
        plain = np.full(2 * space.num_reductions, self.options.gamma)
        scales = Scales(space, np.concatenate([gammas, plain]))
        self.trainers["lambdas"].optimizer.gamma = {
            name: float(values[0]) if (values == values[0]).all() else values
            for name, values in scales.to_parameters(self.net.architecture).items()
        }

    # Removal

    def _update_architecture(self) -> None:
        """Note which connections are left; every few epochs, remove the others for good."""
        scales = self.scales()
        if not np.isfinite(scales.vector).all():
            raise Diverged(f"λ is not finite after epoch {self.epoch}: {self._advice()}")
        found = self._found(scales)
        if self._target is not None:
            found = self._target.settle(
                self.net.architecture, found, scales, self._epochs_left == 0
            )
        searched = self.epoch - self.options.pretrain_epochs
        if not found.num_connections:
            if searched == 1 or self._target is not None:  # nothing was found before
                raise ArithmeticError(
                    f"epoch {self.epoch} removed every connection: use a gamma below "
                    f"{self.options.gamma}"
                )
            self._unchanged = self.options.patience  # nothing more can be found
            return
        self._unchanged = self._unchanged + 1 if _same(found, self.architecture) else 0
        self.architecture = found
        if searched % self.options.shrink_every == 0 and not self.finished:
            self._shrink()

    def _found(self, scales: Scales) -> Any:
        """The architecture of these λ."""
        origin = self._complete.origin
        if self.rate_scale != 1:
            origin = {**origin, "rate_scale": self.rate_scale}
        return type(self._complete).from_scales(scales, origin)

    def _shrink(self) -> None:
        """Remove for good what is dead: rebuild the network without it, if anything is."""
        if _same(self.architecture, self.net.architecture):
            return
        parent, trainers = self.net, self.trainers
        del self.graph  # frees its memory before the next one takes its own
        self._start(self.architecture)
        inherit(parent, self.net)
        for kind, trainer in trainers.items():
            inherit_states(parent, trainer, self.net, self.trainers[kind])

    def _start(self, architecture: AnyArchitecture) -> None:
        """A fresh network, and what trains it."""
        self.net = self._build(architecture)
        self.net.initialize(ctx=self._contexts)
        options = self.options
        shared: Dict[str, Any] = {
            "learning_rate": options.learning_rate,
            "momentum": options.momentum,
            "clip_gradient": options.clip_gradient or None,
        }
        weights = mx.optimizer.create("nag", wd=options.weight_decay, **shared)
        lambdas = APGNAG(
            gamma=dict.fromkeys(self.net.lambda_names, options.gamma),
            momentum_schedule=options.momentum_schedule,
            never_empty=self.net.never_empty,
            **shared,
        )
        self._bind({"weights": weights, "lambdas": lambdas})

    # State

    def state(self) -> State:
        """As `Loop`, with the architecture found so far, the one of the network, and γ in force."""
        values, arrays = super().state()
        values["architecture"] = self.architecture.to_json()
        values["network"] = self.net.architecture.to_json()
        values["unchanged"] = self._unchanged
        values["gamma"], gammas = gamma_state(self.trainers["lambdas"].optimizer.gamma)
        if self._target is not None:
            values["target"], steering = self._target.state()
            arrays.update(steering)
        return State(values, {**arrays, **gammas})

    def restore(self, state: State) -> None:
        """As `Loop`; the network becomes the one of the state."""
        values, arrays = state.values, dict(state.arrays)
        network = type(self._complete).from_json(values["network"])
        if network.space != self._complete.space:
            raise ValueError("it is of another search space")
        if network != self.net.architecture:
            del self.graph
            self._start(network)
        gamma = gamma_from_state(values["gamma"], arrays)
        if self._target is not None:
            self._target.restore(values["target"], arrays)
        super().restore(State(values, arrays))
        self.trainers["lambdas"].optimizer.gamma = gamma
        self.architecture = type(self._complete).from_json(values["architecture"])
        self._unchanged = int(values["unchanged"])


def _same(first: AnyArchitecture, second: AnyArchitecture) -> bool:
    """Whether both keep the same, whatever their origin."""
    return (first.kept, first.reductions) == (second.kept, second.reductions)


def turns(
    weight_batches: int, lambda_batches: int, split: Optional[Tuple[int, int]]
) -> Tuple[str, ...]:
    """Whose turn each step of an epoch is: x times the weights', y times λ's, again and again.

    The epoch ends when one part has not enough batches left. Without a split every step is for
    both, ``'all'``.
    """
    if split is None:
        return ("all",) * weight_batches
    x, y = split
    return (("weights",) * x + ("lambdas",) * y) * min(weight_batches // x, lambda_batches // y)


def check_turns(weight_batches: int, lambda_batches: int, split: Optional[Tuple[int, int]]) -> None:
    """Refuse a split that leaves an epoch without a step."""
    if split and not turns(weight_batches, lambda_batches, split):
        raise ValueError(
            "split {}:{} needs as many batches an epoch".format(*split)
            + f", got {weight_batches}:{lambda_batches}: use a smaller batch size"
        )
