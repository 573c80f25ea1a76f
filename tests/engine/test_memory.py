"""How much memory there is, by what Linux says, and what a training takes of it."""

import math

from dsonas_mx.engine import memory
from dsonas_mx.engine.memory import Allowance, Footprint, allocated, free_megabytes

import mxnet as mx
import pytest


@pytest.fixture
def linux(tmp_path, monkeypatch):
    """`linux(available, lines, **files)`: what `free_megabytes` reads, files by their names."""

    def write(available, group, files):
        (tmp_path / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {available} kB\n")
        (tmp_path / "cgroup").write_text(group)
        for name, text in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")
    return write


MB = 2**20

# The limit of a group above that of the process counts too; cached files are given back.
SECOND = {
    "job/memory.max": f"{800 * MB}\n",
    "job/memory.current": f"{500 * MB}\n",
    "job/memory.stat": f"anon 5\ninactive_file {100 * MB}\n",
    "job/step/memory.max": "max\n",
    "job/step/memory.current": f"{400 * MB}\n",
}
FIRST = {
    "memory/job/memory.limit_in_bytes": f"{700 * MB}",
    "memory/job/memory.usage_in_bytes": f"{100 * MB}",
}


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("", {}, 2000),
        ("0::/job/step\n", SECOND, 400),
        ("3:cpu:/job\n5:memory:/job\n", FIRST, 600),
        ("0::/elsewhere\n", SECOND, 2000),
    ],
    ids=["none", "second", "first", "out of sight"],
)
def test_what_linux_can_give(linux, group, files, expected):
    linux(2000 * 1024, group, files)
    assert free_megabytes([mx.cpu()]) == expected
    assert free_megabytes([mx.cpu(0), mx.cpu(1)]) == expected / 2
    allowed = Allowance.of("auto", [mx.cpu()])
    assert allowed.megabytes == 0.9 * expected
    assert f"`recompute` auto, 90% of {expected:,} MB free" == allowed.reason
    assert Allowance.of(allowed, []) is allowed


def test_without_proc_there_is_no_limit(linux):
    assert free_megabytes([mx.cpu()]) == math.inf


def test_a_gpu_gives_whole_pages():
    gpu = mx.gpu(0)
    assert [allocated(size, gpu) for size in (1, 4096, 4097)] == [4096, 4096, 8192]
    assert allocated(3 * MB, gpu) == 4 * MB
    assert allocated(3 * MB + 1, mx.cpu()) == 3 * MB + 1


def test_a_footprint_adds_up():
    footprint = Footprint(1, 2, 3, 4, 1000.4, 6, 7)
    assert footprint.total == pytest.approx(1023.4)
    assert str(footprint).startswith("1,023 MB on each device (parameters 1, gradients 2, states 3")
    small = Footprint(0.1, 0.1, 0.1, 0, 85.2, 0.6, 0)
    assert str(small) == "86 MB on each device (maps 85, batch 1)"
    assert str(Footprint(0.2, 0, 0, 0, 0.1, 0, 0)) == "0 MB on each device"
