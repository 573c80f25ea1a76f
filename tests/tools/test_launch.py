"""Trainings of several processes that tools/launch.py starts: as good as one of several devices."""

import io
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import launch  # noqa: E402
from launching import follow, job, slurm  # noqa: E402

LAUNCH = [sys.executable, "tools/launch.py", "-n", "2", "-s", "1"]
# Of 120 images, in batches that two workers do not share evenly.
SEARCH = ["train/search_cifar.py", "--blocks", "1,1,1", "--levels", "2", "--operations", "max,sep3"]
SEARCH += ["--width", "4", "--batch-size", "23", "--pretrain-epochs", "1", "--num-epochs", "11"]
SEARCH += ["--gamma", "0.02", "--lr", "0.5", "--shrink-every", "1"]  # it shrinks twice
SEARCH += ["--patience", "99", "--mirror", "off"]  # to plan takes longer than to search
TRAIN = ["train/train_cifar.py", "--random", "share", "--width", "4", "--blocks", "1,1,1"]
TRAIN += ["--batch-size", "23", "--validation", "40", "--num-epochs", "2", "--dropout", "0.4"]
TRAIN += ["--drop-path", "0.5", "--auxiliary", "0"]
AGAIN = "nothing: the steps since the last checkpoint are done again"
FOUND = ("architecture.json", "metrics.csv", "lambdas.csv", "model.params")


@pytest.fixture(scope="module")
def start(small_cifar):
    """`start(folder, script, *words, launch=...)`: a process with its output in a pipe."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # sums differ by the number of threads
    started = []

    def run(folder, script, *words, launch=LAUNCH):
        command = [*launch, sys.executable, *script, "--data-dir", small_cifar]
        command += ["--save-dir", folder, *words]
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


@pytest.mark.fault("One of several workers dies", lost=AGAIN)
def test_a_worker_that_dies_ends_the_job(start, whole, tmp_path, pid_of_worker, record_property):
    folder = tmp_path / "run"
    process = start(folder, SEARCH)
    until((folder / "checkpoint" / "000003").exists)
    began = time.monotonic()
    os.kill(pid_of_worker(1, folder), signal.SIGKILL)
    _, err = end(process, 128 + signal.SIGKILL)
    assert time.monotonic() - began < 30
    said = "launch.py: worker 1 was ended by SIGKILL: go on with --resume"
    assert said in err
    record_property("happens", f"exit 137, within 30 seconds: {said}")
    with pytest.raises(AssertionError, match="no such worker"):
        pid_of_worker(0, folder)
    out, _ = end(start(folder, SEARCH, "--resume"))
    assert "going on from" in out
    same(whole, folder, FOUND)
    out, _ = end(start(folder, SEARCH, "--resume"))
    assert "is finished: nothing to do" in out


@pytest.mark.slow
@pytest.mark.fault("SIGTERM to `tools/launch.py`", lost="nothing")
def test_sigterm_stops_all_after_the_same_step(start, whole, tmp_path, record_property):
    """Within seconds; then the run goes on at once, with one process of two devices."""
    folder = tmp_path / "run"
    process = start(folder, SEARCH)
    until((folder / "checkpoint" / "000002").exists)
    began = time.monotonic()
    process.terminate()
    _, err = end(process, 128 + signal.SIGTERM)
    assert time.monotonic() - began < 25
    ended = "search_cifar.py: ended by SIGTERM, with a checkpoint: --resume goes on from here"
    assert ended in err
    assert f"worker 1: {ended}" in err
    record_property("happens", "exit 143, within seconds: each worker says that it has ended so")
    end(start(folder, SEARCH, "--resume", "--cpus", "2", launch=[]))
    same(whole, folder, FOUND)


@pytest.mark.slow
@pytest.mark.fault("One of several workers hangs", lost=AGAIN)
def test_a_worker_that_hangs_ends_the_job(start, whole, tmp_path, pid_of_worker, record_property):
    folder = tmp_path / "run"
    process = start(folder, SEARCH)
    until((folder / "checkpoint" / "000003").exists)
    began = time.monotonic()
    os.kill(pid_of_worker(1, folder), signal.SIGSTOP)
    _, err = end(process, 1)
    assert time.monotonic() - began < 35
    said = "launch.py: worker 1 is stopped: go on with --resume"
    assert said in err
    record_property("happens", f"exit 1, within 35 seconds: {said}")
    end(start(folder, SEARCH, "--resume"))
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


# The launcher alone: a job whose processes wait, and are gone with it


WAITS = """
import os, signal, sys, time
if os.environ["DMLC_ROLE"] == "worker":
    signal.signal(signal.SIGUSR1, lambda number, frame: sys.exit(3))
os.write(1, f"{os.environ['DMLC_ROLE']}\\n".encode())
time.sleep(SECONDS)
"""


@pytest.fixture
def waiting(tmp_path):
    """`waiting(seconds)`: a launcher whose processes wait so long, once all have begun.

    Its temporary files are in `tmp_path/tmp`.
    """
    (tmp_path / "tmp").mkdir()
    started = []

    def run(seconds, **how):
        command = [*LAUNCH, sys.executable, "-c", WAITS.replace("SECONDS", str(seconds))]
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how,
        )  # fmt: skip
        started.append(process)
        roles = sorted(process.stdout.readline().strip() for _ in range(4))
        assert roles == ["scheduler", "server", "worker", "worker"]
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=60)


def followers(process):
    """The numbers and command lines of what a launcher has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    lines = {int(n): Path(f"/proc/{n}/cmdline").read_text().split("\0") for n in children}
    assert len(lines) == 4
    return lines


def in_group_of(numbers):
    """All living processes below these."""
    found, new = set(), set(numbers)
    while new:
        found |= new
        new = set()
        for number in found:
            path = Path(f"/proc/{number}/task/{number}/children")
            new |= {int(n) for n in path.read_text().split()} if path.exists() else set()
        new -= found
    return found


def alive(numbers):
    """Which of them live: not those that are dead and not waited for."""
    states = {n: Path(f"/proc/{n}/stat") for n in numbers if Path(f"/proc/{n}").exists()}
    return {
        n for n, path in states.items() if path.read_text().rpartition(")")[2].split()[0] != "Z"
    }


@pytest.mark.parametrize("number, status", [("SIGTERM", 143), ("SIGUSR1", 3), ("SIGINT", 130)])
def test_a_signal_ends_all_at_once(waiting, tmp_path, number, status):
    """Whoever waits still, as servers do for workers that have gone, is ended."""
    process = waiting(600)
    below = in_group_of(followers(process))
    assert len(below) == 8
    began = time.monotonic()
    process.send_signal(getattr(signal, number))
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert time.monotonic() - began < 10
    assert not alive(below)
    assert os.listdir(tmp_path / "tmp") == []


def test_a_warning_of_all_processes_ends_no_server(waiting):
    """As SLURM sends it: workers need it still for their checkpoint."""
    process = waiting(600)
    below = in_group_of(followers(process))
    for number in below:
        role = dict(
            pair.split("=", 1)
            for pair in Path(f"/proc/{number}/environ").read_text().split("\0")
            if "=" in pair
        )["DMLC_ROLE"]
        if role != "worker":
            os.kill(number, signal.SIGUSR1)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    assert alive(below) == below


def test_a_second_interrupt_does_not_wait(waiting):
    process = waiting(600)
    for number in [n for n in in_group_of(followers(process)) if n not in followers(process)]:
        os.kill(number, signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_a_follower_that_is_stopped_is_no_orphan(waiting, tmp_path):
    """Its process dies with it, and its temporary files go."""
    process = waiting(600)
    lines = followers(process)
    below = in_group_of(lines)
    (number,) = [n for n, words in lines.items() if "worker1" in words]
    os.kill(number, signal.SIGSTOP)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert process.returncode == 1
    assert "launch.py: worker 1 is not heard of any more: go on with --resume" in err
    assert not alive(below)
    assert os.listdir(tmp_path / "tmp") == []


def test_the_token_is_in_no_command_line(waiting):
    process = waiting(600)
    for words in followers(process).values():
        follow, address, port, name, *command = words[1:]
        assert (Path(follow).name, address, port.isdigit()) == ("follow.py", "127.0.0.1", True)
        assert name in ("scheduler0", "server0", "worker0", "worker1")
        assert command[0] == sys.executable
    process.terminate()
    process.communicate(timeout=60)


def test_strangers_end_no_job(waiting):
    """More idle ones, and noisier ones, than the launcher may have open files."""
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))  # noqa: E731
    process = waiting(4, preexec_fn=few)
    words = next(iter(followers(process).values()))
    lines = []
    for number in range(250):
        line = socket.create_connection((words[2], int(words[3])), 5)
        if number % 5 == 0:
            line.sendall(b"hello 0123456789abcdef0123456789abcdef worker0\nexit 1\n")
        lines.append(line)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    for line in lines:
        line.close()


def test_the_port_of_a_job_is_taken_by_nobody_else():
    """But by ps-lite's scheduler, which shares addresses as ZeroMQ does."""
    root = job.reserved("127.0.0.1")
    address = root.getsockname()
    with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
        other.bind(address)
    with socket.socket() as scheduler:
        scheduler.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        scheduler.bind(address)
        scheduler.listen()
        socket.create_connection(address, 5).close()
    root.close()


def test_a_list_of_hosts_is_a_regular_file_of_any_encoding(tmp_path):
    path = tmp_path / "hosts"
    for content in (b"one\ntwo # here\n", "one\r\n\r\ntwo".encode("utf-16")):
        path.write_bytes(content)
        assert job._hosts(path) == ["one", "two"]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="hosts: no regular file"):
        job._hosts(path)


def test_what_keeps_a_process(monkeypatch):
    """Stopped for a while; not what sleeps, nor what is gone."""
    monkeypatch.setattr(follow, "STUCK", {"T": 0.2, "D": 0.2})
    with subprocess.Popen(["sleep", "600"]) as process:
        watch = follow.Watch(process.pid)
        for _ in range(3):
            assert watch.look() is None
            time.sleep(0.2)
        process.send_signal(signal.SIGSTOP)
        until(lambda: watch.look() == "is stopped")
        process.send_signal(signal.SIGCONT)
        until(lambda: watch.look() is None)
        process.kill()
    assert watch.look() is None
    stat = "1 (a) b) D 1 1 1 0 -1 0 0 0 0 0 7 9 0 0"  # a name with a bracket
    monkeypatch.setattr(follow, "open", lambda path: io.StringIO(stat), raising=False)
    assert watch.look() is None
    time.sleep(0.3)
    assert watch.look() == "waits for a disk that does not answer"
    stat = stat.replace(" 7 ", " 8 ")  # it works
    assert watch.look() is None


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


@pytest.mark.parametrize(
    ("words", "failed", "ending"),
    [(b"exit 2\n", 2, "ended with status 2"), (b"", 1, "is gone")],
)
def test_what_a_host_loses_is_told_from_what_fails_there(words, failed, ending):
    """By its last words; a line that was cut and stays open is not waited for."""
    process = job.Process("worker", 0, "host")
    process.line, other = socket.socketpair()
    process.line.settimeout(follow.SILENCE)
    process.shell = subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"])
    process.shell.wait()
    with process.line, other:
        other.sendall(words)
        if words:
            other.close()
        began = time.monotonic()
        process.look()
        assert time.monotonic() - began < 1
    assert (process.failed, process.ending()) == (failed, ending)


@pytest.mark.parametrize("asked, begun, again", [(10, False, 0), (10, True, 1), (None, False, 1)])
def test_a_job_that_is_warned_before_its_run_has_begun_is_not_put_back(
    monkeypatch, tmp_path, asked, begun, again
):
    """Or it would be warned again, for ever; one that lost its node is."""
    put_back = []
    ended = SimpleNamespace(ask=None, run=lambda: 143, asked=asked, may_go_on=True)
    monkeypatch.setattr(launch, "Job", lambda options: ended)
    monkeypatch.setattr(launch.signal, "signal", lambda *ignored: None)
    monkeypatch.setattr(slurm, "requeue", lambda: put_back.append(1))
    if begun:
        (tmp_path / "args.json").write_text("{}")
    command = ["--slurm", "python", "search.py", f"--save-dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["launch.py", *command])
    assert launch.main() == 143
    assert len(put_back) == again
