"""Runs on the null GPU: `make test-nullgpu` preloads it. Elsewhere all of this is skipped."""

import ctypes
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from dsonas_mx.search.apg_nag import APGNAG

import pytest
from drive import update

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
AUTOTUNES = "cudnn_algoreg-inl.h"
IS_NULL_GPU = hasattr(ctypes.CDLL(None), "nullgpu_here")
if IS_NULL_GPU:  # as from a shell; MXNet reads it once, at a process' first graph, whoever's it is
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")


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
def null_gpu(monkeypatch):
    """`null_gpu(NULLGPU_MB="60")`: from now until the test ends, that is what the GPU claims."""
    configure = ctypes.CDLL(None).nullgpu_configure

    def claim(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        configure()

    yield claim
    monkeypatch.undo()
    configure()


@pytest.fixture
def run(script):
    """`run(name, *words)`: what a script prints; it ends as it should, and complains of nothing."""

    def ran(name, *words):
        with written_to_stderr() as messages:
            status, out, err = script(name, *words)
        assert (status, err, messages) == (0, "", [])
        return out

    return ran


@contextmanager
def written_to_stderr():
    """What the libraries below Python write in the block, in a list that is filled at its end.

    MXNet's line about cuDNN's choice of algorithms may stay.
    """
    messages = []
    kept = os.dup(2)
    with tempfile.TemporaryFile("w+") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield messages
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            messages += [line for line in file.read().splitlines() if AUTOTUNES not in line]


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
