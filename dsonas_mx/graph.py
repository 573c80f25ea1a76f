"""TrainGraph: a HybridBlock and its loss as bound executors on the Gluon parameters.

Only MXNet's symbolic executor can recompute activations in backward (Chen et al. 2016) and skip
the gradients that a step does not want, so a network is traced to a symbol and bound on the very
arrays of its parameters. Initialisation, Trainer, saving and loading stay Gluon's.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import Any, Deque, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, Parameter

from . import native

GRADIENTS = ("all", "weights", "lambdas")

_native_gradients: Optional[str] = None


@contextmanager
def _native_tracing(gradients: Optional[str]) -> Iterator[None]:
    global _native_gradients
    before, _native_gradients = _native_gradients, gradients
    try:
        yield
    finally:
        _native_gradients = before


def native_gradients(F: Any) -> Optional[str]:
    """For networks: which gradients the project's own operators shall compute here.

    None where they cannot be used: outside of a `TrainGraph`, on a GPU, and without the library.
    """
    return _native_gradients if F is mx.sym else None


def is_lambda(parameter: Parameter) -> bool:
    """Whether a parameter holds scales λ rather than weights."""
    return parameter.name.endswith("lambdas")


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

    Raises
    ------
    ValueError
        The batch has fewer samples than there are devices.
    """

    def __init__(
        self,
        net: HybridBlock,
        loss: Any,
        data_shape: Sequence[int],
        label_shape: Sequence[int],
        contexts: Sequence[mx.Context],
    ) -> None:
        self._net = net
        self._loss = loss
        self._contexts = list(contexts)
        self._on_cpu = all(context.device_type == "cpu" for context in self._contexts)
        self._sizes = shares(data_shape[0], len(self._contexts))
        self._shapes = (tuple(data_shape[1:]), tuple(label_shape[1:]))
        self._parameters: Dict[str, Parameter] = dict(net.collect_params().items())
        self._bound: Dict[str, List[mx.executor.Executor]] = {}
        self._staged: Deque[Dict[Tuple[str, int], mx.nd.NDArray]] = deque([{}, {}])

    def symbol(self, gradients: str = "all") -> mx.sym.Symbol:
        """The loss (whose gradient is one) and the logits, of the inputs `data` and `label`."""
        with _native_tracing(gradients if self._on_cpu and native.load() else None):
            outputs = self._net(mx.sym.Variable("data"))
        loss = self._loss(mx.sym, outputs, mx.sym.Variable("label"))
        logits = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
        return mx.sym.Group([mx.sym.MakeLoss(loss), mx.sym.BlockGrad(logits)])

    def step(self, gradients: str, data: np.ndarray, label: np.ndarray) -> List[Outputs]:
        """Compute the gradients of a batch into the parameters, summed over its samples.

        What is not asked for keeps its old gradient. On GPUs nothing here waits for the device. On
        the CPU MXNet's BatchNorm moves its statistics in backward, and does not tell the engine:
        whoever reads them would not wait for it, so the step does.

        Parameters
        ----------
        gradients : {'all', 'weights', 'lambdas'}
        data, label : arrays of the whole batch

        Returns
        -------
        list of Outputs, one a device
        """
        executors = self._executors(gradients)
        results = []
        self._load(executors, {"data": data, "label": label})
        for executor in executors:
            executor.forward(is_train=True)
        for executor in executors:
            executor.backward()
            loss, logits = executor.outputs
            results.append(Outputs(loss, logits, executor.arg_dict["label"]))
        if self._on_cpu:
            mx.nd.waitall()
        for parameter in self._wanted(gradients):
            for array in parameter.list_data():
                array._fresh_grad = True  # or Trainer takes the gradient for a stale one
        return results

    def _load(
        self, executors: Sequence[mx.executor.Executor], inputs: Dict[str, np.ndarray]
    ) -> None:
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
            for parameter in self._parameters.values()
            if parameter.grad_req != "null"
            and (gradients == "all" or is_lambda(parameter) == (gradients == "lambdas"))
        ]

    def _executors(self, gradients: str) -> List[mx.executor.Executor]:
        if gradients not in self._bound:
            symbol = self.symbol(gradients)
            self._bound[gradients] = [
                self._bind(symbol, gradients, device) for device in range(len(self._contexts))
            ]
        return self._bound[gradients]

    def _bind(self, symbol: mx.sym.Symbol, gradients: str, device: int) -> mx.executor.Executor:
        context, size = self._contexts[device], self._sizes[device]
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
                arguments[name] = self._parameters[name].data(context)
                if name in wanted:
                    slots[name] = self._parameters[name].grad(context)
        for name in symbol.list_auxiliary_states():
            states[name] = self._parameters[name].data(context)
        return symbol.bind(
            context,
            args=arguments,
            args_grad=slots,
            grad_req={name: "write" if name in slots else "null" for name in arguments},
            aux_states=states,
            shared_exec=others[0] if others else None,
        )


def shares(batch_size: int, devices: int) -> Tuple[int, ...]:
    """How many samples of a batch each device takes: as even as it goes, the first ones more."""
    if batch_size < devices:
        raise ValueError(f"a batch of {batch_size} is too small for {devices} devices")
    share, rest = divmod(batch_size, devices)
    return tuple(share + (device < rest) for device in range(devices))
