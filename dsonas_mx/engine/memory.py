"""How much memory a training may take on each device, and what it takes, divided into its parts."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Iterator, Optional, Sequence, Union

import mxnet as mx

Mirror = Union[str, float]  # 'auto', 'least' (or 'deep'), 'off', or MB
WORDS = ("auto", "least", "deep", "off")

SHARE = 0.9  # of what a device has free

# Where Linux says what it can give.
MEMINFO = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")

MB = 2**20
FLOAT = 4  # bytes of a parameter, whatever the maps are

# MXNet's pool of GPU memory gives out whole pages, or of large pieces a multiple of 2 MB.
PAGE = int(os.environ.get("MXNET_GPU_MEM_POOL_PAGE_SIZE", 4096))
LARGE = int(os.environ.get("MXNET_GPU_MEM_LARGE_ALLOC_ROUND_SIZE", 2 * MB))


@dataclass(frozen=True)
class Allowance:
    """How much a training may take on each device.

    Attributes
    ----------
    megabytes : float or None
        All of it; infinite where nothing is to be computed again, None for as little as possible.
    reason : str
        For the error of what does not fit.
    """

    megabytes: Optional[float]
    reason: str = ""

    @classmethod
    def of(cls, mirror: Union[Mirror, Allowance], contexts: Sequence[mx.Context]) -> Allowance:
        """What a wish allows: 'auto' nine tenths of what the devices have free now.

        Raises
        ------
        ValueError
            It is something else than auto, least (or deep, the same), off, or a number of MB.
        """
        if isinstance(mirror, Allowance):
            return mirror
        mirror = parse_mirror(str(mirror))
        if mirror == "off":
            return cls(math.inf)
        if mirror in ("least", "deep"):
            return cls(None)
        if mirror == "auto":
            free = free_megabytes(contexts)
            return cls(SHARE * free, f"`recompute` auto, {SHARE:.0%} of {free:,.0f} MB free")
        return cls(float(mirror), f"`recompute` {mirror:g}")


def parse_mirror(text: str) -> Mirror:
    """What to compute again, from text: a word, or a number of MB."""
    if text in WORDS:
        return text
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = math.nan
    if not 0 < megabytes < math.inf:
        raise ValueError(f"`recompute` must be auto, least, off, or a number of MB, got {text!r}")
    return megabytes


def free_megabytes(contexts: Sequence[mx.Context]) -> float:
    """What is free on each of the devices, those of the CPU together having what the system has."""
    gpus = [context for context in contexts if context.device_type == "gpu"]
    if gpus:
        return min(mx.context.gpu_memory_info(gpu.device_id)[0] for gpu in gpus) / MB
    return min(_available(), *_control_groups()) / len(contexts) / MB


def _available() -> float:
    """Bytes that Linux could give; without bound where nobody says."""
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return math.inf
    return next(
        (1024.0 * int(s.split()[1]) for s in lines if s.startswith("MemAvailable")), math.inf
    )


def _control_groups() -> Iterator[float]:
    """Bytes that are left in each control group of this process, of both versions."""
    yield math.inf
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        top, (limit, usage) = GROUPS / "memory", names
        if not controllers:
            top, limit, usage = GROUPS, "memory.max", "memory.current"
        folder = top / path.lstrip("/")
        for group in (folder, *folder.parents):  # in a container some of them are out of sight
            most, used = _number(group / limit), _number(group / usage)
            if most is not None and used is not None:
                yield most - used + (_cache(group / "memory.stat") or 0.0)
            if group == top:
                break


def _number(path: Path) -> Optional[float]:
    try:
        return float(path.read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None


def _cache(path: Path) -> Optional[float]:
    """What counts as used, but is given back when it is needed."""
    try:
        rows = dict(line.split() for line in path.read_text().splitlines())
    except (OSError, ValueError):
        return None
    return float(rows.get("total_inactive_file", rows.get("inactive_file", 0)))


@dataclass(frozen=True)
class Footprint:
    """MB that a training takes on each device.

    Attributes
    ----------
    parameters : float
        Moving statistics included.
    gradients, states : float
        Of the parameters that are learned; of their optimizer.
    exchange : float
        Where devices add up their gradients.
    maps : float
        What executors take: maps, gradients of maps, and what they work in.
    batch : float
        What goes in; on a CPU also what is staged for it, and what the loader has next.
    rest : float
        What executors that use one memory in turn need beyond the largest of them, since they
        divide it in other ways.
    graphs : float
        On a CPU what MXNet keeps of the nodes of all executors; with GPUs it is the host's.
    workspace : float
        On a CPU the piece that operators work in, and the generators of random numbers. cuDNN
        chooses its own.
    """

    parameters: float
    gradients: float
    states: float
    exchange: float
    maps: float
    batch: float
    rest: float
    graphs: float = 0.0
    workspace: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return sum(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        figures = ((field.name, getattr(self, field.name)) for field in fields(self))
        parts = [f"{name} {size:,.0f}" for name, size in figures if size >= 0.5]
        return f"{self.total:,.0f} MB on each device" + f" ({', '.join(parts)})" * bool(parts)


def allocated(size: float, context: mx.Context) -> float:
    """Bytes that a device gives for an array of so many."""
    if context.device_type != "gpu":
        return size
    unit = LARGE if size > LARGE else PAGE
    return math.ceil(size / unit) * unit
