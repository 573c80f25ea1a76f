"""docs/your_images.md: its commands, read out of it, lead from a folder to names."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from dsonas_mx import Architecture

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("dark", "light", "red")


def picture(name, number):
    colour = {"dark": (30, 30, 30), "light": (220, 220, 220), "red": (220, 20, 20)}[name]
    noise = np.random.RandomState(number).randint(-20, 20, (24, 31, 3))
    return Image.fromarray((noise + colour).clip(0, 255).astype(np.uint8))


@pytest.mark.slow
def test_its_commands(tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    for name in CLASSES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            file = tmp_path / "photos" / name / f"{number}.{'png' if number % 2 else 'jpg'}"
            picture(name, number).save(file)
    (tmp_path / "photos" / "red" / "notes.txt").write_text("no picture")
    (tmp_path / "new").mkdir()
    for name in CLASSES:
        picture(name, 99).save(tmp_path / "new" / f"{name}.png")
    block, readme = (
        re.search(r"```sh\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.S).group(1)
        for name in ("docs/your_images.md", "README.md")
    )
    assert readme == block
    commands = block.strip().splitlines()
    assert len(commands) == 4
    for command in commands:
        _, script, *words = shlex.split(command)
        done = subprocess.run(
            [sys.executable, str(ROOT / script), *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    found = Architecture.load(tmp_path / "runs" / "photos" / "search" / "architecture.json")
    assert found.origin["classes"] == list(CLASSES)
    answers = dict(line.split(" ")[:2] for line in done.stdout.splitlines())
    assert answers == {f"new/{name}.png:": name for name in CLASSES}
