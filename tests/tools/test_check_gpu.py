"""The checks of tools/check_gpu.py, on the CPU, which passes them; and with something wrong."""

import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest


@pytest.fixture
def values(monkeypatch, plain):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "tools"))
    from gpu_checks import values

    yield values
    for name in [name for name in sys.modules if name.partition(".")[0] == "gpu_checks"]:
        del sys.modules[name]


def test_the_cpu_passes(values):
    checks = {
        "sums": values.sums_of_gradients(mx.cpu()),
        "reference": values.reference_vectors(mx.cpu()),
        "devices": values.two_devices(mx.cpu(0), mx.cpu(1)),
    }
    assert {name: found["passes"] for name, found in checks.items()} == dict.fromkeys(checks, True)
    assert set(checks["sums"]) == {"passes", *(f"{n} consumers" for n in (7, 8, 9, 17))}


@pytest.mark.parametrize("wrong", [np.nan, 0.0, 1.01])
def test_what_is_wrong_does_not_pass(values, wrong):
    found, expected = (np.ones(2), {"w": np.ones(3)}), (np.ones(2), {"w": np.ones(3)})
    assert values.compared(found, expected, 1e-3)["passes"]
    found[1]["w"][1] = wrong
    assert not values.compared(found, expected, 1e-3)["passes"]
    zeros = (np.ones(2), {"w": np.zeros(3)})
    assert not values.compared(zeros, zeros, 1e-3)["passes"]  # nothing was computed
