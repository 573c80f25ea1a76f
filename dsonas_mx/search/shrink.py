"""Into a smaller network of the same kind: parameters and optimizer states of what is left."""

from typing import Any, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..engine.flat import FlatTrainer

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
    parent: HybridBlock, before: FlatTrainer, child: HybridBlock, after: FlatTrainer
) -> None:
    """Give the Trainer of the child the states and update counts of the parent's."""
    left = child.collect_params()
    after.start_from({name: count for name, count in before.updates(0).items() if name in left})
    for device in range(len(after.contexts)):
        old = before.states(device)
        for name, arrays in after.states(device).items():
            for array, ancestor in zip(arrays, old[name]):
                _survivors(parent, child, name, ancestor).copyto(array)
