"""Which devices to run on: the one place that knows about GPUs."""

import ctypes
from typing import Any, List, Sequence, Tuple

import mxnet as mx
import numpy as np

# The wheel has code for compute capabilities 5.0, 6.0, 7.0, 8.0 and 8.6, which those of the same
# first number run, and nothing that a driver could compile for others.
CAPABILITIES = range(5, 9)
_CAPABILITY = (75, 76)  # cudaDevAttrComputeCapabilityMajor, …Minor


def gpu_numbers(gpus: str) -> List[int]:
    """The numbers of a text as 0,1, whether or not there are such GPUs; none for the CPU.

    Raises
    ------
    ValueError
        A list that is none, or that has a number twice.
    """
    try:
        numbers = [int(part) for part in gpus.split(",")] if gpus.strip() else []
    except ValueError:
        raise ValueError(f"`gpus` must be numbers such as 0,1, got {gpus!r}") from None
    if len(set(numbers)) < len(numbers) or min(numbers, default=0) < 0:
        raise ValueError(f"`gpus` must name each GPU once, got {gpus!r}")
    return numbers


def contexts(gpus: str = "", cpus: int = 1) -> List[mx.Context]:
    """The devices of `gpus` 0,1, or of `cpus` 2.

    Parameters
    ----------
    gpus : str
        Numbers of GPUs, separated by commas; empty for the CPU.
    cpus : int
        Without GPUs, how many devices to divide the CPU into.

    Raises
    ------
    ValueError
        A GPU that is not there, or that MXNet has no code for, or a list that is none.
    """
    if not gpus.strip():
        if cpus < 1:
            raise ValueError(f"`cpus` must be at least 1, got {cpus}")
        return [mx.cpu(number) for number in range(cpus)]
    numbers = gpu_numbers(gpus)
    if not mx.runtime.Features().is_enabled("CUDA"):
        raise ValueError(
            f"`gpus` {gpus}: this MXNet was built without CUDA; install requirements-gpu.txt "
            "(make setup GPU=1), or leave `gpus` out to use the CPU (`cpus` 2: as two devices)"
        )
    try:
        present = mx.context.num_gpus()
    except mx.MXNetError:
        present = 0
    if not present:
        raise ValueError(
            f"`gpus` {gpus}: CUDA finds no GPU; nvidia-smi shows whether there is one, and its "
            "driver has to be for CUDA 11.2 or newer"
        )
    for number in numbers:
        if number >= present:
            raise ValueError(f"`gpus` {gpus}: there is no GPU {number}, this machine has {present}")
        major, minor = capability(number)
        if major not in CAPABILITIES:
            raise ValueError(
                f"`gpus` {gpus}: GPU {number} has compute capability {major}.{minor}, and MXNet "
                "1.9.1 has code for 5.0 to 8.9 (Maxwell to Ada): use another GPU, or the CPU"
            )
    return [mx.gpu(number) for number in numbers]


def threads() -> int:
    """The threads that compute an operator on the CPU: sums depend on their number."""
    return int(mx.base._LIB.omp_get_max_threads())


def capability(number: int) -> Tuple[int, int]:
    """The compute capability of a GPU, as (8, 6), by the CUDA that MXNet is linked to."""
    found = []
    for attribute in _CAPABILITY:
        value = ctypes.c_int()
        mx.base._LIB.cudaDeviceGetAttribute(ctypes.byref(value), attribute, number)
        found.append(value.value)
    return found[0], found[1]


def reserved(shape: Sequence[int], context: mx.Context, dtype: Any = np.float32) -> mx.nd.NDArray:
    """An array that takes no memory before it is written."""
    return mx.nd.NDArray(mx.nd.ndarray._new_alloc_handle(tuple(shape), context, True, dtype))
