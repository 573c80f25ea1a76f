"""Trainings of several processes that tools/launch.py starts: as good as one of several devices."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = [sys.executable, "tools/launch.py", "-n", "2", "-s", "1"]
SEARCH = ["train/search_cifar.py", "--demo", "--levels", "2", "--operations", "max,sep3"]
SEARCH += ["--width", "4", "--batch-size", "241", "--pretrain-epochs", "1", "--num-epochs", "4"]
SEARCH += ["--gamma", "0.12", "--shrink-every", "1", "--patience", "9"]  # it shrinks twice
TRAIN = ["train/train_cifar.py", "--demo", "--random", "share", "--width", "4", "--blocks", "1,1,1"]
TRAIN += ["--batch-size", "241", "--validation", "1000", "--num-epochs", "2", "--dropout", "0.4"]
TRAIN += ["--drop-path", "0.5", "--auxiliary", "0"]
FOUND = ("architecture.json", "metrics.csv", "lambdas.csv", "model.params")


@pytest.fixture(scope="module")
def start():
    """`start(folder, script, *words, launch=...)`: a process with its output in a pipe."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # sums differ by the number of threads
    started = []

    def run(folder, script, *words, launch=LAUNCH):
        command = [*launch, sys.executable, *script, "--save-dir", folder, *words]
        if launch:
            command += ["--kv-store", "dist_sync"]
        process = subprocess.Popen(
            [str(word) for word in command], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """The folder of a search by one process with two devices."""
    folder = tmp_path_factory.mktemp("search") / "whole"
    end(start(folder, SEARCH, "--cpus", "2", launch=[]))
    return folder


def end(process, status=0):
    out, err = process.communicate(timeout=120)
    lines = [line for line in err.splitlines() if "Subgraph backend" not in line]
    assert process.returncode == status, err
    return out, lines


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def same(first, second, names):
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_two_workers_search_as_two_devices(start, whole, tmp_path):
    out, err = end(start(tmp_path / "two", SEARCH))
    assert err == []
    assert out.count("search epoch 2") == 1  # only one of them says so
    same(whole, tmp_path / "two", FOUND)
    kept = [row.split(",")[6] for row in (tmp_path / "two/metrics.csv").read_text().split()[1:]]
    assert len(set(kept)) > 2, "it has shrunk more than once"


@pytest.mark.slow
def test_two_workers_train_as_two_devices(start, tmp_path):
    end(start(tmp_path / "one", TRAIN, "--cpus", "2", launch=[]))
    end(start(tmp_path / "two", TRAIN))
    same(tmp_path / "one", tmp_path / "two", ("architecture.json", "model.params", "result.json"))
    one, two = (
        np.genfromtxt(tmp_path / name / "metrics.csv", delimiter=",")[1:] for name in ("one", "two")
    )
    np.testing.assert_allclose(one, two, rtol=1e-6)  # inference may differ in the last bit


def test_a_worker_that_dies_ends_the_job(start, whole, tmp_path, pid_of_worker):
    folder = tmp_path / "run"
    process = start(folder, SEARCH)
    until((folder / "checkpoint" / "000003").exists)
    began = time.monotonic()
    os.kill(pid_of_worker(1, folder), signal.SIGKILL)
    _, err = end(process, 128 + signal.SIGKILL)
    assert time.monotonic() - began < 30
    assert "launch.py: worker 1 was ended by SIGKILL: go on with --resume" in err
    with pytest.raises(AssertionError, match="no such worker"):
        pid_of_worker(0, folder)
    out, _ = end(start(folder, SEARCH, "--resume"))
    assert "going on from" in out
    same(whole, folder, FOUND)
    out, _ = end(start(folder, SEARCH, "--resume"))
    assert "is finished: nothing to do" in out


@pytest.mark.slow
def test_sigterm_stops_all_after_the_same_step(start, whole, tmp_path):
    folder = tmp_path / "run"
    process = start(folder, SEARCH)
    until((folder / "checkpoint" / "000002").exists)
    process.terminate()
    _, err = end(process, 128 + signal.SIGTERM)
    ended = "search_cifar.py: ended by SIGTERM, with a checkpoint: --resume goes on from here"
    assert ended in err
    assert f"worker 1: {ended}" in err
    # With one process of two devices: the number of workers may change.
    end(start(folder, SEARCH, "--resume", "--cpus", "2", launch=[]))
    same(whole, folder, FOUND)


def test_an_error_of_one_is_an_end_for_all(start, tmp_path):
    _, err = end(start(tmp_path / "run", SEARCH, "--split", "half"), 2)
    assert any("--split must be as 4:1" in line for line in err)
    assert any(line.startswith("launch.py: worker ") for line in err)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_launcher_that_dies_leaves_nobody(start, tmp_path, pid_of_worker):
    folder = tmp_path / "run"
    process = start(folder, SEARCH, "--num-epochs", "400", "--patience", "999")
    until((folder / "checkpoint" / "000002").exists)
    pid = pid_of_worker(0, folder)
    process.kill()
    process.communicate(timeout=60)  # its pipes are closed when all have ended
    assert not Path(f"/proc/{pid}").exists()


def namespaces():
    """Whether this process may make network namespaces."""
    try:
        done = subprocess.run(["unshare", "--net", "ip", "link"], capture_output=True)
    except OSError:
        return False
    return done.returncode == 0 and os.geteuid() == 0


@pytest.fixture
def hosts(tmp_path):
    """`hosts`: options for two hosts, namespaces behind a bridge, and how to cut off the second."""
    name = f"d{os.getpid() % 100_000}"

    def ip(text):
        subprocess.run(["ip", *text.split()], check=True, capture_output=True)

    ip(f"link add {name} type bridge")
    ip(f"addr add 10.79.0.254/24 dev {name}")
    ip(f"link set {name} up")
    for host in (1, 2):
        ip(f"netns add {name}-{host}")
        ip(f"link add {name}v{host} type veth peer name eth0 netns {name}-{host}")
        ip(f"link set {name}v{host} master {name} up")
        ip(f"-n {name}-{host} addr add 10.79.0.{host}/24 dev eth0")
        ip(f"-n {name}-{host} link set eth0 up")
        ip(f"-n {name}-{host} link set lo up")
    (tmp_path / "hosts").write_text("10.79.0.1\n10.79.0.2  # the second\n")
    shell = tmp_path / "ssh"
    shell.write_text(
        f'#!/bin/sh\nhost=$1; shift; exec ip netns exec {name}-${{host##*.}} sh -c "$*"\n'
    )
    shell.chmod(0o755)
    yield (
        ["-H", str(tmp_path / "hosts"), "--ssh", str(shell)],
        lambda: ip(f"link set {name}v2 down"),
        lambda: ip(f"link set {name}v2 up"),
    )
    for host in (1, 2):
        ip(f"netns del {name}-{host}")
    ip(f"link del {name}")


@pytest.mark.slow
@pytest.mark.skipif(not namespaces(), reason="network namespaces need root and iproute2")
def test_a_worker_that_is_cut_off_ends_the_job(start, whole, tmp_path, hosts):
    where, cut, mend = hosts
    folder = tmp_path / "run"
    process = start(folder, SEARCH, launch=[*LAUNCH, *where])
    until((folder / "checkpoint" / "000002").exists)
    began = time.monotonic()
    cut()
    _, err = end(process, 1)
    assert time.monotonic() - began < 30
    lost = "launch.py: worker 1 on 10.79.0.2 is not heard of any more: go on with --resume"
    assert lost in err
    mend()
    end(start(folder, SEARCH, "--resume", launch=[*LAUNCH, *where]))
    same(whole, folder, FOUND)
