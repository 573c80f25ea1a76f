"""What cannot run on a GPU is one line that says what to do, before data are read if possible."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SUPPORTED = "MXNet 1.9.1 has code for 5.0 to 8.9 (Maxwell to Ada): use another GPU, or the CPU"
NO_GPU = (
    "CUDA finds no GPU; nvidia-smi shows whether there is one, and its driver has to be for CUDA "
    "11.2 or newer"
)


@pytest.mark.parametrize(
    "words, variables, message",
    [
        (
            ("--gpus", "0"),
            {"NULLGPU_CAPABILITY": "9.0"},
            f"--gpus 0: GPU 0 has compute capability 9.0, and {SUPPORTED}",
        ),
        (
            ("--gpus", "0,1"),
            {"NULLGPU_CAPABILITY": "3.5"},
            f"--gpus 0,1: GPU 0 has compute capability 3.5, and {SUPPORTED}",
        ),
        (
            ("--gpus", "0,2"),
            {"NULLGPU_DEVICES": "2"},
            "--gpus 0,2: there is no GPU 2, this machine has 2",
        ),
        (
            ("--gpus", "0"),
            {"NULLGPU_DEVICES": "0"},
            f"--gpus 0: {NO_GPU}",
        ),
        (
            ("--gpus", "0"),
            {"NULLGPU_DRIVER": "10.2"},
            f"--gpus 0: {NO_GPU}",
        ),
        (
            ("--gpus", "0,1,2", "--batch-size", "2"),
            {"NULLGPU_DEVICES": "3"},
            "a batch of 2 is too small for 3 devices: use a larger batch size, or fewer devices",
        ),
    ],
)
def test_refused_before_data_are_read(script, null_gpu, tmp_path, words, variables, message):
    null_gpu(**variables)
    words = ("--data-dir", tmp_path / "none", *words, "--save-dir", tmp_path / "run")
    status, _, err = script("train/search_cifar.py", *words)
    assert (status, err) == (2, f"search_cifar.py: {message}\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name, words",
    [
        ("train/search_cifar.py", ()),
        ("train/search_imagenet.py", ()),
        ("train/search_voc.py", ()),
        ("train/train_cifar.py", ("--random", "share")),
        ("train/train_imagenet.py", ("--random", "share")),
        ("train/train_voc.py", ()),
        ("tools/measure_latency.py", ("--levels", "2")),
        ("tools/compare.py", ("latency",)),
        ("tools/lambda_gradients.py", ("{none}",)),
        ("tools/run_experiment.py", (ROOT / "experiments/table1.json",)),
        ("tools/check_gpu.py", ()),
    ],
)
def test_every_script_refuses_a_gpu_that_is_too_new(script, null_gpu, tmp_path, name, words):
    null_gpu(NULLGPU_CAPABILITY="9.0")
    words = [str(word).format(none=tmp_path / "none") for word in words]
    if name.startswith("train/"):
        words += ["--data-dir", tmp_path / "none", "--save-dir", tmp_path / "run"]
    status, _, err = script(name, *words, "--gpus", "0")
    assert (status, err) == (
        2,
        f"{Path(name).name}: --gpus 0: GPU 0 has compute capability 9.0, and {SUPPORTED}\n",
    )


def test_no_driver(alone):
    done = alone(
        "train/search_cifar.py", "--demo", "--gpus", "0", LD_PRELOAD="", LD_LIBRARY_PATH=""
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("search_cifar.py: mxnet-cu112 could not be ")
    assert "libcuda.so.1" in line and "NVIDIA's driver" in line


@pytest.mark.parametrize("mirror", ["off", "auto"])
def test_too_little_memory(alone, tmp_path, mirror):
    """Whether it is known beforehand or noticed in a step."""
    words = ("--demo", "--gpus", "0", "--width", "64", "--batch-size", "500", "--mirror", mirror)
    words += ("--save-dir", tmp_path / "run")
    done = alone("train/search_cifar.py", *words, NULLGPU_MB="60")
    (line,) = (one for one in done.stderr.splitlines() if "cudnn_algoreg" not in one)
    assert done.returncode in (1, 2)
    assert line.startswith("search_cifar.py: ") and "--mirror" in line and "batch" in line
