"""What a check of a GPU says, and of which machine."""

import math
import subprocess
import sys
import time
from typing import Any, Callable, Dict

from dsonas_mx.cli.parser import first_line
from dsonas_mx.engine.device import capability

import mxnet as mx


def machine(device: Any) -> Dict[str, Any]:
    """What ran it."""
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        names = "unknown"
    _, total = mx.context.gpu_memory_info(device.device_id)
    return {
        "GPUs": names.strip().splitlines(),
        "compute capability": "{}.{}".format(*capability(device.device_id)),
        "MB": total / 2**20,
        "python": sys.version.split()[0],
        "mxnet": mx.__version__,
    }


def checked(check: Callable[..., Dict[str, Any]], *devices: Any) -> Dict[str, Any]:
    """What a check found; one that cannot be done has not passed."""
    start = time.monotonic()
    try:
        found = check(*devices)
    except Exception as error:
        found = {"passes": False, "error": f"{type(error).__name__}: {first_line(error)}"}
    verdict = "passes" if found["passes"] else "FAILS"
    print(f"{check.__name__:<18} {verdict}  {time.monotonic() - start:.0f} s", flush=True)
    for name, value in found.items():
        if name != "passes":
            print(f"    {name}: {value}", flush=True)
    return found


def finite(value: Any) -> Any:
    """What JSON can hold: None for a number that is none."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
