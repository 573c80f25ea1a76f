"""Devices of the options, with MXNet's device functions patched where GPUs are wanted."""

from dsonas_mx.engine import device

import mxnet as mx
import pytest


@pytest.fixture
def gpus(monkeypatch):
    """`gpus(count)`: an MXNet with CUDA and so many GPUs, which are CPU devices."""

    def patch(count, cuda=True, capability=(6, 1)):
        class Features:
            def is_enabled(self, name):
                return name == "CUDA" and cuda

        monkeypatch.setattr(mx.runtime, "Features", Features)
        monkeypatch.setattr(mx.context, "num_gpus", lambda: count)
        monkeypatch.setattr(device, "capability", lambda number: capability)
        monkeypatch.setattr(mx, "gpu", mx.cpu)

    return patch


def test_the_cpu():
    assert device.contexts() == [mx.cpu(0)]
    assert device.contexts(" ", 3) == [mx.cpu(0), mx.cpu(1), mx.cpu(2)]


def test_gpus_in_the_order_that_was_asked_for(gpus):
    gpus(4)
    assert device.contexts("0,1") == [mx.cpu(0), mx.cpu(1)]
    assert device.contexts("3, 1", cpus=2) == [mx.cpu(3), mx.cpu(1)]


def test_the_real_gpu_contexts(gpus, monkeypatch):
    real = mx.gpu
    gpus(2)
    monkeypatch.setattr(mx, "gpu", real)
    assert device.contexts("1,0") == [mx.Context("gpu", 1), mx.Context("gpu", 0)]


@pytest.mark.parametrize(
    "words, message",
    [
        ("0,", "`gpus` must be numbers such as 0,1, got '0,'"),
        ("all", "`gpus` must be numbers such as 0,1, got 'all'"),
        ("0,0", "`gpus` must name each GPU once, got '0,0'"),
        ("-1", "`gpus` must name each GPU once, got '-1'"),
        ("2", "`gpus` 2: there is no GPU 2, this machine has 2"),
        ("0,7", "`gpus` 0,7: there is no GPU 7, this machine has 2"),
    ],
)
def test_refuses_lists(gpus, words, message):
    gpus(2)
    with pytest.raises(ValueError, match=f"^{message}$"):
        device.contexts(words)


def test_refuses_an_mxnet_without_cuda(gpus):
    gpus(2, cuda=False)
    with pytest.raises(ValueError, match="^`gpus` 0: this MXNet was built without CUDA; install"):
        device.contexts("0")


def test_a_machine_without_a_driver(gpus, monkeypatch):
    """MXNet has CUDA, and fails when it counts the GPUs."""
    gpus(1)

    def fail():
        raise mx.MXNetError("CUDA driver version is insufficient for CUDA runtime version")

    monkeypatch.setattr(mx.context, "num_gpus", fail)
    with pytest.raises(ValueError, match="^`gpus` 0: CUDA finds no GPU; nvidia-smi"):
        device.contexts("0")


@pytest.mark.parametrize("capability, runs", [((3, 7), 0), ((5, 0), 1), ((8, 9), 1), ((9, 0), 0)])
def test_refuses_gpus_that_mxnet_has_no_code_for(gpus, capability, runs):
    gpus(2, capability=capability)
    if runs:
        assert len(device.contexts("0,1")) == 2
        return
    name = "{}.{}".format(*capability)
    with pytest.raises(ValueError, match=f"^`gpus` 1: GPU 1 has compute capability {name}, and"):
        device.contexts("1")


@pytest.mark.parametrize("cpus", [0, -2])
def test_refuses_numbers_of_cpus(cpus):
    with pytest.raises(ValueError, match=f"`cpus` must be at least 1, got {cpus}"):
        device.contexts("", cpus)
