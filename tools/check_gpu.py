#!/usr/bin/env python
"""Check on a GPU what this project could not check without one: five minutes, `make test-gpu`.

Values against the authors' and the CPU's, float16 against float32, one device against two, memory
against what was foretold, times beside the original's graph. Exit status 1 if one is not as it
should be. The JSON file is worth sending, whichever it is: nobody has measured a GPU.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # its 10 bits are not float32's 23

from dsonas_mx.cli.parser import Parser, first_line, run
from dsonas_mx.io.files import write_json


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--gpus", default="0", help="one, or two: the second is for that check")
    parser.add_argument("--out", default="runs/gpu.json", help="the file to send")
    return parser


def machine(device: Any) -> Dict[str, Any]:
    """What ran it."""
    from dsonas_mx.engine.device import capability

    import mxnet as mx

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


def main(options: argparse.Namespace) -> int:
    from dsonas_mx.engine.device import contexts

    from gpu_checks import costs, values

    devices = contexts(options.gpus)
    if len(devices) not in (1, 2) or devices[0].device_type != "gpu":
        raise ValueError(f"`gpus` must be one or two GPUs, got {options.gpus!r}")
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine(devices[0]), "checks": {}}
    for check in (values.reference_vectors, values.sums_of_gradients, values.float16):
        result["checks"][check.__name__] = checked(check, devices[0])
    if len(devices) == 2:
        result["checks"]["two_devices"] = checked(values.two_devices, *devices)
    for check in (costs.memory, costs.times):
        result["checks"][check.__name__] = checked(check, devices[0])
    passes = all(found["passes"] for found in result["checks"].values())
    write_json(options.out, {"passes": passes, **result})
    print(f"{'all pass' if passes else 'not all pass'}: please send {options.out}, in an issue of ")
    print(f'this project\'s tracker with the title "GPU: {result["machine"]["GPUs"][0]}"')
    return 0 if passes else 1


if __name__ == "__main__":
    run(main, arguments())
