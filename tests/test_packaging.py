"""What an installation brings: the same on CPU and GPU, and every file the packages need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def requirements(name: str) -> set[str]:
    lines = [line.split("  #")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    return {line for line in lines if line and not line.startswith("#")}


def test_gpu_requirements_differ_only_in_mxnet_and_cuda() -> None:
    cpu, gpu = requirements("requirements.txt"), requirements("requirements-gpu.txt")
    assert {line.replace("mxnet-cu112", "mxnet") for line in gpu - cpu if "mxnet" in line} == (
        cpu - gpu
    )
    assert all(line.startswith(("mxnet-cu112==", "nvidia-")) for line in gpu - cpu)


@pytest.mark.slow
def test_installed_packages_are_complete_and_import_outside_the_checkout(tmp_path: Path) -> None:
    listing = ["git", "ls-files", "-co", "--exclude-standard"]
    output = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [Path(name) for name in output.splitlines() if (ROOT / name).is_file()]
    packaged = {file for file in files if file.parts[0] in ("dsonas_mx", "symbols")}
    source, target = tmp_path / "source", tmp_path / "target"
    for file in {file for file in files if len(file.parts) == 1} | packaged:
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, source / file)

    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    subprocess.run([*install, "--target", str(target), str(source)], check=True)
    installed = {
        file.relative_to(target)
        for package in ("dsonas_mx", "symbols")
        for file in (target / package).rglob("*")
        if file.is_file()
    }
    assert installed == packaged

    code = "import symbols, dsonas_mx; print(symbols.__file__); print(dsonas_mx.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert all(line.startswith(str(target)) for line in result.stdout.split())


def test_a_python_is_a_path_whatever_is_in_it(tmp_path: Path) -> None:
    """Not several words, nor a pattern of others that are there."""
    fake = tmp_path / "odd [3] folder" / "pythonA"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexit 0\n")
    fake.chmod(0o755)
    asked = fake.with_name("python?")
    command = ["make", "setup", f"PYTHON={asked}", f"VENV={tmp_path / 'venv'}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0 and f"found among: {asked};" in result.stderr
    assert not (tmp_path / "venv").exists()
