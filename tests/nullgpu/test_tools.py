"""The tools that take GPUs, and what becomes of a training on one, on the null GPU."""

import json
import subprocess
import sys
from pathlib import Path

from dsonas_mx import Architecture, SearchSpace

import cv2
import numpy as np
import pytest

SPACE = ["--levels", 2, "--blocks", "1,1", "--width", 4, "--operations", "sep3,max"]
PLAIN = """
import sys, mxnet as mx
net = mx.gluon.SymbolBlock.imports(sys.argv[1], ["data"], sys.argv[2], ctx=mx.gpu(1))
print(net(mx.nd.ones((2, 1, 28, 28), ctx=mx.gpu(1))).shape)
"""


@pytest.fixture(scope="module")
def architecture(tmp_path_factory):
    """The file of a complete architecture."""
    path = tmp_path_factory.mktemp("architecture") / "found.json"
    space = SearchSpace(levels=2, operations=("sep3", "max"), blocks=(1, 1), width=4)
    Architecture.complete(space).save(path)
    return path


def test_latency_of_a_network_and_of_its_connections(run, architecture):
    measured = json.loads(run("tools/measure_latency.py", architecture, "--gpus", 1, "--json"))
    assert measured["latency_ms"] > 0 and measured["kind"] == "gpu"
    words = [architecture, "--gpus", 1, "--batch-size", 8, "--runs", 1]
    assert "input->2.max" in run("tools/measure_latency.py", *words, "--connections")


def test_a_latency_table_and_a_search_with_it(run, small_cifar, tmp_path):
    table = tmp_path / "table.json"
    run("tools/measure_latency.py", *SPACE, "--gpus", 0, "--table", table, "--runs", 1)
    words = [*SPACE, "--data-dir", small_cifar, "--batch-size", 12, "--pretrain-epochs", 0]
    words += ["--num-epochs", 1, "--budget", "latency", "--latency-table", table, "--gpus", "0,1"]
    run("train/search_cifar.py", *words, "--save-dir", tmp_path / "run")
    assert (tmp_path / "run/gammas.csv").is_file()


def test_latencies_beside_the_papers(run):
    words = ["--networks", "MobileNetV2", "--rounds", 2, "--gpus", 0, "--batch-size", 8]
    assert "MobileNetV2" in run("tools/compare.py", "latency", *words)


def test_an_experiment_and_its_gradients_of_lambda(run, small_cifar, tmp_path, monkeypatch):
    """Two jobs with a GPU each."""
    driver = Path(__file__).with_name("drive.py")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {driver} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    experiment = {
        "name": "tiny",
        "description": "as small as they come",
        "data_set": "cifar",
        "seeds": [0, 1],
        "reference": "searched",
        "rows": {"searched": {"search": {"scope": "share"}}},
        "scales": {
            "small": {
                "search": {
                    "levels": 2,
                    "operations": "sep3,max",
                    "blocks": "1,1",
                    "width": 4,
                    "batch-size": 12,
                    "pretrain-epochs": 1,
                    "num-epochs": 1,
                    "gamma": 0,
                },
                "train": {"width": 4, "batch-size": 40, "num-epochs": 1, "auxiliary": 0},
            }
        },
    }
    (tmp_path / "tiny.json").write_text(json.dumps(experiment))
    words = [tmp_path / "tiny.json", "--data-dir", small_cifar, "--gpus", "0,1", "--jobs", 2]
    run("tools/run_experiment.py", *words, "--out", tmp_path / "out")
    found = sorted(path.parent for path in (tmp_path / "out").rglob("pretrained.params"))
    assert len(found) == 2
    words = [*found, "--data-dir", small_cifar, "--gpus", 1, "--batches", 2]
    assert run("tools/lambda_gradients.py", *words)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of images of 28×28."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(8):
        pixels = np.random.RandomState(number).randint(0, 255, (28, 28), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
    return folder


def test_what_was_trained_on_a_gpu_is_deployed(run, architecture, images, tmp_path):
    """In every form there is; the process that loads them is a fresh one, without this project."""
    words = ["--demo", "--architecture", architecture, "--width", 4, "--batch-size", 500]
    run("train/train_cifar.py", *words, "--num-epochs", 1, "--gpus", "0,1", "--save-dir", tmp_path)
    forms = ["mxnet", "fused", "int8"]
    words = ["--fuse", "--int8", "--calibrate", images, "--images", 8]
    try:
        import onnx  # noqa: F401
    except ImportError:
        assert not Path(sys.prefix).name.endswith("nullgpu"), "make test-nullgpu installs it"
    else:
        forms.append("onnx")
        words.append("--onnx")
    table = run("tools/export.py", tmp_path, "--out", tmp_path / "net", *words)
    assert [line.split()[0] for line in table.splitlines() if line.split()[0] in forms] == forms
    for form in forms:
        out = run("tools/predict.py", tmp_path / "net.json", images / "0.png", "--form", form)
        assert "0.png" in out
    files = [tmp_path / "net-symbol.json", tmp_path / "net-0000.params"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PLAIN, *files],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "(2, 10)\n"), done.stderr
