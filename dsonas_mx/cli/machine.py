"""The options of devices, memory and the run folder, which all scripts have."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Protocol

from ..io.options import Options, option, place


@dataclass(frozen=True)
class DeviceOptions(Options):
    """The devices, of this process and of others."""

    gpus: str = place("", "numbers of GPUs, as 0,1; empty for the CPU")
    cpus: int = place(1, "devices to divide the CPU into")
    kv_store: str = place(
        "device",
        "dist_sync: with all processes of tools/launch.py, each with such devices",
        choices=("device", "dist_sync"),
    )


@dataclass(frozen=True)
class PrecisionOptions(Options):
    """The type of maps."""

    dtype: str = option(
        "float32",
        "of maps and convolutions; float16 is for GPUs, parameters stay float32",
        choices=("float32", "float16"),
    )


@dataclass(frozen=True)
class MemoryOptions(Options):
    """What a run takes."""

    recompute: str = place(
        "off",
        "compute maps again in backward, as few as fit: auto within nine tenths of what the "
        "devices have free, within so many MB on each device, least for the fewest MB, or off",
        "--mirror",
    )
    dry_run: bool = place(
        False, "say what the run takes, and stop before it allocates or needs any data"
    )


# Run


def _minutes(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be at least 0, got {value}")


@dataclass(frozen=True)
class RunOptions(Options):
    """The run folder, and how a run survives and is watched."""

    save_dir: str = place("runs/run", "the run folder")
    resume: bool = place(False, "go on from the newest checkpoint")
    resume_from: Optional[str] = place(
        None,
        "go on from a checkpoint, as RUN/checkpoint/000012, of this run folder or, in a new one, "
        "of another",
        metavar="PATH",
    )
    checkpoint_minutes: float = place(
        30,
        "between checkpoints within an epoch; 0 for none but at its end",
        parse=float,
        check=_minutes,
    )
    on_nan: str = place(
        "stop",
        "a loss that is not finite ends the run, or takes it back to the end of the last epoch, "
        "with half the learning rate, five times at most",
        choices=("stop", "rollback"),
    )
    tensorboard: bool = place(
        False, "write scalars, λ and the block for TensorBoard; needs tensorboardX"
    )
    log_format: str = place(
        "text",
        "of what is printed: json for an object a line, of an epoch with its numbers, of an error "
        "with its status",
        choices=("text", "json"),
    )

    @property
    def resumes(self) -> bool:
        """Whether it shall go on with what is there."""
        return self.resume or self.resume_from is not None

    @property
    def continued(self) -> Optional[Path]:
        """The folder of the run that goes on in its own; None if none does."""
        return Path(self.save_dir) if self.resume else None


class Script(Protocol):
    """The options of a script that searches or trains: what all of them have."""

    @property
    def devices(self) -> DeviceOptions: ...

    @property
    def memory(self) -> MemoryOptions: ...

    @property
    def run(self) -> RunOptions: ...

    def record(self, deciding: bool = False) -> Dict[str, Any]: ...
