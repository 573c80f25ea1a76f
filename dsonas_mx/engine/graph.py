"""TrainGraph: a HybridBlock and its loss as bound executors on the Gluon parameters.

Only MXNet's symbolic executor can recompute activations in backward (Chen et al. 2016) and skip
the gradients that a step does not want, so a network is traced to a symbol and bound on the very
arrays of its parameters. Initialisation, Trainer, saving and loading stay Gluon's.
"""

from __future__ import annotations

import json
import math
from collections import deque
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from typing import (
    Any,
    Deque,
    Dict,
    FrozenSet,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import mxnet as mx
import numpy as np
from mxnet.contrib import amp
from mxnet.gluon import HybridBlock, Parameter

from . import native
from . import recompute as mirroring
from .chain import Bound, bind
from .derived import Derived
from .flat import is_lambda
from .joining import dividable
from .marking import mark

DTYPES = ("float32", "float16")
GRADIENTS = ("all", "weights", "lambdas")
MOST_ELEMENTS = 2**31 - 1  # of an array of MXNet as it is built
RANDOM_OPERATORS = ("Dropout", "_random_", "_sample_", "_shuffle")

PROGRESS = "progress"  # the parameter of a network that wants to know how far its training is


class NativeTracing:
    """What a network has to know, and to say, when it uses the project's own operators.

    Attributes
    ----------
    gradients : {'all', 'weights', 'lambdas'}
        Which gradients of parameters they shall compute.
    """

    def __init__(self, gradients: str) -> None:
        self.gradients = gradients
        self.side_effects: List[mx.sym.Symbol] = []

    def also(self, symbol: mx.sym.Symbol) -> None:
        """Have a symbol computed in forward that no output depends on, for what it changes."""
        self.side_effects.append(symbol)


_tracing: Optional[NativeTracing] = None
_derived: Optional[Derived] = None
_training = False


@contextmanager
def _tracing_as(tracing: Optional[NativeTracing], derived: Optional[Derived]) -> Iterator[None]:
    global _tracing, _derived, _training
    before = _tracing, _derived, _training
    _tracing, _derived, _training = tracing, derived, True
    try:
        yield
    finally:
        _tracing, _derived, _training = before


def native_tracing(F: Any) -> Optional[NativeTracing]:
    """For networks: how to use the project's own operators here.

    None where they cannot be used: outside of a `TrainGraph`, on a GPU, and without the library.
    """
    return _tracing if F is mx.sym else None


def in_training(F: Any) -> bool:
    """For networks: whether this is the graph of a training, a `TrainGraph`."""
    return _training and F is mx.sym


def derived_inputs(F: Any) -> Optional[Derived]:
    """For networks: arrays to take in place of parameters, in a graph for GPUs; None elsewhere."""
    return _derived if F is mx.sym else None


class Outputs(NamedTuple):
    """What one device computed in a step: arrays that may still be on their way.

    Attributes
    ----------
    loss : NDArray, B
        Of each sample.
    logits : NDArray, B×…
    label : NDArray
        As it was given, on this device.
    """

    loss: mx.nd.NDArray
    logits: mx.nd.NDArray
    label: mx.nd.NDArray


class TrainGraph:
    """Forward and backward of a network and its loss, on one or several devices.

    Parameters
    ----------
    net : HybridBlock
        Initialised on `contexts`; all shapes known.
    loss : callable
        `loss(F, outputs, label)` → the loss of each sample, B; `outputs` as `net` gives them.
    data_shape, label_shape : tuple of int
        Of a whole batch; B is divided over the devices as evenly as it goes.
    contexts : list of mx.Context
    mirror : {'auto', 'deep', 'off'} or float
        Which activations to compute again in backward: as few as keep the memory near the smallest
        possible, or make it the smallest, none, or as few as keep it within so many MB a device.
        See `dsonas_mx.engine.recompute`.
    dtype : {'float32', 'float16'}
        Of the maps, and of the weights as convolutions use them: the parameters, BN and the loss
        stay float32. A loss is summed over its batch, which keeps gradients in float16's range.

    Raises
    ------
    ValueError
        The batch has fewer samples than there are devices, or no plan fits into the MB given.
    """

    def __init__(
        self,
        net: HybridBlock,
        loss: Any,
        data_shape: Sequence[int],
        label_shape: Sequence[int],
        contexts: Sequence[mx.Context],
        mirror: mirroring.Mirror = "off",
        dtype: str = "float32",
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be {' or '.join(DTYPES)}, got {dtype!r}")
        self._dtype = dtype
        self._net = net
        self._loss = loss
        self._contexts = list(contexts)
        self._on_cpu = all(context.device_type == "cpu" for context in self._contexts)
        self._sizes = shares(data_shape[0], len(self._contexts))
        self._shapes = (tuple(data_shape[1:]), tuple(label_shape[1:]))
        self._parameters: Dict[str, Parameter] = dict(net.collect_params().items())
        self._derived = Derived(self._parameters)
        self._mirror = mirror
        self._plan: Optional[mirroring.Plan] = None
        self._random: Optional[bool] = None
        self._bound: Dict[str, List[Bound]] = {}
        self._staged: Deque[Dict[Tuple[str, int], mx.nd.NDArray]] = deque([{}, {}])

    def symbol(self, gradients: str = "all") -> mx.sym.Symbol:
        """The loss (whose gradient is one) and the logits, of the inputs `data` and `label`.

        Behind them come outputs that have to be computed, but tell nothing.
        """
        tracing = NativeTracing(gradients) if self.is_native else None
        derived = self._derived if self.is_for_gpus else None
        # Nodes are numbered from 0 in every trace, or those of a plan would not be found again.
        with mx.name.NameManager(), _tracing_as(tracing, derived):
            outputs = self._net(mx.sym.Variable("data"))
            if self._dtype == "float16":
                outputs = _in_float16(outputs)
            loss = mx.sym.MakeLoss(self._loss(mx.sym, outputs, mx.sym.Variable("label")))
            logits = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
            others = tracing.side_effects if tracing else []
            symbol = mx.sym.Group([loss, *map(mx.sym.BlockGrad, [logits, *others])])
        if not self._on_cpu:
            return symbol
        data, label = self._shapes
        size = self._sizes[0]
        return dividable(symbol, {"data": (size, *data), "label": (size, *label)})

    @property
    def is_native(self) -> bool:
        """Whether the project's own operators are used."""
        return self._on_cpu and self._dtype == "float32" and native.load()

    @property
    def is_for_gpus(self) -> bool:
        """Whether its form is the one that makes the fewest calls."""
        return not self._on_cpu

    @cached_property
    def learned(self) -> List[Parameter]:
        """What to update: the parameters, in a graph for GPUs as slices of a few arrays."""
        if self.is_for_gpus:
            self.symbol()  # asks for what is derived
            return self._derived.make()
        return [p for p in self._parameters.values() if p.grad_req != "null"]

    @property
    def is_random(self) -> bool:
        """Whether a step draws numbers from MXNet's generators, as dropout does."""
        if self._random is None:
            nodes = json.loads(self.symbol().tojson())["nodes"]
            self._random = any(node["op"].startswith(RANDOM_OPERATORS) for node in nodes)
        return self._random

    def step(
        self,
        gradients: str,
        data: np.ndarray,
        label: np.ndarray,
        seeds: Optional[Sequence[int]] = None,
    ) -> List[Outputs]:
        """Compute the gradients of a batch into the parameters, summed over its samples.

        Nothing here waits for the device. What is not asked for keeps its old gradient. On the CPU
        MXNet's BatchNorm moves its statistics in backward: a step of λ leaves those of what lies
        before the first λ as they are, and whoever reads statistics has to `wait` first.

        Parameters
        ----------
        gradients : {'all', 'weights', 'lambdas'}
        data, label : arrays of the whole batch
        seeds : sequence of int, optional
            Of MXNet's generators, for what each device draws.

        Returns
        -------
        list of Outputs, one a device
        """
        executors = self._executors(gradients)
        results = []
        self._derived.fill()
        self._load(executors, {"data": data, "label": label})
        for device, executor in enumerate(executors):
            if seeds is not None:  # in the queue before what draws: devices of the CPU share one
                mx.random.seed(seeds[device], ctx=self._contexts[device])
            executor.forward(is_train=True)
        for executor in executors:
            executor.backward()
            loss, logits = executor.outputs[:2]
            results.append(Outputs(loss, logits, executor.arg_dict["label"]))
        self._derived.give_back(gradients)
        for parameter in self._wanted(gradients):
            for array in parameter.list_data():
                array._fresh_grad = True  # or Trainer takes the gradient for a stale one
        return results

    def set_progress(self, share: float) -> None:
        """Tell a network that wants to know it which share of its training is done, 0 to 1."""
        if PROGRESS in self._parameters:
            self._parameters[PROGRESS].set_data(mx.nd.array([share]))

    def wait(self) -> None:
        """Until all steps are done, statistics of BN included, which the engine does not track."""
        mx.nd.waitall()

    @property
    def plan(self) -> mirroring.Plan:
        """What is computed twice, and MB on each device, known before anything is allocated.

        The larger report of the executors of a step, both with the same plan.
        """
        if self._plan is None:
            kinds = ("weights", "lambdas") if self._wanted("lambdas") else ("all",)
            symbols = {kind: self.symbol(kind) for kind in kinds}

            def measure(recomputed: FrozenSet[str], limit: float) -> float:
                most = 0.0
                for kind, symbol in symbols.items():
                    if most <= limit:  # or it is too much already
                        executor = self._try(symbol, kind, recomputed)
                        most = max(most, mirroring.megabytes(executor))
                return most

            def measure_chain(
                cuts: Sequence[str], recomputed: FrozenSet[str]
            ) -> Tuple[List[float], float]:
                chains = [self._try(s, kind, recomputed, cuts) for kind, s in symbols.items()]
                reports = [
                    max(map(mirroring.megabytes, chain(*segment)))
                    for segment in zip(*(one.executors for one in chains))
                ]
                return reports, chains[0].bytes_between / 2**20

            data = {"data": (self._sizes[0],) + self._shapes[0]}
            data["label"] = (self._sizes[0],) + self._shapes[1]
            self._plan = mirroring.find_plan(
                symbols[kinds[0]],
                data,
                measure,
                self._mirror,
                None if self.is_native else measure_chain,
            )
        return self._plan

    def _marked(
        self, symbol: mx.sym.Symbol, gradients: str, recomputed: FrozenSet[str]
    ) -> mx.sym.Symbol:
        wanted = {parameter.name for parameter in self._wanted(gradients)}
        return mark(symbol, recomputed, not self._on_cpu, wanted)

    def _try(
        self,
        symbol: mx.sym.Symbol,
        gradients: str,
        recomputed: FrozenSet[str],
        cuts: Sequence[str] = (),
    ) -> Any:
        """Bind on empty arrays of the CPU, which take no memory before they are written."""
        symbol = self._marked(symbol, gradients, recomputed)
        shapes = dict(zip(("data", "label"), ((self._sizes[0],) + s for s in self._shapes)))
        arguments, _, states = symbol.infer_shape(**shapes)
        for name, shape in zip(symbol.list_arguments(), arguments):
            if math.prod(shape) > MOST_ELEMENTS:
                raise ValueError(
                    f"{name} has {math.prod(shape):,} elements, an array of MXNet {MOST_ELEMENTS:,}"
                    " at most: use a smaller width or batch"
                )
        wanted = {parameter.name for parameter in self._wanted(gradients)}
        arrays = dict(zip(symbol.list_arguments(), map(mx.nd.empty, arguments)))
        return bind(
            symbol,
            cuts,
            mx.cpu(),
            arrays,
            {name: array for name, array in arrays.items() if name in wanted},
            dict(zip(symbol.list_auxiliary_states(), map(mx.nd.empty, states))),
        )

    def _load(self, executors: Sequence[Bound], inputs: Dict[str, np.ndarray]) -> None:
        """Send each device its part, by way of two sets of arrays used in turn.

        Writing to the one of the step before last waits for that step alone, so the device always
        has the next step to do, and the host never runs further ahead.
        """
        self._staged.rotate()
        for name, batch in inputs.items():
            start = 0
            for device, (executor, size) in enumerate(zip(executors, self._sizes)):
                target = executor.arg_dict[name]
                staged = self._staged[0].get((name, device))
                if staged is None:
                    on_gpu = target.context.device_type == "gpu"
                    staged = mx.nd.empty(target.shape, mx.cpu_pinned() if on_gpu else mx.cpu())
                    self._staged[0][name, device] = staged
                staged[:] = batch[start : start + size]
                staged.copyto(target)
                start += size

    def _wanted(self, gradients: str) -> List[Parameter]:
        return [
            parameter
            for parameter in (*self._parameters.values(), *self._derived.inputs.values())
            if parameter.grad_req != "null"
            and (gradients == "all" or is_lambda(parameter) == (gradients == "lambdas"))
        ]

    def _executors(self, gradients: str) -> List[Bound]:
        if gradients not in GRADIENTS:
            raise ValueError(f"gradients must be {' or '.join(GRADIENTS)}, got {gradients!r}")
        if gradients not in self._bound:
            if not self._wanted(gradients):
                raise ValueError(f"the network learns none of {gradients}: there is no gradient")
            plan = mirroring.NOTHING if self._mirror == "off" else self.plan
            symbol = self._marked(self.symbol(gradients), gradients, plan.recomputed)
            devices = range(len(self._contexts))
            self._bound[gradients] = [self._bind(symbol, gradients, d, plan) for d in devices]
        return self._bound[gradients]

    def _bind(
        self, symbol: mx.sym.Symbol, gradients: str, device: int, plan: mirroring.Plan
    ) -> Bound:
        context, size = self._contexts[device], self._sizes[device]
        inputs = {**self._parameters, **self._derived.inputs} if self.learned else {}
        others = [executors[device] for executors in self._bound.values()]
        arguments: Dict[str, mx.nd.NDArray] = {}
        for name, shape in zip(("data", "label"), self._shapes):
            if others:
                arguments[name] = others[0].arg_dict[name]
            else:
                arguments[name] = mx.nd.zeros((size,) + shape, ctx=context)
        wanted = {parameter.name for parameter in self._wanted(gradients)}
        states: Dict[str, mx.nd.NDArray] = {}
        slots: Dict[str, mx.nd.NDArray] = {}
        for name in symbol.list_arguments():
            if name not in arguments:
                arguments[name] = inputs[name].data(context)
                if name in wanted:
                    slots[name] = inputs[name].grad(context)
        for name in symbol.list_auxiliary_states():
            states[name] = inputs[name].data(context)
        shared = others[0] if others else None
        return bind(symbol, plan.cuts, context, arguments, slots, states, plan.largest, shared)


def _in_float16(outputs: Any) -> Any:
    """Outputs, as float32, of a network whose convolutions work in float16."""
    several = isinstance(outputs, (list, tuple))
    symbol = mx.sym.Group(outputs) if several else outputs
    # Casts parameters where they are used; their gradients come back through the same casts.
    symbol = amp.convert_symbol(symbol, target_dtype="float16")
    casts = [mx.sym.cast(output, dtype="float32") for output in symbol]
    return casts if several else casts[0]


def shares(batch_size: int, devices: int) -> Tuple[int, ...]:
    """How many samples of a batch each device takes: as even as it goes, the first ones more."""
    if batch_size < devices:
        raise ValueError(
            f"a batch of {batch_size} is too small for {devices} devices: use a larger batch size, "
            "or fewer devices"
        )
    share, rest = divmod(batch_size, devices)
    return tuple(share + (device < rest) for device in range(devices))
