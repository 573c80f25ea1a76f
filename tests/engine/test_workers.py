"""What the workers of a training tell each other, in processes of their own on this machine."""

import json
import subprocess
import sys
from pathlib import Path

from dsonas_mx.engine import process
from dsonas_mx.engine.workers import Workers, connect

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = [sys.executable, str(ROOT / "tools" / "launch.py")]

CODE = """
import json
import dsonas_mx
import mxnet as mx, numpy as np
from dsonas_mx.engine.workers import connect

own = connect("dist_sync")
rank = own.rank
copies = [mx.nd.array([rank + 1, 2], ctx=mx.cpu(device)) for device in range(2)]
sums = [copies, [mx.nd.ones((2, 3))]]
own.add_up(sums)
values = np.array([rank, np.nan, -0.0, 1 / 3], np.float32)
said = own.tell({"é": [1.5, None]} if rank == 0 else "not heard")
pi = own.broadcast(np.array([[np.pi * (rank == 0)]]))
heard = [own.agree(rank == 1 and call == 1, False) for call in range(6)]
own.check_same({"a": np.arange(3.0)})
try:
    own.check_same({"a": np.arange(3.0) + rank})
    same = True
except ArithmeticError:
    same = False
print(json.dumps({
    "rank": rank, "size": own.size,
    "sums": [[array.asnumpy().tolist() for array in arrays] for arrays in sums],
    "gathered": own.gather(values).tobytes().hex(),
    "said": said, "pi": pi.tolist(), "heard": heard, "same": same,
}) + "\\n", end="", flush=True)
"""


def of_rank(rank, size):
    own = Workers()
    own.rank, own.size = rank, size
    return own


def test_every_sample_of_a_batch_has_one_worker():
    for samples in range(1, 20):
        for size in (1, 2, 3):
            for devices in (1, 2):
                seen = []
                for rank in range(size):
                    part, sizes = of_rank(rank, size).sizes(samples, devices)
                    assert len(sizes) == devices
                    assert sum(sizes) == part.stop - part.start
                    seen += list(range(samples)[part])
                assert seen == list(range(samples))


def test_the_parts_are_those_of_as_many_devices():
    """7 samples on 2×2 devices: 2 2 | 2 1, as on the four devices of one worker."""
    assert of_rank(0, 2).sizes(7, 2) == (slice(0, 4), (2, 2))
    assert of_rank(1, 2).sizes(7, 2) == (slice(4, 7), (2, 1))
    assert of_rank(0, 1).sizes(7, 4) == (slice(0, 7), (2, 2, 2, 1))
    assert of_rank(1, 2).sizes(1, 2) == (slice(1, 1), (0, 0))


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_what_they_tell_each_other(size):
    done = subprocess.run(
        [*LAUNCH, "-n", str(size), "-s", "2", sys.executable, "-c", CODE],
        cwd=ROOT, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = {}
    for line in done.stdout.splitlines():
        result = json.loads(line)
        results[result["rank"]] = result
    assert sorted(results) == list(range(size))
    values = np.array([[rank, np.nan, -0.0, 1 / 3] for rank in range(size)], np.float32)
    for result in results.values():
        assert result["size"] == size
        total = sum(range(1, size + 1))
        assert result["sums"] == [[[total, 2 * size]] * 2, [[[size] * 3] * 2]]
        assert bytes.fromhex(result["gathered"]) == values.tobytes()
        assert result["said"] == {"é": [1.5, None]}
        assert result["pi"] == [[np.pi]]
        # Worker 1 wished it in its second call; all hear of it in the same one, the fourth.
        assert result["heard"] == [[call == 3, False] for call in range(6)]
        assert result["same"] is False


def test_alone():
    own = connect("device")
    array = np.array([1.0, np.nan])
    assert own.gather(array).shape == (1, 2)
    assert own.tell("x") == "x"
    assert own.agree(True, False) == [True, False]
    own.check_same({"a": array})
    assert not process.is_connected()


def test_refuses_what_it_was_not_started_for(monkeypatch):
    with pytest.raises(ValueError, match="start it by tools/launch.py"):
        connect("dist_sync")
    monkeypatch.setenv("DMLC_ROLE", "worker")
    with pytest.raises(ValueError, match="add `kv_store` dist_sync"):
        connect("device")
