"""Searches and trainings on CIFAR on the null GPU: devices, recomputation, budgets, resuming."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dsonas_mx import Architecture
from dsonas_mx.io.params_file import read_params

import pytest

ROOT = Path(__file__).resolve().parents[2]
DRIVE = str(Path(__file__).with_name("drive.py"))
SEARCH, TRAIN = "train/search_cifar.py", "train/train_cifar.py"
NETWORK = ["--levels", 2, "--blocks", "1,1", "--width", 4, "--operations", "sep3,max"]
EPOCHS = ["--batch-size", 12, "--pretrain-epochs", 1, "--num-epochs", 2, "--shrink-every", 1]
FOUND = ("architecture.json", "lambdas.csv", "metrics.csv", "model.params", "pretrained.params")


@pytest.fixture
def search(run, small_cifar, tmp_path):
    """`search(*words)`: a search that removes something, into `tmp_path/'run'`; what it printed."""

    def searched(*words):
        folder = tmp_path / "run"
        words = [*NETWORK, *EPOCHS, *words, "--data-dir", small_cifar, "--save-dir", folder]
        out = run(SEARCH, *words)
        assert not [name for name in FOUND if not (folder / name).is_file()]
        found = Architecture.load(folder / "architecture.json")
        assert 0 < found.num_connections < found.space.num_connections
        assert read_params(folder / "model.params")
        return out

    return searched


@pytest.mark.parametrize("gpus", ["0", "1", "0,1", "2,0,1"])
def test_devices(search, gpus):
    assert "MB on each device" in search("--gpus", gpus)


@pytest.mark.parametrize("mirror", ["off", "least", "20"])
def test_recomputation(search, mirror):
    search("--gpus", "0,1", "--mirror", mirror)


@pytest.mark.parametrize("scope", ["full", "share"])
@pytest.mark.parametrize("budget", ["none", "flops", "mac", "latency"])
def test_budgets(search, scope, budget, tmp_path):
    search("--gpus", "0", "--scope", scope, "--budget", budget, "--mirror", "off")
    assert (tmp_path / "run/gammas.csv").is_file() == (budget == "latency")


def test_without_a_split(search):
    search("--gpus", "0,1", "--split", "none")


def test_a_number_of_multiply_adds(search):
    search("--gpus", "0", "--scope", "full", "--budget", "none", "--search-flops", "300K")


def test_a_killed_search_goes_on(search, small_cifar, tmp_path):
    folder = tmp_path / "run"
    words = [*NETWORK, *EPOCHS, "--gpus", "0,1", "--data-dir", small_cifar, "--save-dir", folder]
    command = [sys.executable, DRIVE, str(ROOT / SEARCH), *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 200
        while not list(folder.glob("checkpoint/0*")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "architecture.json").exists()
    search("--gpus", "0,1", "--resume")


@pytest.fixture
def train(run, small_cifar, tmp_path):
    """`train(*words)`: a training into `tmp_path/'run'`; what it printed."""

    def trained(*words):
        folder = tmp_path / "run"
        words = ["--batch-size", 40, "--num-epochs", 1, "--width", 4, "--blocks", "1,1,1", *words]
        out = run(TRAIN, *words, "--data-dir", small_cifar, "--save-dir", folder)
        for name in ("model.params", "model-symbol.json", "model-0000.params", "result.json"):
            assert (folder / name).is_file()
        return out

    return trained


@pytest.mark.parametrize("gpus, mirror", [("1", "off"), ("0,1", "auto"), ("0,1,2", "deep")])
def test_training(train, gpus, mirror):
    train("--gpus", gpus, "--mirror", mirror, "--random", "share", "--auxiliary", 0)


@pytest.mark.parametrize("mirror", ["off", "auto"])
def test_training_with_everything(train, mirror):
    words = ["--dropout", 0.4, "--drop-path", 0.5, "--auxiliary", 0.4, "--cutout", 16]
    train("--gpus", "0,1", "--mirror", mirror, "--full-network", *words)


def test_two_workers_with_a_gpu_each(tmp_path):
    """Nothing computes the zeros that states begin with: only new memory has the same in both."""
    words = ["--demo", *NETWORK, "--batch-size", 500, "--pretrain-epochs", 0, "--num-epochs", 1]
    words += ["--kv-store", "dist_sync", "--save-dir", tmp_path / "run", "--gamma", 0]
    line = " ".join(map(str, [sys.executable, DRIVE, SEARCH, *words]))
    done = subprocess.run(
        [sys.executable, "tools/launch.py", "-n", "2", "-s", "1", "sh", "-c"]
        + [f"exec {line} --gpus $DSONAS_WORKER"],
        cwd=ROOT,
        env={**os.environ, "MXNET_GPU_MEM_POOL_TYPE": "Unpooled"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert Architecture.load(tmp_path / "run/architecture.json").num_connections
