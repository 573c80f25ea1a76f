"""Which devices to run on: the one place that knows about GPUs."""

from __future__ import annotations

from typing import List

import mxnet as mx


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
        A GPU that is not there, or a list that is none.
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
    except mx.MXNetError:  # no driver
        present = 0
    for number in numbers:
        if number >= present:
            raise ValueError(f"`gpus` {gpus}: there is no GPU {number}, this machine has {present}")
    return [mx.gpu(number) for number in numbers]


def threads() -> int:
    """The threads that compute an operator on the CPU: sums depend on their number."""
    return int(mx.base._LIB.omp_get_max_threads())
