"""Into a smaller network of the same kind: parameters and optimizer states of what is left."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.gluon import HybridBlock

Parts = Tuple[int, Tuple[Any, ...]]  # the axis along which an array is packed, and its parts


def select(array: mx.nd.NDArray, parts: Parts, left: Parts) -> mx.nd.NDArray:
    """The parts of a packed array that are left, each as wide as it was."""
    axis, names = parts
    width = array.shape[axis] // len(names)
    kept = [names.index(name) for name in left[1]]
    index = np.concatenate([np.arange(width) + part * width for part in kept])
    return mx.nd.take(array, mx.nd.array(index, ctx=array.context), axis=axis)


def _survivors(
    parent: HybridBlock, child: HybridBlock, name: str, array: mx.nd.NDArray
) -> mx.nd.NDArray:
    """Of an array shaped like the parent's parameter `name`, what the child has of it."""
    if name in parent.packed and parent.packed[name] != child.packed[name]:
        return select(array, parent.packed[name], child.packed[name])
    return array.copy()


def inherit(parent: HybridBlock, child: HybridBlock) -> None:
    """Give `child`, a pruned form of `parent` on the same devices, the parent's parameters.

    Weights, λ, BN scales and moving statistics of every device, bit for bit.
    """
    ancestors = parent.collect_params()
    for name, parameter in child.collect_params().items():
        for context in parameter.list_ctx():
            array = _survivors(parent, child, name, ancestors[name].data(context))
            array.copyto(parameter.data(context))


def inherit_states(
    parent: HybridBlock, before: gluon.Trainer, child: HybridBlock, after: gluon.Trainer
) -> None:
    """Give the Trainer of the child the states and update counts of the parent's."""
    old_index = {parameter.name: index for index, parameter in enumerate(before._params)}
    for old, new in zip(before._updaters, after._updaters):
        for index, parameter in enumerate(after._params):
            state = old.states.get(old_index[parameter.name])
            if state is not None:
                new.states[index] = _survivors(parent, child, parameter.name, state)
                new.states_synced[index] = True
    source, target = before._optimizer, after._optimizer
    target.num_update = source.num_update
    counts: Dict[Any, Dict[int, int]] = target._all_index_update_counts
    names: List[str] = [parameter.name for parameter in after._params]
    for device, updates in source._all_index_update_counts.items():
        counts[device] = {
            index: updates[old_index[name]]
            for index, name in enumerate(names)
            if old_index[name] in updates
        }
    target._index_update_count = counts.get(0, {})
