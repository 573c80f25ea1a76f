"""What an installation brings: the same on CPU and GPU, and every file the packages need."""

from __future__ import annotations

import subprocess
import sys
import zipfile
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
def test_wheel_has_every_file_of_the_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "dsonas_mx", "symbols"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert packed == {name for name in tracked if (ROOT / name).exists()}
