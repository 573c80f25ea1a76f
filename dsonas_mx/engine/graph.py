"""TrainGraph: a HybridBlock and its loss as bound executors on the Gluon parameters.

Only MXNet's symbolic executor can recompute activations in backward (Chen et al. 2016) and skip
the gradients that a step does not want, so a network is traced to a symbol and bound on the very
arrays of its parameters. Initialisation, Trainer, saving and loading stay Gluon's.
"""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import replace
from functools import cached_property
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet.contrib import amp
from mxnet.gluon import HybridBlock, Parameter

from . import native
from .chain import Bound, bind
from .derived import Derived
from .device import threads
from .flat import ALIGNMENT, ROOM, is_lambda
from .forward import Forward
from .joining import dividable
from .memory import FLOAT, MB, Allowance, Footprint, Mirror, allocated
from .pixels import likeliest
from .recompute import Plan, Planner, TooLarge
from .tracing import PROGRESS, Tracing
from .trial import Trial, Trials
from .workspace import GENERATORS, workspace

DTYPES = ("float32", "float16")
GRADIENTS = ("all", "weights", "lambdas")
RANDOM_OPERATORS = ("Dropout", "_random_", "_sample_", "_shuffle")


class Outputs(NamedTuple):
    """What one device computed in a step: arrays that may still be on their way.

    Attributes
    ----------
    loss : NDArray, B
        Of each sample.
    answers : NDArray
        Logits, B×classes, or where labels are of pixels the likeliest class of each, as the label.
    label : NDArray
        As it was given, on this device.
    """

    loss: mx.nd.NDArray
    answers: mx.nd.NDArray
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
    mirror : {'auto', 'least', 'off'}, float or Allowance
        Which maps to compute again in backward: as few as nine tenths of the free memory of the
        devices demand, or as many as make it the least, none, or as few as keep all that a
        training takes within so many MB a device. See `dsonas_mx.engine.recompute`.
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
        mirror: Union[Mirror, Allowance] = "off",
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
        self._allowance = Allowance.of(mirror, self._contexts)
        self._symbols: Dict[str, mx.sym.Symbol] = {}
        self._random: Optional[bool] = None
        self._bound: Dict[str, List[Bound]] = {}
        self._staged: Deque[Dict[Tuple[str, int], mx.nd.NDArray]] = deque([{}, {}])

    @property
    def _is_of_pixels(self) -> bool:
        return len(self._shapes[1]) > 0

    def symbol(self, gradients: str = "all") -> mx.sym.Symbol:
        """The loss (whose gradient is one) and the answers, of the inputs `data` and `label`.

        Behind them come outputs that have to be computed, but tell nothing.
        """
        kind = gradients if self.is_native else "all"  # MXNet's own operators are told by binding
        if kind not in self._symbols:
            self._symbols[kind] = self._trace(kind)
        return self._symbols[kind]

    def _trace(self, gradients: str) -> mx.sym.Symbol:
        derived = self._derived if self.is_for_gpus else None
        tracing = Tracing(gradients, self.is_native, derived, self._sizes[-1])
        # Nodes are numbered from 0 in every trace, or those of a plan would not be found again.
        with mx.name.NameManager(), tracing.in_force():
            outputs = self._net(mx.sym.Variable("data"))
            if self._dtype == "float16":
                outputs = _in_float16(outputs)
            label = mx.sym.Variable("label")
            loss = mx.sym.MakeLoss(self._loss(mx.sym, outputs, label))
            answers = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
            if self._is_of_pixels:
                answers = likeliest(mx.sym, answers, label)
            others = map(mx.sym.BlockGrad, [answers, *tracing.side_effects])
            symbol = mx.sym.Group([loss, *others])
        return dividable(symbol, self._inputs) if self._on_cpu else symbol

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
            loss, answers = executor.outputs[:2]
            results.append(Outputs(loss, answers, executor.arg_dict["label"]))
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

    @cached_property
    def plan(self) -> Plan:
        """What is computed again, and MB on each device, known before anything is allocated.

        Raises
        ------
        ValueError
            None fits into the memory that is allowed.
        """
        others, allowed = self._others.total, self._allowance.megabytes
        try:
            return self._planner().plan(None if allowed is None else allowed - others)
        except TooLarge as error:
            raise ValueError(
                f"{self._allowance.reason}: the smallest plan takes "
                f"{error.megabytes + others:.0f} MB on each device; use a smaller batch, a smaller "
                "network, or more devices"
            ) from None

    @property
    def footprint(self) -> Footprint:
        """What a training with this graph takes on each device, known like the plan."""
        plan = self.plan
        return replace(self._others, maps=plan.maps, rest=plan.rest, graphs=plan.graphs)

    @property
    def takes(self) -> str:
        """The same in words, with what is computed again."""
        return f"{self.footprint}: {self.describe_plan()}"

    def describe_plan(self) -> str:
        """What is computed again, what that costs, and what more memory would buy."""
        return self.plan.describe(self.footprint.total - self.plan.megabytes)

    def _planner(self) -> Planner:
        # Not kept: it holds as many graphs as the executors.
        kinds = ("weights", "lambdas") if self._wanted("lambdas") else ("all",)
        shapes = self._inputs
        forward = Forward(self.symbol(kinds[0]), shapes)
        trials = [
            Trial(self.symbol(kind), self._names(kind), shapes, forward.cuts, self._contexts[0])
            for kind in kinds
        ]
        return Planner(forward, Trials(trials), chains=not self.is_native)

    @cached_property
    def _others(self) -> Footprint:
        """What is beside the executors: an optimizer has one array for each parameter."""
        context, on_gpu = self._contexts[0], not self._on_cpu
        self.symbol()  # asks for what is derived
        learned = fixed = 0.0
        for parameter in self._parameters.values():
            size = math.prod(parameter.shape)
            if parameter.grad_req == "null":
                fixed += allocated(FLOAT * size, context)
            else:
                learned += FLOAT * (-(-size // ALIGNMENT) * ALIGNMENT if on_gpu else size)
        assembled = FLOAT * sum(math.prod(p.shape) for p in self._derived.assembled)
        exchange = min(learned, FLOAT * ROOM) if on_gpu else learned
        batch = sum(FLOAT * self._sizes[0] * math.prod(shape) for shape in self._shapes)
        return Footprint(
            parameters=(learned + fixed + assembled) / MB,
            gradients=(learned + assembled) / MB,
            states=learned / MB,
            exchange=exchange / MB if len(self._contexts) > 1 else 0.0,
            maps=0.0,
            # On the host are two that are staged, and the next.
            batch=batch * (1 if on_gpu else 4) / MB,
            rest=0.0,
            workspace=0.0 if on_gpu else self._workspace / len(self._contexts),
        )

    @property
    def _workspace(self) -> float:
        """MB on the CPU, all of whose devices use the same."""
        return GENERATORS + workspace(self.symbol(), self._inputs, threads())

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

    @property
    def _inputs(self) -> Dict[str, Tuple[int, ...]]:
        """Shapes of what goes in, on the first device."""
        return dict(zip(("data", "label"), ((self._sizes[0],) + s for s in self._shapes)))

    def _names(self, gradients: str) -> Set[str]:
        return {parameter.name for parameter in self._wanted(gradients)}

    def _executors(self, gradients: str) -> List[Bound]:
        if gradients not in GRADIENTS:
            raise ValueError(f"gradients must be {' or '.join(GRADIENTS)}, got {gradients!r}")
        if not self._wanted(gradients):
            raise ValueError(f"the network learns none of {gradients}: there is no gradient")
        # Without a limit there is nothing to be found out.
        plan = Plan(0.0) if self._allowance.megabytes == math.inf else self.plan
        # The pieces of λ's executors suit those of the weights better than the other way round.
        both = gradients == "weights" and self._wanted("lambdas")
        for kind in ("lambdas", gradients) if both else (gradients,):
            if kind not in self._bound:
                devices = range(len(self._contexts))
                symbol = self.symbol(kind)
                self._bound[kind] = [self._bind(symbol, kind, d, plan) for d in devices]
        return self._bound[gradients]

    def _bind(self, symbol: mx.sym.Symbol, gradients: str, device: int, plan: Plan) -> Bound:
        context, size = self._contexts[device], self._sizes[device]
        inputs = {**self._parameters, **self._derived.inputs} if self.learned else {}
        others = [executors[device] for executors in self._bound.values()]
        arguments: Dict[str, mx.nd.NDArray] = {}
        for name, shape in zip(("data", "label"), self._shapes):
            if others:
                arguments[name] = others[0].arg_dict[name]
            else:
                arguments[name] = mx.nd.zeros((size,) + shape, ctx=context)
        wanted = self._names(gradients)
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
        return bind(symbol, plan, context, arguments, slots, states, shared)


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
