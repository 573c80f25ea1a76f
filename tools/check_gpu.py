#!/usr/bin/env python
"""Check on a GPU what this project could not check without one: five minutes, `make test-gpu`.

Values against the authors' and the CPU's, float16 against float32, one device against two, memory
against what was foretold, times beside the original's graph. Exit status 1 if one is not as it
should be. The JSON file is worth sending, whichever it is: nobody has measured a GPU.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Dict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # its 10 bits are not float32's 23

from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.io.files import write_json


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--gpus", default="0", help="one, or two: the second is for that check")
    parser.add_argument("--out", default="runs/gpu.json", help="the file to send")
    return parser


def main(options: argparse.Namespace) -> int:
    from dsonas_mx.engine.device import contexts

    from gpu_checks import costs, values
    from gpu_checks.report import checked, finite, machine

    devices = contexts(options.gpus)
    if len(devices) not in (1, 2) or devices[0].device_type != "gpu":
        raise ValueError(f"`gpus` must be one or two GPUs, got {options.gpus!r}")
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    result: Dict[str, Any] = {"machine": machine(devices[0]), "checks": {}}
    for check in (values.reference_vectors, values.sums_of_gradients, values.float16):
        result["checks"][check.__name__] = checked(check, devices[0])
    if len(devices) == 2:
        result["checks"]["two_devices"] = checked(values.two_devices, *devices)
    for check in (costs.memory, costs.times):
        result["checks"][check.__name__] = checked(check, devices[0])
    passes = all(found["passes"] for found in result["checks"].values())
    write_json(options.out, finite({"passes": passes, **result}))
    print(f"{'all pass' if passes else 'not all pass'}: please send {options.out}, in an issue of ")
    print(f'this project\'s tracker with the title "GPU: {result["machine"]["GPUs"][0]}"')
    return 0 if passes else 1


if __name__ == "__main__":
    run(main, arguments())
