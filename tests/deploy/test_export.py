"""Exported networks: any MXNet program loads them, and they compute what Gluon computed."""

import json
import os
import subprocess
import sys

from dsonas_mx import Architecture
from dsonas_mx.deploy import export
from dsonas_mx.deploy.export import import_symbol, load_parameters
from dsonas_mx.io.files import write_json
from dsonas_mx.runs.folder import save_parameters

import mxnet as mx
import numpy as np
import pytest

# No dsonas_mx here, only what MXNet needs on newer Pythons and numpys. Loading gives no warning.
PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy
numpy.bool = bool
import mxnet as mx
warnings.simplefilter("error", UserWarning)
symbol = mx.sym.load(sys.argv[1])
net = mx.gluon.SymbolBlock(symbol, mx.sym.var("data", dtype="float32"))
net.load_parameters(sys.argv[2])
logits = net(mx.nd.array(numpy.load(sys.argv[3]))).asnumpy()
print(json.dumps([logits.tolist(), any(name.startswith("dsonas") for name in sys.modules)]))
"""


@pytest.fixture
def batch():
    return np.random.RandomState(1).randn(5, 1, 8, 8).astype("float32")


@pytest.fixture
def found(tiny_space, some_architecture):
    return some_architecture(tiny_space())


@pytest.mark.parametrize("weighted", [False, True])
def test_the_pair_is_what_was_exported(tmp_path, found, randomised, batch, weighted):
    net = randomised(found, weighted=weighted)
    expected = net(mx.nd.array(batch)).asnumpy()
    done = export.export(net, tmp_path / "deep" / "er" / "net", batch)
    assert done.symbol == tmp_path / "deep" / "er" / "net-symbol.json"
    assert done.parameters == tmp_path / "deep" / "er" / "net-0000.params"
    assert sorted(os.listdir(tmp_path / "deep" / "er")) == ["net-0000.params", "net-symbol.json"]
    loaded = import_symbol(done.symbol, done.parameters)
    actual = loaded(mx.nd.array(batch)).asnumpy()
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 1e-3  # the samples differ
    assert 0 <= done.difference < 1e-5
    other = loaded(mx.nd.array(batch[:2])).asnumpy()  # another batch size
    np.testing.assert_allclose(other, expected[:2], atol=1e-5)


def test_the_difference_is_measured(tmp_path, found, randomised, batch, monkeypatch):
    """A network that comes back wrong shows."""
    load = export.import_symbol
    monkeypatch.setattr(export, "import_symbol", lambda *paths: lambda x: load(*paths)(x) + 0.25)
    done = export.export(randomised(found), tmp_path / "net", batch)
    assert done.difference == pytest.approx(0.25, abs=1e-5)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="plain mxnet does not import here")
def test_loads_without_this_project(tmp_path, found, randomised, batch):
    net = randomised(found)
    expected = net(mx.nd.array(batch)).asnumpy()
    done = export.export(net, tmp_path / "net", batch)
    np.save(tmp_path / "batch.npy", batch)
    words = [str(path) for path in (done.symbol, done.parameters, tmp_path / "batch.npy")]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    logits, ours = json.loads(process.stdout)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert not ours


def test_a_failure_leaves_no_half_of_a_pair(tmp_path, found, randomised, batch, monkeypatch):
    net = randomised(found)

    def fail(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "import_symbol", fail)
    with pytest.raises(OSError, match="No space"):
        export.export(net, tmp_path / "net", batch)
    assert os.listdir(tmp_path) == []


def test_load_parameters(found, randomised):
    source, target = randomised(found, seed=1), randomised(found, seed=2)
    arrays = {name: p.data() for name, p in source.collect_params().items()}
    load_parameters(target, {**arrays, "auxiliary_fc_bias": mx.nd.ones(3)})
    for name, parameter in target.collect_params().items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), arrays[name].asnumpy())
    with pytest.raises(ValueError, match=r"^parameter fc_bias must have the shape \(3,\), got"):
        load_parameters(target, {**arrays, "fc_bias": mx.nd.ones(4)})
    del arrays["fc_weight"]
    with pytest.raises(ValueError, match="^parameter fc_weight is missing$"):
        load_parameters(target, arrays)


# tools/export.py


def test_a_supernet_is_not_loaded_as_what_was_found(found, randomised):
    supernet = randomised(found, weighted=True)
    arrays = {name: p.data() for name, p in supernet.collect_params().items()}
    with pytest.raises(ValueError, match="of a supernet in a search .lambdas are λ.: train"):
        load_parameters(randomised(found), arrays)


@pytest.fixture
def trained(tmp_path, found, randomised):
    """A run folder as a training leaves it."""
    folder = tmp_path / "run"
    folder.mkdir()
    net = randomised(found)
    found.save(folder / "architecture.json")
    save_parameters(folder / "model.params", net)
    return folder, net


def test_the_tool(trained, script, batch, tmp_path):
    folder, net = trained
    out_prefix = tmp_path / "to" / "deployed"
    status, out, err = script("tools/export.py", folder, "--out", out_prefix)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[:3] == [
        f"{out_prefix}-symbol.json",
        f"{out_prefix}-0000.params",
        f"{out_prefix}.json",
    ]
    assert lines[3] == "on 16 random images: no data set is here"
    form, difference, _, agreement, *_ = lines[5].split()
    assert (form, agreement) == ("mxnet", "100.00%")
    assert 0 <= float(difference) < 1e-5
    loaded = import_symbol(lines[0], lines[1])
    expected = net(mx.nd.array(batch)).asnumpy()
    np.testing.assert_allclose(loaded(mx.nd.array(batch)).asnumpy(), expected, atol=1e-5)


def test_the_tool_replaces_nothing(trained, script, tmp_path):
    folder, _ = trained
    (tmp_path / "other-symbol.json").write_text("of another network")
    status, out, err = script("tools/export.py", folder, "--out", tmp_path / "other")
    assert (status, out) == (
        2,
        "",
    ) and "other-symbol.json is there already: remove it, or give another" in err
    assert (tmp_path / "other-symbol.json").read_text() == "of another network"


def test_the_tool_says_when_the_network_came_back_wrong(trained, script, monkeypatch):
    folder, _ = trained
    row = {"form": "mxnet", "difference": 0.25, "relative": 0.1, "agreement": 1.0}
    rows = [{**row, "ms_1": 1.0, "ms_8": None, "error": None}]
    monkeypatch.setattr("dsonas_mx.deploy.forms.check", lambda *args: rows)
    status, out, _ = script("tools/export.py", folder)
    assert status == 1
    *_, row, last = out.splitlines()
    assert row.split() == ["mxnet", "0.25", "0.1", "100.00%", "1.00", "–"]
    assert last == "difference  0.25 at most, of 16 images' outputs in the form mxnet"


def damage(folder, what):
    parameters = folder / "model.params"
    if what == "missing":
        parameters.unlink()
    elif what == "truncated":
        parameters.write_bytes(parameters.read_bytes()[:-9])
    elif what == "text":
        parameters.write_text("these are no parameters")
    elif what == "unnamed":
        mx.nd.save(str(parameters), [mx.nd.ones(2)])
    elif what == "no architecture":
        (folder / "architecture.json").unlink()
    elif what == "other architecture":
        space = Architecture.load(folder / "architecture.json").space
        write_json(folder / "architecture.json", Architecture.complete(space).to_json())


@pytest.mark.parametrize(
    "what, message",
    [
        ("missing", "has no model.params: train a network with train/train_cifar.py"),
        ("truncated", "model.params: the file is cut off, or damaged"),
        ("text", "model.params: not a .params file of MXNet"),
        ("unnamed", "model.params: 0 names for 1 arrays"),
        ("no architecture", "architecture.json"),
        ("other architecture", "parameter stage1_block1_"),
    ],
)
def test_bad_runs(trained, script, what, message):
    folder, _ = trained
    damage(folder, what)
    before = sorted(os.listdir(folder))
    status, out, err = script("tools/export.py", folder)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err
    assert sorted(os.listdir(folder)) == before


def test_bad_options(trained, script):
    folder, _ = trained
    status, _, err = script("tools/export.py", folder, "--batch-size", 0)
    assert (status, err) == (2, "export.py: --batch-size must be at least 1, got 0\n")
    status, _, err = script("tools/export.py", folder, "--batch", "some")
    assert (status, err) == (2, "export.py: --batch must be dynamic or a number from 1, got some\n")
    status, _, err = script("tools/export.py", folder, "--int8")
    assert status == 2
    assert "--int8 needs images: give --calibrate" in err
    status, _, err = script("tools/export.py", folder.parent / "none")
    assert status == 2
    assert len(err.splitlines()) == 1
