"""FlatTrainer: the parameters of a training as slices of a few arrays, each updated by one call."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
from mxnet import autograd, gluon
from mxnet.gluon import Parameter

from .graph import is_lambda

ALIGNMENT = 64  # elements, 256 bytes: what follows in an array starts where cudaMalloc would start


class Part(NamedTuple):
    """Where a parameter is: from which element on, and its shape."""

    start: int
    shape: Tuple[int, ...]

    def of(self, array: mx.nd.NDArray) -> mx.nd.NDArray:
        """The parameter's part of an array of all, which shares its memory."""
        stop = self.start + math.prod(self.shape)
        return array.reshape(-1)[self.start : stop].reshape(self.shape)


class Flat(Parameter):
    """Several parameters, and their gradients, as slices of one array a device.

    The parameters are the same arrays to whoever reads or writes them; they must not be initialised
    again. What lies between them is zero and has no gradient.

    Parameters
    ----------
    name : str
    parameters : sequence of gluon.Parameter
        Initialised on the same devices, which get the values of the first one. Those of λ have a
        row each, as long as the longest: APGNAG knows them apart by it.

    Attributes
    ----------
    parts : dict
        Of each parameter, by name and in order, where it is.
    """

    def __init__(self, name: str, parameters: Sequence[Parameter]) -> None:
        first = parameters[0]
        sizes = [math.prod(parameter.shape) for parameter in parameters]
        lengths = [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes]
        shape: Tuple[int, ...] = (sum(lengths),)
        if is_lambda(first):
            lengths = [max(lengths)] * len(lengths)
            shape = (len(lengths), lengths[0])
        super().__init__(name, shape=shape, init=mx.init.Zero(), wd_mult=first.wd_mult)
        self.parts: Dict[str, Part] = {}
        start = 0
        for parameter, length in zip(parameters, lengths):
            self.parts[parameter.name] = Part(start, parameter.shape)
            start += length
        self.initialize(ctx=first.list_ctx())
        for parameter in parameters:
            self._take_over(parameter)

    def _take_over(self, parameter: Parameter) -> None:
        part, value = self.parts[parameter.name], parameter.list_data()[0]
        parameter._data, parameter._grad = (
            [part.of(array) for array in arrays] for arrays in (self.list_data(), self.list_grad())
        )
        autograd.mark_variables(parameter._data, parameter._grad, parameter.grad_req)
        for array in parameter._data:
            value.copyto(array)


class FlatTrainer(gluon.Trainer):
    """A Trainer that updates all parameters of one kind, and sums their gradients, by one call.

    On GPUs: the parameters become slices of `Flat` arrays, one for λ and one for each factor of the
    weight decay. On the CPU calls cost little, and MKLDNN lays out a weight anew in place when a
    network is used outside of training, and with it all that shares its memory: there each
    parameter keeps an array of its own, unless `flat` says otherwise.

    Parameters
    ----------
    parameters : iterable of gluon.Parameter
        Initialised; before anything is bound on their arrays.
    optimizer : mx.optimizer.Optimizer
        Elementwise, or `APGNAG`.
    flat : bool, optional
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        optimizer: mx.optimizer.Optimizer,
        flat: Optional[bool] = None,
    ) -> None:
        parameters = sorted(parameters, key=lambda parameter: parameter.name)
        devices = chain.from_iterable(parameter.list_ctx() for parameter in parameters)
        self.is_flat = all(d.device_type == "gpu" for d in devices) if flat is None else flat
        if self.is_flat:
            parameters = _flattened(parameters)
        store = None if self.is_flat else "device"
        super().__init__(parameters, optimizer, kvstore=store, update_on_kvstore=False)

    @property
    def contexts(self) -> List[mx.Context]:
        """The devices."""
        return self._contexts

    @property
    def parts(self) -> List[Dict[str, Part]]:
        """Of each of the arrays that are updated, what it holds."""
        return [
            p.parts if isinstance(p, Flat) else {p.name: Part(0, p.shape)} for p in self._params
        ]

    def _allreduce_grads(self) -> None:
        if not self.is_flat:
            super()._allreduce_grads()
            return
        for parameter in self._params:
            _add_up([array.reshape(-1) for array in parameter.list_grad()])

    def _update(self, ignore_stale_grad: bool = False) -> None:
        if self.is_flat:  # a step writes the slices, which have a mark of their own
            for array in chain.from_iterable(p.list_data() for p in self._params):
                array._fresh_grad = True
        super()._update(ignore_stale_grad)

    # States

    def states(self, device: int) -> Dict[str, List[mx.nd.NDArray]]:
        """The optimizer's arrays of each parameter on a device, in place; none before an update."""
        states = self._updaters[device].states
        arrays = {
            name: [part.of(array) for array in _arrays(states[index])]
            for index, parts in enumerate(self.parts)
            if index in states
            for name, part in parts.items()
        }
        return dict(sorted(arrays.items()))  # however they are divided

    def updates(self, device: int) -> Dict[str, int]:
        """How often each parameter was updated on a device; only those that were."""
        counts = self._optimizer._all_index_update_counts
        counts = counts.get(self._contexts[device].device_id, {})
        divided = enumerate(self.parts)
        by_name = {name: counts[i] for i, parts in divided if i in counts for name in parts}
        return dict(sorted(by_name.items()))

    def start_from(self, updates: Mapping[str, int]) -> None:
        """Be one that made so many updates of each parameter; its states are zero."""
        counts = {
            index: max(updates[name] for name in parts if name in updates)
            for index, parts in enumerate(self.parts)
            if not updates.keys().isdisjoint(parts)
        }
        optimizer = self._optimizer
        optimizer.num_update = max(counts.values(), default=0)
        by_device = {context.device_id: dict(counts) for context in self._contexts}
        optimizer._all_index_update_counts = by_device
        optimizer._index_update_count = by_device[self._contexts[0].device_id]
        for device, updater in enumerate(self._updaters):
            weights = {index: self._params[index].list_data()[device] for index in counts}
            updater.states = {
                index: optimizer.create_state_multi_precision(index, weight)
                for index, weight in weights.items()
            }
            updater.states_synced = dict.fromkeys(counts, True)


def _flattened(parameters: Sequence[Parameter]) -> List[Flat]:
    """The parameters, and with them arrays of all that are updated alike."""
    kinds: Dict[str, List[Parameter]] = {}
    for parameter in parameters:
        kind = "lambdas" if is_lambda(parameter) else f"decay{parameter.wd_mult:g}"
        kinds.setdefault(kind, []).append(parameter)
    return [Flat(kind, members) for kind, members in kinds.items()]


def _add_up(copies: Sequence[mx.nd.NDArray]) -> None:
    """Replace vectors, one a device, by their sum: each device adds up its share for all."""
    count, size = len(copies), copies[0].size
    edges = [size * device // count for device in range(count + 1)]
    for copy, start, stop in zip(copies, edges, edges[1:]):
        parts = [each[start:stop] for each in copies] if count > 1 and stop > start else []
        if parts:
            total = mx.nd.add_n(*(part.as_in_context(copy.context) for part in parts))
            for part in parts:
                total.copyto(part)


def _arrays(state: Any) -> List[mx.nd.NDArray]:
    """The arrays of an optimizer's state: none, one, or several."""
    if state is None:
        return []
    return [array for s in state for array in _arrays(s)] if isinstance(state, tuple) else [state]
