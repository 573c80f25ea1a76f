"""Fixtures that several test files use."""

from pathlib import Path

import dsonas_mx  # noqa: F401  before any test imports mxnet, which it makes importable

import pytest


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference vectors."""
    return Path(__file__).parent / "golden"
