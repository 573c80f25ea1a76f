"""Runs on the null GPU: `make test-nullgpu` preloads it. Elsewhere all of this is skipped."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from dsonas_mx.search.apg_nag import APGNAG

import pytest
from drive import update

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
IS_NULL_GPU = hasattr(ctypes.CDLL(None), "nullgpu_here")


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.nullgpu)
            if not IS_NULL_GPU:
                item.add_marker(pytest.mark.skip(reason="runs on the null GPU: make test-nullgpu"))


@pytest.fixture(autouse=True)
def moved_lambdas(monkeypatch):
    """As in drive.py, for the scripts that run in this process."""
    monkeypatch.setattr(APGNAG, "update", update)


@pytest.fixture
def run(script):
    """`run(name, *words)`: what a script prints; it ends as it should, and complains of nothing."""

    def ran(name, *words):
        status, out, err = script(name, *words)
        assert (status, err) == (0, "")
        return out

    return ran


@pytest.fixture
def alone():
    """`alone(name, *words, **variables)`: a script in its own process, with NULLGPU_… in it."""

    def ran(name, *words, **variables):
        return subprocess.run(
            [sys.executable, str(ROOT / name), *map(str, words)],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return ran
