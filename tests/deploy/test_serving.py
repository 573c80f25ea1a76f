"""A deployed network in a process of its own: as fast as MXNet can, and no end of ours."""

import json
import os
import signal
import time

from dsonas_mx import _compat
from dsonas_mx.deploy import server
from dsonas_mx.deploy.serving import NotInstalled, Serving, in_batches

import mxnet as mx
import numpy as np
import pytest


@pytest.fixture
def pair(tmp_path):
    """Files of a network that doubles its input."""
    weight = mx.sym.Variable("weight", shape=(1, 3, 1, 1))
    net = mx.sym.broadcast_mul(mx.sym.Variable("data"), weight, name="doubled")
    files = tmp_path / "net-symbol.json", tmp_path / "net-0000.params"
    net.save(str(files[0]))
    mx.nd.save(str(files[1]), {"arg:weight": mx.nd.full((1, 3, 1, 1), 2)})
    return files


@pytest.fixture
def doubles(pair):
    with Serving("mxnet", pair, "float32") as served:
        yield served


def batch(count):
    return np.arange(count * 12, dtype=np.float32).reshape(count, 3, 2, 2)


def test_it_computes_for_batches_of_any_size(doubles):
    for count in (1, 3, 1, 2, 5, 4, 6, 3):  # more than are planned at a time
        np.testing.assert_array_equal(doubles(batch(count)), 2 * batch(count))
    assert 0 < doubles.seconds < 60


def test_the_engine_is_the_one_that_answers_fast(doubles, monkeypatch):
    environment = open(f"/proc/{doubles._process.pid}/environ").read().split("\0")
    assert "MXNET_ENGINE_TYPE=NaiveEngine" in environment
    assert any(entry.startswith("GLIBC_TUNABLES=glibc.malloc.tcache_max") for entry in environment)
    monkeypatch.setenv("MXNET_ENGINE_TYPE", "ThreadedEngine")  # who sets another gets it
    doubles.close()
    doubles(batch(1))
    environment = open(f"/proc/{doubles._process.pid}/environ").read().split("\0")
    assert "MXNET_ENGINE_TYPE=ThreadedEngine" in environment


@pytest.mark.parametrize("ours", [True, False])
def test_threads_spin_for_a_while_unless_the_environment_says_otherwise(doubles, monkeypatch, ours):
    doubles.close()
    monkeypatch.setattr(_compat, "sleeps_by_default", ours)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    doubles(batch(1))
    environment = open(f"/proc/{doubles._process.pid}/environ").read().split("\0")
    assert ("GOMP_SPINCOUNT=2000" in environment) == ours
    doubles.close()


def test_its_end_is_one_line_and_it_starts_again(doubles):
    os.kill(doubles._process.pid, signal.SIGFPE)
    with pytest.raises(ValueError, match=r"net-symbol.json: the network ended .*SIGFPE") as end:
        for _ in range(50):  # it may still answer
            doubles(batch(1))
            time.sleep(0.1)
    assert "\n" not in str(end.value)
    np.testing.assert_array_equal(doubles(batch(2)), 2 * batch(2))


def test_it_ends_with_its_owner(pair):
    served = Serving("mxnet", pair, "float32")
    process = served._process
    del served
    assert process.poll() is not None


def test_a_fork_has_its_own(doubles):
    child = os.fork()
    if not child:
        good = (doubles(batch(3)) == 2 * batch(3)).all()
        doubles.close()
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(doubles(batch(1)), 2 * batch(1))


def test_what_is_not_to_reach_mxnet(pair, tmp_path):
    def refused(message):
        with pytest.raises(ValueError, match=message):
            Serving("mxnet", pair, "float32")

    graph = json.loads(pair[0].read_text())
    mx.nd.save(str(pair[1]), {"arg:weight": mx.nd.full((1, 3, 1, 1), np.nan)})
    refused("0000.params: arg:weight has a value that is not finite")
    mx.nd.save(str(pair[1]), {"arg:other": mx.nd.ones((1, 3, 1, 1))})
    refused("0000.params: the parameter weight is missing")
    pair[0].write_text(json.dumps({**graph, "heads": [[2, 0, 0], [0, 0, 0]]}))
    refused("a deployed network has an input 'data' and one output")


def test_a_network_that_does_not_fit_its_data(doubles):
    with pytest.raises(ValueError, match="net-symbol.json: "):
        doubles(np.zeros((2, 5, 2, 2), np.float32))
    np.testing.assert_array_equal(doubles(batch(1)), 2 * batch(1))


def test_without_what_runs_it(pair, monkeypatch, tmp_path):
    (tmp_path / "mxnet").mkdir()
    (tmp_path / "mxnet" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # an MXNet without its library
    with pytest.raises(NotInstalled, match="mxnet/libmxnet.so: cannot open shared object file"):
        Serving("mxnet", pair, "float32")


def test_parts_are_filled_up():
    seen = []

    def run(data):
        seen.append(data[:, 0].tolist())
        return data + 1

    data = np.arange(5)[:, None]
    assert in_batches(run, data, 2)[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert seen == [[0, 1], [2, 3], [4, 4]]


@pytest.mark.parametrize(
    "said, reason",
    [
        ('Check failed: a == b: c\nStack trace:\n  File "x.cc", line 1\n', "a == b: c"),
        (
            "Cannot find argument 'x'\nStack trace:\n  File \"x.cc\", line 568\n",
            "Cannot find argument 'x'",
        ),
        ("first\nlast\n", "last"),
    ],
)
def test_an_error_says_what_is_wrong_not_where(said, reason):
    assert server.reason(ValueError(said)) == reason
