"""The machine that options ask for: devices, workers, recomputation, a bar."""

import warnings
from functools import partial
from typing import Any, Dict, Iterable

from tqdm import TqdmWarning

from ..engine.device import contexts
from ..engine.graph import shares
from ..engine.memory import Allowance
from ..engine.process import rank
from ..engine.setup import Setup
from ..engine.workers import connect
from .run import check_run

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # a notebook without ipywidgets has no bars
    from tqdm.auto import tqdm


def setup_of(options: Any) -> Setup:
    """What the loop of a script runs on, which takes batches of their size.

    Raises
    ------
    ValueError
        A run folder that cannot be, a device that is not there, or that has no samples of a batch,
        or not this type of maps.
    """
    check_run(options)
    devices, memory, batch_size = options.devices, options.memory, options.data.batch_size
    dtype = options.precision.dtype if hasattr(options, "precision") else "float32"
    if dtype == "float16" and not devices.gpus.strip() and not memory.dry_run:
        raise ValueError("`dtype` float16 is for GPUs: give `gpus`, or leave it out")
    found = contexts(devices.gpus, devices.cpus)
    shares(batch_size, len(found))
    return Setup(
        workers=connect(devices.kv_store),
        contexts=found,
        recompute=Allowance.of(memory.recompute, found),  # before anything is allocated
        dtype=dtype,
        progress=partial(progress, batch_size=batch_size),
    )


class _Bar(tqdm):
    """A bar that knows, too, how long the steps after its own will take at the same rate, and how
    many images a second that is.
    """

    later = batch_size = 0

    @property
    def format_dict(self) -> Dict[str, Any]:
        known = super().format_dict
        step = known["elapsed"] / known["n"] if known["n"] else 0.0
        left = step * (known["total"] - known["n"] + self.later)
        known["all"] = self.format_interval(left) if step else "?"
        unit = "images" if self.batch_size else "steps"
        known["speed"] = f"{(self.batch_size or 1) / step:,.0f} {unit}/s" if step else "?"
        return known


def progress(
    steps: Iterable[Any], length: int, what: str, later: int = 0, batch_size: int = 0
) -> Iterable[Any]:
    """A bar on a terminal or in a notebook, nothing elsewhere; one for all workers.

    It shows how many images, in steps of so many, are done a second, the time that is left of these
    steps, and of the whole run, which has so many later.
    """
    hidden = True if rank() else None
    bar = "{l_bar}{bar}| {n_fmt}/{total_fmt}, {speed}, left: {remaining}, of the run {all}"
    shown = _Bar(
        steps, what, length, leave=False, disable=hidden, dynamic_ncols=True, bar_format=bar
    )
    shown.later, shown.batch_size = later, batch_size
    return shown
