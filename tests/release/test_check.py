"""The supernet against what the authors' code computed, and against an edge-by-edge oracle."""

import json

from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.release import check as reference
from dsonas_mx.release.names import to_authors, to_ours
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import SearchSpace
from dsonas_mx.training.loss import cross_entropy

import edge_by_edge
import mxnet as mx
import numpy as np
import pytest

from symbols import DSONAS

FILES = {"share": "cifar_share_supernet.npz", "full": "cifar_full_supernet.npz"}


def build(architecture, fix_gamma):
    return DSONAS(architecture, weighted=True, fix_gamma=fix_gamma)


def assert_close(expected, computed):
    """Outputs and statistics within 1e-4, gradients within 1e-3 of an array's largest value."""
    assert set(computed) == set(expected)
    steepest = max(np.abs(v).max() for k, v in expected.items() if k.startswith("grad:"))
    for name, array in expected.items():
        difference = np.abs(computed[name] - array).max()
        if name.startswith("grad:"):
            # An array that is all zero, such as of a fixed gamma, is measured against all others.
            assert difference <= 1e-3 * (np.abs(array).max() or steepest), name
        else:
            assert difference <= 1e-4, name


@pytest.mark.parametrize("scope", FILES)
def test_golden_supernet_on_the_graphs_of_the_search(scope, golden, operators):
    file = reference.read_reference(golden / FILES[scope])
    architecture = reference.read_architecture(file)
    assert architecture == Architecture.complete(
        SearchSpace(scope=scope, blocks=(1, 1, 1), width=4)
    )
    computed = reference.Network(file, architecture, build).compute()
    assert_close(file.expected, computed)


@pytest.mark.parametrize("scope", FILES)
def test_golden_supernet_in_the_form_for_gpus(scope, golden, plain, monkeypatch):
    """But for inference, where MKLDNN lays weights out anew, which are slices of an array here."""
    monkeypatch.setattr(TrainGraph, "is_for_gpus", True)
    file = reference.read_reference(golden / FILES[scope])
    computed = reference.Network(file, reference.read_architecture(file), build).compute()
    expected = dict(file.expected)
    del computed["out:eval"], expected["out:eval"]
    assert_close(expected, computed)


@pytest.mark.parametrize("scope", FILES)
def test_golden_supernet_in_one_backward(scope, golden, operators):
    """Without a split, one graph computes all gradients; fixed gammas have none."""
    with np.load(golden / FILES[scope]) as file:
        arrays = dict(file)
    space = SearchSpace(scope=scope, blocks=(1, 1, 1), width=4)
    architecture = Architecture.complete(space)
    net = build(architecture, json.loads(str(arrays["meta"]))["fix_gamma"])
    net.initialize()
    parameters = net.collect_params()
    theirs = {
        name[4:]: array
        for name, array in arrays.items()
        if name[:4] in ("arg:", "aux:") and name not in ("arg:data", "arg:softmax_label")
    }
    for name, array in to_ours(theirs, architecture).items():
        parameters[name].set_data(mx.nd.array(array))
    data, label = arrays["arg:data"], arrays["arg:softmax_label"]
    graph = TrainGraph(net, cross_entropy, data.shape, label.shape, [mx.cpu()])
    (outputs,) = graph.step("all", data, label)
    graph.wait()

    expected = np.log(arrays["out:train"])
    np.testing.assert_allclose(mx.nd.log_softmax(outputs.answers).asnumpy(), expected, atol=1e-4)
    np.testing.assert_allclose(
        outputs.loss.asnumpy(), -expected[np.arange(len(label)), label.astype(int)], atol=1e-4
    )
    moved = {n: p.data().asnumpy() for n, p in parameters.items() if "_running_" in n}
    for name, array in to_authors(moved, architecture).items():
        np.testing.assert_allclose(array, arrays[f"aux_after:{name}"], atol=1e-4)
    learned = {n: p.grad().asnumpy() for n, p in parameters.items() if p.grad_req != "null"}
    theirs = to_authors(learned, architecture)
    for name, array in theirs.items():
        largest = np.abs(arrays[f"grad:{name}"]).max()
        assert np.abs(array - arrays[f"grad:{name}"]).max() <= 1e-3 * largest, name
    fixed = {name[5:] for name in arrays if name.startswith("grad:")} - set(theirs)
    assert len(fixed) == 48 + 3 + 4  # of operations, shortcuts, reductions
    assert all(name.endswith("_bn_gamma") for name in fixed)
    assert not any(arrays[f"grad:{name}"].any() for name in fixed)


SPACES = {
    "three operations, two stages, no gamma fixed": (
        SearchSpace(
            levels=3, operations=("sep3", "max", "sep7"), blocks=(2, 1), width=6, num_classes=7,
            image_size=16,
        ),
        {"fix_gamma": "none"},
    ),
    "full scope in layers, all gammas fixed": (
        SearchSpace(
            "full", 2, ("sep5", "avg"), blocks=(1, 2, 1), width=6, image_size=16
        ),
        {"fix_gamma": "all", "layout": "layers"},
    ),
    "full scope, five operations, one stage": (
        SearchSpace(
            "full", 2, ("sep3", "sep5", "max", "avg", "sep7"), blocks=(1,), width=8, image_size=16
        ),
        {},
    ),
    "one level": (SearchSpace(levels=1, blocks=(1, 1, 1), width=4, image_size=16), {}),
    "imagenet": (
        SearchSpace.imagenet(
            levels=2, blocks=(1, 1, 2, 1), width=8, image_size=64, num_classes=20
        ),
        {"batch": 6},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPACES)
def test_other_supernets_against_one_operator_a_connection(name, operators, tmp_path):
    space, options = SPACES[name]
    np.savez(tmp_path / "reference.npz", **edge_by_edge.reference(space, 0, **options))
    file = reference.read_reference(tmp_path / "reference.npz")
    architecture = reference.read_architecture(file)
    assert architecture == Architecture.complete(space)
    computed = reference.Network(file, architecture, build).compute()
    differences = reference.compare(file.expected, computed)
    assert {difference.name for difference in differences} == set(file.expected)
    assert reference.failures(differences, 1e-3) == []


# Comparing


@pytest.mark.parametrize("name", ["grad:w", "out:eval"])
def test_gradients_at_a_kink_are_compared_on_the_plain_graph(name, monkeypatch):
    """Where the native operators and the reference may round to different sides of it."""
    expected = {"out:eval": np.ones(1), "grad:w": np.ones(2)}

    class Network:
        def __init__(self, file, architecture, build, plain=False):
            self.is_native = not plain

        def compute(self):
            return {**expected, name: expected[name] * 1.5} if self.is_native else expected

    monkeypatch.setattr(reference, "Network", Network)
    file = reference.Reference({}, np.ones(1), np.ones(1), {}, expected)
    checked = reference.check(file, None, None, 1e-3)
    failed = reference.failures(checked.differences, 1e-3)
    if name == "grad:w":
        assert not checked.is_native and not failed
        assert [difference.name for difference in checked.of_native] == ["grad:w"]
    else:  # rounding is no excuse
        assert checked.is_native and not checked.of_native
        assert [difference.name for difference in failed] == ["out:eval"]


def test_relative_differences():
    expected = {
        "out:train": np.array([0.5, 0.25]),
        "grad:w": np.array([[2.0, -4.0]]),
        "grad:bn_gamma": np.zeros(2),
        "grad:lambda_after": np.array([[1.0]]),
        "aux_after:bn_moving_mean": np.array([10.0]),
    }
    computed = {name: array.copy() for name, array in expected.items()}
    computed["grad:w"][0, 0] += 0.4
    computed["grad:bn_gamma"][1] = -0.2
    computed["aux_after:bn_moving_mean"][0] = np.nan
    computed["grad:fixed_gamma"] = np.zeros(3)  # zero by definition: the file need not have it
    differences = reference.compare(expected, computed)
    relative = {difference.name: difference.relative for difference in differences}
    assert relative == pytest.approx(
        {
            "out:train": 0,
            "grad:w": 0.1,
            "grad:bn_gamma": 0.05,
            "grad:lambda_after": 0,
            "aux_after:bn_moving_mean": np.nan,
        },
        nan_ok=True,
    )
    groups = {difference.name: difference.group for difference in differences}
    assert groups["grad:lambda_after"] == "λ gradients"
    assert groups["aux_after:bn_moving_mean"] == "statistics"
    assert reference.largest_of(differences, "gradients").name == "grad:w"
    assert reference.largest_of(differences, "statistics").name == "aux_after:bn_moving_mean"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grad:x": np.ones(1)}, "'grad:x' is nothing that the network computes"),
        ({"grad:w": np.ones(3)}, r"grad:w has the shape \(3,\), not \(2,\)"),
        ({"grad:w": None}, "grad:w is not in the file"),
        ({"out:eval": None}, "out:eval is not in the file"),
    ],
)
def test_unmatched_arrays(change, message):
    computed = {"out:eval": np.zeros(1), "grad:w": np.ones(2)}
    expected = {k: v for k, v in {**computed, **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        reference.compare(expected, computed)


# Files


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04 cut off", b"\x93NUMPY", b"\x80\x04K\x01."]
)
def test_what_is_no_npz_is_refused(content, tmp_path):
    (tmp_path / "file.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"file\.npz: ") as caught:
        reference.read_reference(tmp_path / "file.npz")
    assert "\n" not in str(caught.value)


def test_a_damaged_golden_file_is_refused(golden, tmp_path):
    content = (golden / FILES["share"]).read_bytes()
    for damaged in (content[:-1000], content[: len(content) // 2], content[1000:]):
        (tmp_path / "file.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"file\.npz: "):
            reference.read_reference(tmp_path / "file.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"meta": None}, "no array 'meta'"),
        ({"out:eval": None}, "no array 'out:eval'"),
        ({"meta": np.array("[]")}, "meta must be a JSON object"),
        ({"meta": np.array("{")}, "meta is not JSON: Expecting property name"),
        ({"out:train": np.array(["a"] * 10)}, "out:train is not an array of numbers"),
        ({"arg:fc1_bias": np.array(["a"] * 10)}, "arg:fc1_bias is not an array of numbers"),
        ({"meta": np.array([{}])}, "not an .npz file of plain arrays"),
        ({"arg:data": np.ones((2, 3))}, "arg:data has the shape"),
        ({"arg:softmax_label": np.ones(3)}, "arg:data has the shape"),
    ],
)
def test_other_arrays_are_refused(change, message, tmp_path):
    arrays = {
        "meta": np.array("{}"),
        "arg:data": np.ones((2, 3, 8, 8)),
        "arg:softmax_label": np.ones(2),
        "out:train": np.ones((2, 10)),
        "out:eval": np.ones((2, 10)),
    }
    arrays = {name: array for name, array in {**arrays, **change}.items() if array is not None}
    np.savez(tmp_path / "file.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        reference.read_reference(tmp_path / "file.npz")
