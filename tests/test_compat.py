"""MXNet is importable, its executors sum gradients rightly, and what is missing is said."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

from dsonas_mx import _compat

import mxnet as mx
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def run(code: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter; an environment variable given as None is removed."""
    changed = {**os.environ, **environment}
    changed = {name: value for name, value in changed.items() if value is not None}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=changed, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("version", [(3, 8), (3, 11), (3, 13)])
def test_python_in_range_is_accepted(version: tuple[int, int]) -> None:
    _compat.check_python(version)


@pytest.mark.parametrize("version", [(2, 7), (3, 7), (3, 14), (4, 0)])
def test_python_out_of_range_is_refused_in_one_line(version: tuple[int, int]) -> None:
    with pytest.raises(ImportError, match="needs Python 3.8 to 3.13, this is") as caught:
        _compat.check_python(version)
    assert "{}.{}: install".format(*version) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_this_numpy_has_every_name_that_mxnet_takes() -> None:
    assert _compat.missing_numpy_names(np) == {}


def test_names_brought_back_do_what_numpy_did() -> None:
    kept = ("inf", "nan", "all", "any", "prod", "isin", "ravel", "sort", "round")
    bare = types.SimpleNamespace(**{name: getattr(np, name) for name in kept}, trapezoid=sum)
    names = _compat.missing_numpy_names(bare)

    assert names["bool"] is bool
    assert names["NINF"] == -np.inf
    assert np.signbit(names["NZERO"]) and not np.signbit(names["PZERO"])
    assert np.isnan(names["NaN"]) and np.isnan(names["NAN"])
    assert names["trapz"] is sum
    np.testing.assert_array_equal(names["in1d"]([[1, 2], [3, 4]], [2, 3]), [0, 1, 1, 0])
    np.testing.assert_array_equal(names["msort"]([[3, 1], [2, 4]]), [[2, 1], [3, 4]])
    with pytest.raises(NotImplementedError, match=r"numpy\.npv was removed"):
        names["npv"](0.1, [1, 2])


def test_names_that_numpy_has_are_left_alone() -> None:
    fake = types.SimpleNamespace(**vars(np))
    fake.NaN = fake.round_ = "numpy's own"
    assert not {"NaN", "round_"} & set(_compat.missing_numpy_names(fake))


@pytest.mark.parametrize(
    ("given", "expected"), [(None, "100"), ("100", "100"), ("250", "250"), ("", "100")]
)
def test_gradient_sum_cap(
    given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(_compat.GRADIENT_SUM_CAP, raising=False)
    if given is not None:
        monkeypatch.setenv(_compat.GRADIENT_SUM_CAP, given)
    _compat.set_gradient_sum_cap()
    assert os.environ[_compat.GRADIENT_SUM_CAP] == expected


def test_gradient_sum_cap_that_is_too_low_is_raised_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(_compat.GRADIENT_SUM_CAP, "8")
    with pytest.warns(RuntimeWarning, match="=8 can make gradients wrong: using 100"):
        _compat.set_gradient_sum_cap()
    assert os.environ[_compat.GRADIENT_SUM_CAP] == "100"


# Many consumers of one map, as a bound graph and by autograd; prints the largest relative
# difference. Without the cap one of these goes wrong with MKLDNN off, the other with it on.
CONVOLUTIONS = "x"
ACTIVATED = "F.Activation(x * float(k + 1), 'relu')"
CONSUMERS = """
import dsonas_mx
import mxnet as mx, numpy as np
worst = 0
for consumers in (7, 8, 9, 17):
    rng = np.random.RandomState(consumers)
    arrays = dict(x=rng.randn(2, 8, 9, 9))
    arrays.update(("w%d" % k, rng.randn(8, 8, 1, 1)) for k in range(consumers))
    arrays = {name: mx.nd.array(value) for name, value in arrays.items()}
    def network(F, a):
        x = F.relu(a["x"])
        outs = [F.Convolution(SOURCE, a["w%d" % k], no_bias=True, kernel=(1, 1), num_filter=8)
                for k in range(consumers)]
        return F.add_n(*[F.square(out) for out in outs]).sum()
    grads = {name: mx.nd.zeros_like(value) for name, value in arrays.items()}
    symbol = network(mx.sym, {name: mx.sym.Variable(name) for name in arrays})
    executor = symbol.bind(mx.cpu(), arrays, args_grad=grads)
    executor.forward(is_train=True)
    executor.backward(mx.nd.ones(1))
    graph = {name: grad.asnumpy() for name, grad in grads.items()}
    for value in arrays.values():
        value.attach_grad()
    with mx.autograd.record():
        out = network(mx.nd, arrays)
    out.backward()
    for name, value in arrays.items():
        expected = value.grad.asnumpy()
        difference = abs(graph[name] - expected).max() / abs(expected).max()
        worst = max(worst, difference if np.isfinite(difference) else np.inf)
print(worst)
"""


@pytest.mark.parametrize(("mkldnn", "source"), [("0", CONVOLUTIONS), ("1", ACTIVATED)])
def test_bound_graph_sums_many_gradients_like_autograd(mkldnn: str, source: str) -> None:
    environment = {_compat.GRADIENT_SUM_CAP: None, "MXNET_MKLDNN_ENABLED": mkldnn}
    result = run(CONSUMERS.replace("SOURCE", source), **environment)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 1e-5


# numpy and distutils are made ready by hand, as a user would who imports mxnet first.
MXNET_FIRST = """
import numpy
try:
    import setuptools
except ImportError:
    pass
names = {}
exec(open("dsonas_mx/_compat.py").read().replace("\\nprepare()\\n", "\\n"), names)
for name, value in names["missing_numpy_names"](numpy).items():
    setattr(numpy, name, value)
import mxnet as mx
if COMPUTE:
    x = mx.nd.ones(2)
    x.attach_grad()
    with mx.autograd.record():
        y = mx.nd.add_n(x * 1, x * 2, x * 3)
    y.backward()
import dsonas_mx
"""


def test_mxnet_imported_first_is_mended_while_it_has_computed_no_gradient() -> None:
    code = MXNET_FIRST.replace("COMPUTE", "False") + CONSUMERS.replace("SOURCE", CONVOLUTIONS)
    result = run(code, **{_compat.GRADIENT_SUM_CAP: None, "MXNET_MKLDNN_ENABLED": "0"})
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 1e-5


def test_mxnet_that_has_computed_gradients_without_the_cap_is_refused() -> None:
    code = MXNET_FIRST.replace("COMPUTE", "True")
    result = run(code, **{_compat.GRADIENT_SUM_CAP: None})
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("ImportError: mxnet has already computed gradients without")
    assert run(code, **{_compat.GRADIENT_SUM_CAP: "100"}).returncode == 0


@pytest.mark.parametrize("missing", ["mxnet", "numpy"])
def test_missing_package_is_named_with_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find(name)
    )
    monkeypatch.delitem(sys.modules, missing)
    with pytest.raises(ImportError, match=f"needs {missing}, which is not installed") as caught:
        _compat.check_installed()
    no_deps = "--no-deps " if sys.version_info >= (3, 13) else ""
    install = f"make setup, then . .venv/bin/activate; or pip install {no_deps}mxnet==1.9.1"
    assert str(caught.value).endswith(f": {install}")


SCRIPTS = [*ROOT.glob("train/*.py"), *ROOT.glob("tools/*.py")]


@pytest.mark.parametrize("script", sorted(str(path.relative_to(ROOT)) for path in SCRIPTS))
def test_scripts_say_in_one_line_what_is_missing(script: str) -> None:
    """Python without its site-packages: no numpy, no mxnet."""
    command = [sys.executable, "-S", script, "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if script == "tools/launch.py":  # runs on whatever Python starts the processes
        assert result.returncode == 0
        return
    (line,) = result.stderr.splitlines()
    assert result.returncode == 1
    assert line.startswith(f"{Path(script).name}: dsonas_mx needs numpy, which is not installed: ")


def fake_mxnet(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mxnet.py").write_text(text)
    monkeypatch.delitem(sys.modules, "mxnet")
    monkeypatch.syspath_prepend(str(folder))


def test_an_interrupt_while_mxnet_is_loaded_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mxnet.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    result = subprocess.run(
        [sys.executable, "train/search_cifar.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (130, "search_cifar.py: interrupted\n")


def test_gpu_wheel_without_a_driver_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_mxnet(tmp_path, "raise OSError('libcuda.so.1: cannot open')", monkeypatch)
    monkeypatch.setattr(_compat, "has_gpu_wheel", lambda: True)
    with pytest.raises(ImportError, match=r"libcuda\.so\.1.*NVIDIA's driver.*GPU=1.*GPU=0$"):
        _compat.import_mxnet()


def test_another_mxnet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_mxnet(tmp_path, "__version__ = '1.5.1'", monkeypatch)
    with pytest.raises(ImportError, match=r"needs mxnet 1\.9\.1, found 1\.5\.1: make setup"):
        _compat.import_mxnet()


def test_a_small_network_trains() -> None:
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(4, 3), mx.gluon.nn.BatchNorm(), mx.gluon.nn.Dense(2))
    net.initialize()
    net.hybridize()
    trainer = mx.gluon.Trainer(net.collect_params(), "nag", dict(learning_rate=0.1, momentum=0.9))
    rng = np.random.RandomState(0)
    data, label = mx.nd.array(rng.randn(8, 3, 6, 6)), mx.nd.array(rng.randint(0, 2, 8))
    losses = []
    for _ in range(3):
        with mx.autograd.record():
            loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(net(data), label)
        loss.backward()
        trainer.step(8)
        losses.append(float(loss.mean().asscalar()))
    assert losses[2] < losses[0]


def test_an_image_packed_into_a_record_comes_back() -> None:
    image = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    header = mx.recordio.IRHeader(0, 7.0, 1, 0)
    record = mx.recordio.pack_img(header, image, img_fmt=".png")
    found, unpacked = mx.recordio.unpack_img(record)
    assert found.label == 7.0
    np.testing.assert_array_equal(unpacked, image)


def test_mxnet_is_made_ready_when_it_is_imported_first() -> None:
    """By whom ever; a --help needs none of it. There is one module, which has all it had."""
    code = (
        "import dsonas_mx, sys; print('mxnet' in sys.modules); from mxnet.gluon import nn;"
        "import mxnet as mx; print(mx.executor.Executor.__name__);"
        "print(mx.__spec__.loader is mx.__loader__)"
    )
    assert run(code).stdout.split() == ["False", "Executor", "True"]


# Threads


def test_threads_wait_asleep_unless_the_environment_says_otherwise(monkeypatch) -> None:
    for given in ({}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "1000"}):
        for name in _compat.WAITING:
            monkeypatch.setenv(name, "")  # so that what the test sets is undone
            monkeypatch.delenv(name)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        _compat.wait_asleep()
        found = {name: os.environ[name] for name in _compat.WAITING if name in os.environ}
        assert found == (given or {"OMP_WAIT_POLICY": "PASSIVE"})


def cgroup(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_text(content)


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/", {"": {"cpu_max": "150000 100000\n"}}, 1.5),
        ("0::/a/b", {"a": {"cpu_max": "300000 100000"}, "a/b": {"cpu_max": "max 100000"}}, 3),
        ("0::/of/the/host", {"": {"cpu_max": "200000 100000"}}, 2),
        (
            "1:cpu:/job",
            {"cpu/job": {"cpu_cfs_quota_us": "50000", "cpu_cfs_period_us": "100000"}},
            0.5,
        ),
        (
            "4:cpu,cpuacct:/",
            {"cpu,cpuacct": {"cpu_cfs_quota_us": "400000", "cpu_cfs_period_us": "100000"}},
            4,
        ),
        ("1:cpu:/", {"cpu": {"cpu_cfs_quota_us": "-1", "cpu_cfs_period_us": "100000"}}, 8),
        ("2:memory:/job", {"memory/job": {"cpu_max": "1 1"}}, 8),
        ("0::/", {"": {"cpu_max": "damaged"}}, 8),
    ],
)
def test_the_quota_of_a_container_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict, expected: float
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    for folder, content in files.items():
        cgroup(tmp_path / "mount" / folder, **content)
    (tmp_path / "groups").write_text(f"{groups}\n")
    assert _compat.usable_cpus(str(tmp_path / "mount"), str(tmp_path / "groups")) == expected


def test_threads_are_those_of_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "")  # so that what the test sets is undone
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(_compat, "usable_cpus", lambda: 1.5)
    _compat.use_all_cores()
    assert os.environ["OMP_NUM_THREADS"] in ("1", "2")  # by threads of a core
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(_compat, "usable_cpus", lambda: 12.0)
    monkeypatch.setenv(_compat.WORKERS_HERE, "3")  # of a job, on this machine
    _compat.use_all_cores()
    assert os.environ["OMP_NUM_THREADS"] in ("2", "4")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    _compat.use_all_cores()
    assert os.environ["OMP_NUM_THREADS"] == "7"
