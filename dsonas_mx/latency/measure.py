"""Measured latency of networks in the form in which they are deployed.

That form is MXNet's symbolic executor, bound for inference. On the CPU it has MKLDNN fuse
convolution, BN and ReLU into one operator, with BN folded into the weights; on a GPU BN stays an
operator of its own. It works on copies of the parameters, as MKLDNN reorders weights in place.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from .._compat import usable_cpus
from ..engine.timing import alternate
from ..engine.trial import reported
from ..io.checks import check_int
from ..space.architecture import Architecture

Network = Union[HybridBlock, mx.sym.Symbol]
Build = Callable[[Architecture], HybridBlock]
Shape = Tuple[int, ...]


class Latency(NamedTuple):
    """Milliseconds of a forward pass, from its input on the device to its output.

    Attributes
    ----------
    median_ms : float
    spread_ms : float
        From the fastest run to the slowest.
    runs : tuple of float
        Milliseconds of each.
    """

    median_ms: float
    spread_ms: float
    runs: Tuple[float, ...]

    @classmethod
    def of(cls, runs: Sequence[float]) -> Latency:
        """Of the milliseconds of single runs."""
        return cls(statistics.median(runs), max(runs) - min(runs), tuple(runs))

    @property
    def noise_ms(self) -> float:
        """The standard error of the median, from the median distance to it."""
        distance = statistics.median(abs(run - self.median_ms) for run in self.runs)
        return 1.2533 * 1.4826 * distance / len(self.runs) ** 0.5


def measure(
    net: Network, shape: Shape, device: Optional[mx.Context] = None, runs: int = 5, warm_up: int = 3
) -> Latency:
    """Latency of a network: the median of some runs, each waited for.

    Parameters
    ----------
    net : HybridBlock or Symbol
        With its own parameters, or not initialised, with any; left as it is. The input of a
        symbol is called ``'data'``.
    shape : B, C, H, W
    device : Context
        The CPU by default.
    runs : int
        That are counted.
    warm_up : int
        Runs before them, not counted.

    Raises
    ------
    ValueError
        It does not run on such an input, or not in the memory of the device.
    """
    check_int("runs", runs, 1)
    check_int("warm_up", warm_up, 0)
    seconds = alternate({"net": deploy(net, shape, device or mx.cpu())}, runs, warm_up)
    return Latency.of([1e3 * value for value in seconds["net"]])


class NetworkLatency:
    """Milliseconds of the network of an architecture; equal ones are measured once.

    Parameters
    ----------
    build : callable
        The network of an architecture, as it is deployed: without λ.
    device : Context
        The CPU by default.
    batch_size : int
        Images at a time.
    runs : int
        Forward passes, of which the median counts.
    """

    def __init__(
        self, build: Build, device: Optional[mx.Context] = None, batch_size: int = 1, runs: int = 5
    ) -> None:
        self._build = build
        self._device = device or mx.cpu()
        self._batch_size = check_int("batch_size", batch_size, 1)
        self._runs = check_int("runs", runs, 1)
        self._known: Dict[Any, Latency] = {}

    def __call__(self, architecture: Architecture) -> float:
        """The median, in ms."""
        return self.measured(architecture).median_ms

    def measured(self, architecture: Architecture) -> Latency:
        """The median with its spread."""
        key = (architecture.space, architecture.kept, architecture.reductions)
        if key not in self._known:
            shape = input_shape(architecture, self._batch_size)
            net = self._build(architecture)
            self._known[key] = measure(net, shape, self._device, self._runs)
        return self._known[key]


def input_shape(architecture: Architecture, batch_size: int) -> Shape:
    """B×C×S×S of the images of its space."""
    space = architecture.space
    return (batch_size, space.in_channels, space.image_size, space.image_size)


# The deployed form


def deploy(net: Network, shape: Shape, device: mx.Context) -> Callable[[], object]:
    """A call that starts a forward pass of the network, in its deployed form."""
    executor = bind(net, shape, device)
    return lambda: executor.forward(is_train=False)


def bind(net: Network, shape: Shape, device: mx.Context) -> mx.executor.Executor:
    """Bind a network for inference, with copies of its parameters and some input."""
    known: Mapping[str, mx.nd.NDArray] = {}
    symbol = net
    if not isinstance(net, mx.sym.Symbol):
        outputs = net(mx.sym.Variable("data"))
        symbol = mx.sym.Group(outputs) if isinstance(outputs, (list, tuple)) else outputs
        known = _parameters(net)
    try:
        executor = symbol.simple_bind(device, grad_req="null", data=shape)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(
            f"the network does not run on {device} with an input of {_by(shape)}: {reason}"
        ) from None
    _check_memory(executor, shape, device)
    generator = np.random.default_rng(0)  # of its own: a search's random numbers must not move
    for name, array in {**executor.arg_dict, **executor.aux_dict}.items():
        if name in known:
            known[name].copyto(array)
        else:
            array[:] = _plausible(name, array.shape, generator)
    return executor


def _check_memory(executor: mx.executor.Executor, shape: Shape, device: mx.Context) -> None:
    """Refuse what would make the machine run out of memory; a GPU refuses by itself."""
    if device.device_type != "cpu" or not hasattr(os, "sysconf"):
        return
    needed = reported(executor)
    present = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
    if needed > present:
        raise ValueError(
            f"a network that takes {needed:,.0f} MB for an input of {_by(shape)} "
            f"does not run on a machine with {present:,.0f} MB: use a smaller batch or image"
        )


def _by(shape: Shape) -> str:
    return "x".join(str(size) for size in shape)


def _parameters(net: HybridBlock) -> Dict[str, mx.nd.NDArray]:
    """The parameters that a network has; none if it is not initialised."""
    known = {}
    for name, parameter in net.collect_params().items():
        try:
            known[name] = parameter.data(parameter.list_ctx()[0])
        except RuntimeError:  # not initialised, or not before its shape is known
            continue
    return known


def _plausible(name: str, shape: Shape, generator: np.random.Generator) -> np.ndarray:
    """A parameter that leaves maps of any depth around one: tiny numbers would be slow."""
    if name.endswith("gamma"):
        return np.full(shape, 0.1)
    if name.endswith(("beta", "bias")):
        return generator.uniform(0, 1, shape)
    if name.endswith(("mean", "var")):
        return np.full(shape, float(name.endswith("var")))
    return generator.standard_normal(shape) / math.prod(shape[1:]) ** 0.5


# For the record


def describe(device: mx.Context) -> Dict[str, Any]:
    """Kind and name of a device, and the threads that it computes with."""
    if device.device_type == "gpu":
        return {"kind": "gpu", "name": _gpu_name(device.device_id), "threads": 1}
    threads = os.environ.get("OMP_NUM_THREADS", "")
    count = int(threads) if threads.isdigit() and int(threads) else math.ceil(usable_cpus())
    return {"kind": "cpu", "name": _cpu_name(), "threads": count}


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def _gpu_name(number: int) -> str:
    query = ["nvidia-smi", f"--id={number}", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"
