"""FlatTrainer: the parameters of a training as slices of a few arrays, each updated by one call."""

import math
from itertools import accumulate, chain
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Tuple

import mxnet as mx
from mxnet import autograd, gluon
from mxnet.gluon import Parameter

# Elements that a device has room for when it adds up its share of an array: 4 MB.
ROOM = 2**20

ALIGNMENT = 64  # elements, 256 bytes: what follows in an array starts where cudaMalloc would start


def is_lambda(parameter: Parameter) -> bool:
    """Whether a parameter holds scales λ rather than weights."""
    return parameter.name.endswith("lambdas")


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
        Initialised on the same devices. Those of λ have a row each, as long as the longest: APGNAG
        knows them apart by it. One may be such an array itself.
    is_stack : bool
        They are one parameter, one behind the other along their first axis, with nothing between.

    Attributes
    ----------
    parts : dict
        Of each parameter, by name and in order, where it is; of an array of them, those of it.
    """

    def __init__(self, name: str, parameters: Sequence[Parameter], is_stack: bool = False) -> None:
        first = parameters[0]
        lengths = [math.prod(parameter.shape) for parameter in parameters]
        shape = (sum(parameter.shape[0] for parameter in parameters), *first.shape[1:])
        if not is_stack:
            lengths = [-(-length // ALIGNMENT) * ALIGNMENT for length in lengths]
            shape = (sum(lengths),)
        if is_lambda(first) and not is_stack:
            lengths = [max(lengths)] * len(lengths)
            shape = (len(lengths), lengths[0])
        how = {"grad_req": first.grad_req, "wd_mult": first.wd_mult}
        super().__init__(name, shape=shape, init=mx.init.Zero(), **how)
        self.parts: Dict[str, Part] = {}
        self._members = list(zip(parameters, accumulate([0, *lengths])))
        for parameter, start in self._members:
            inner = parameter.parts if isinstance(parameter, Flat) else {}
            for member, part in inner.items():
                self.parts[member] = Part(start + part.start, part.shape)
            if not inner:
                self.parts[parameter.name] = Part(start, parameter.shape)
        self.initialize(ctx=first.list_ctx())
        self._take_over()

    def _take_over(self) -> None:
        """Let the parameters be slices, with the values that they have."""
        for parameter, start in self._members:
            part, values = Part(start, parameter.shape), parameter.list_data()
            parameter._data = [part.of(array) for array in self.list_data()]
            if self.grad_req != "null":
                parameter._grad = [part.of(array) for array in self.list_grad()]
                autograd.mark_variables(parameter._data, parameter._grad, parameter.grad_req)
            for value, array in zip(values, parameter._data):
                value.copyto(array)
            if isinstance(parameter, Flat):
                parameter._take_over()


class FlatTrainer(gluon.Trainer):
    """A Trainer that updates the parameters of a `Flat`, and sums their gradients, by one call.

    On GPUs there is one for λ and one for each factor of the weight decay. On the CPU calls cost
    little, and MKLDNN lays out a weight anew in place when a network is used outside of training,
    and with it all that shares its memory: there each parameter keeps an array of its own.

    Parameters
    ----------
    parameters : iterable of gluon.Parameter
        Initialised; all of them `Flat`, or none.
    optimizer : mx.optimizer.Optimizer
        Elementwise, or `APGNAG`.
    """

    def __init__(self, parameters: Iterable[Parameter], optimizer: mx.optimizer.Optimizer) -> None:
        parameters = sorted(parameters, key=lambda parameter: parameter.name)
        self.parameters = parameters
        self.is_flat = all(isinstance(parameter, Flat) for parameter in parameters)
        for parameter in parameters if self.is_flat else []:  # or KVStore does it
            first, *others = parameter.list_data()
            for other in others:
                first.copyto(other)
        self._room: List[List[mx.nd.NDArray]] = []
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
            p.parts if isinstance(p, Flat) else {p.name: Part(0, p.shape)} for p in self.parameters
        ]

    def _allreduce_grads(self) -> None:
        if not self.is_flat:
            super()._allreduce_grads()
            return
        if len(self._contexts) == 1:
            return
        arrays = [[a.reshape(-1) for a in parameter.list_grad()] for parameter in self.parameters]
        self._room = self._room or room(max(copies[0].size for copies in arrays), self._contexts)
        for copies in arrays:
            add_up(copies, self._room)

    def _update(self, ignore_stale_grad: bool = False) -> None:
        if self.is_flat:  # a step writes the slices, which have a mark of their own
            for array in chain.from_iterable(p.list_data() for p in self.parameters):
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
            weights = {index: self.parameters[index].list_data()[device] for index in counts}
            updater.states = {
                index: optimizer.create_state_multi_precision(index, weight)
                for index, weight in weights.items()
            }
            updater.states_synced = dict.fromkeys(counts, True)


def flattened(parameters: Iterable[Parameter]) -> List[Flat]:
    """The parameters in arrays of those that are updated alike, in their order."""
    kinds: Dict[str, List[Parameter]] = {}
    for parameter in parameters:
        kind = "lambdas" if is_lambda(parameter) else f"decay{parameter.wd_mult:g}"
        kinds.setdefault(kind, []).append(parameter)
    flat = [Flat(kind, members) for kind, members in kinds.items()]
    mx.nd.waitall()
    for context in flat[0].list_ctx():  # or MXNet's pool keeps the memory of the arrays before
        if context.device_type == "gpu":
            context.empty_cache()
    return flat


def room(size: int, contexts: Sequence[mx.Context]) -> List[List[mx.nd.NDArray]]:
    """On each device an array for a piece of each other copy of a vector, and one for the sum."""
    count = len(contexts)
    piece = min(-(-size // count), ROOM // count)
    return [[mx.nd.empty((piece,), ctx=ctx) for _ in contexts] for ctx in contexts]


def add_up(copies: Sequence[mx.nd.NDArray], room: Sequence[Sequence[mx.nd.NDArray]]) -> None:
    """Replace vectors, one a device, by their sum: each device adds up its share for all.

    Piece by piece, in `room`: a share of all of them would be as large as a vector.
    """
    count, size = len(copies), copies[0].size
    for device, (*places, total) in enumerate(room):
        stop = size * (device + 1) // count
        for start in range(size * device // count, stop, total.size):
            end = min(start + total.size, stop)
            parts = [copy[start:end] for copy in copies]
            others = parts[:device] + parts[device + 1 :]
            taken = [part.copyto(place[: end - start]) for part, place in zip(others, places)]
            taken.insert(device, parts[device])
            added = mx.nd.add_n(*taken, out=total[: end - start])
            for part in parts:
                added.copyto(part)


def _arrays(state: Any) -> List[mx.nd.NDArray]:
    """The arrays of an optimizer's state: none, one, or several."""
    if state is None:
        return []
    return [array for s in state for array in _arrays(s)] if isinstance(state, tuple) else [state]
