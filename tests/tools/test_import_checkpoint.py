"""The tool that imports checkpoints of the authors' search."""

import json
import re
from pathlib import Path

from dsonas_mx.cost import count as cost
from dsonas_mx.data import DATA_SETS, load_data_set
from dsonas_mx.release.names import export_checkpoint, to_authors, to_ours
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import SearchSpace

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model


@pytest.fixture
def attempt(script, tmp_path):
    """Write a checkpoint and import it to `tmp_path / "deep" / "out"` → status, stdout, stderr."""

    def write_and_import(arrays, *options):
        path = tmp_path / "theirs-0007.params"
        mx.nd.save(str(path), {k: mx.nd.array(v) for k, v in arrays.items()})
        words = (tmp_path / "theirs", 7, "--out", tmp_path / "deep" / "out", *options)
        return script("tools/import_checkpoint.py", *words)

    return write_and_import


@pytest.fixture
def convert(attempt, tmp_path):
    """Write a checkpoint and import it: the folder that the tool has made, and what it printed."""

    def write_and_import(arrays, *options):
        status, out, err = attempt(arrays, *options)
        assert (status, err) == (0, "")
        return tmp_path / "deep" / "out", out

    return write_and_import


def golden_checkpoint(golden, scope):
    with np.load(golden / f"cifar_{scope}_supernet.npz") as file:
        return {
            name: file[name]
            for name in file.files
            if name[:4] in ("arg:", "aux:") and name not in ("arg:data", "arg:softmax_label")
        }


def scales(checkpoint):
    return {name: array for name, array in checkpoint.items() if name.startswith("arg:lambda")}


@pytest.mark.parametrize("scope", ("share", "full"))
def test_complete_supernet_computes_the_same(scope, golden, convert):
    out, _ = convert(golden_checkpoint(golden, scope))
    assert sorted(path.name for path in out.iterdir()) == ["architecture.json", "model.params"]
    architecture = Architecture.load(out / "architecture.json")
    space = SearchSpace(scope=scope, blocks=(1, 1, 1), width=4)
    assert (architecture.space, architecture.kept) == (space, Architecture.complete(space).kept)
    assert architecture.origin["epoch"] == 7
    net = get_model("dsonas", architecture, weighted=True, fix_gamma="operations")
    net.load_parameters(str(out / "model.params"))
    with np.load(golden / f"cifar_{scope}_supernet.npz") as file:
        data, after, expected = file["arg:data"], dict(file), file["out:eval"]
    moved = {n[10:]: a for n, a in after.items() if n.startswith("aux_after:")}
    for name, array in to_ours(moved, architecture).items():
        net.collect_params()[name].set_data(mx.nd.array(array))
    np.testing.assert_allclose(mx.nd.softmax(net(mx.nd.array(data))).asnumpy(), expected, atol=1e-5)


@pytest.mark.parametrize("shrunk", (False, True), ids=["zeros", "without what is removed"])
def test_what_was_found_computes_what_the_supernet_does(shrunk, golden, convert):
    """Whether the file still has the arrays of what its zeros have removed, or not."""
    checkpoint = golden_checkpoint(golden, "full")
    # The supernet's ReLU of an empty sum is its shift, unless that is below zero.
    checkpoint["arg:stage2_unit1_bn_beta"] = np.full(8, -100)
    theirs = {name[4:]: array for name, array in checkpoint.items()}
    space = SearchSpace(scope="full", blocks=(1, 1, 1), width=4)
    supernet = Architecture.complete(space)
    kept = Architecture.random(space, 3, density=0.3)
    lambdas = np.where(kept.kept, np.random.RandomState(0).rand(3, 124) + 0.1, 0)
    lambdas[1] = 0  # nothing is left of the second block
    reductions = [[0.0, 0.4], [0.2, 0.3]]
    found = Architecture.from_lambdas(space, lambdas, reductions)
    for row in range(3):
        theirs[f"lambda_stage{row + 1}_unit1"] = lambdas[row : row + 1]
    for row in range(2):
        theirs[f"lambda_stage{row + 1}_unit2"] = np.array([reductions[row]])
    if shrunk:
        theirs = to_authors(to_ours(theirs, found), found)
        del theirs["lambda_stage2_unit1"]
    kinds = {True: "aux", False: "arg"}
    out, _ = convert({f"{kinds['_moving_' in name]}:{name}": a for name, a in theirs.items()})
    assert Architecture.load(out / "architecture.json").to_json() == {
        **found.to_json(),
        "origin": {"source": "a checkpoint of the authors' release", "epoch": 7},
    }

    small = get_model("dsonas", found, weighted=True)
    small.load_parameters(str(out / "model.params"))
    large = get_model("dsonas", supernet, weighted=True)
    large.initialize()
    complete = {name[4:]: array for name, array in checkpoint.items()}
    for name in theirs:
        if name.startswith("lambda"):
            complete[name] = theirs[name]
    if shrunk:
        complete["lambda_stage2_unit1"] = np.zeros((1, 124))
    for name, array in to_ours(complete, supernet).items():
        large.collect_params()[name].set_data(mx.nd.array(array))
    data = mx.nd.random.uniform(shape=(2, 3, 32, 32))
    np.testing.assert_allclose(small(data).asnumpy(), large(data).asnumpy(), rtol=1e-4, atol=1e-5)


def test_scales_alone(golden, convert):
    checkpoint = scales(golden_checkpoint(golden, "share"))
    checkpoint["arg:lambda_after"][0, 3:] = 0
    out, printed = convert(checkpoint)
    assert [path.name for path in out.iterdir()] == ["architecture.json"]
    assert "no weights" in printed
    architecture = Architecture.load(out / "architecture.json")
    # The last stage and the width are not in the file: CIFAR-10's.
    assert architecture.space == SearchSpace(blocks=(1, 1, 8), width=48)
    assert architecture.live_nodes(0) == ("1.sep3", "1.sep5", "1.max")


def test_options_say_what_scales_cannot(golden, convert):
    checkpoint = scales(golden_checkpoint(golden, "share"))
    options = "--blocks 1 --width 16 --operations sep7,sep3,max,avg --levels 4"
    out, _ = convert(checkpoint, *options.split())
    space = Architecture.load(out / "architecture.json").space
    assert space == SearchSpace(
        blocks=(1, 1, 1), width=16, operations=("sep3", "max", "avg", "sep7")
    )


def test_imagenet_by_three_reductions(convert):
    names = {f"lambda_layer_{m}_{k}": 1 + 4 * (m - 1) for m in (2, 3, 4) for k in (1, 2, 3, 4)}
    names.update({"lambda_after": 16, "lambda_stage1_unit3": 2, "lambda_stage2_unit3": 2})
    names["lambda_stage3_unit14"] = 2
    out, _ = convert({f"arg:{name}": np.ones((1, size)) for name, size in names.items()})
    architecture = Architecture.load(out / "architecture.json")
    assert architecture.space == SearchSpace.imagenet()
    assert cost.count(architecture).parameters == 12_459_558


def test_an_empty_architecture_and_dead_branches(golden, convert):
    checkpoint = golden_checkpoint(golden, "share")
    for name in scales(checkpoint):
        checkpoint[name] = np.zeros_like(checkpoint[name])
    checkpoint["arg:lambda_stage2_unit2"][0] = 0.5, 0
    out, printed = convert(checkpoint)
    architecture = Architecture.load(out / "architecture.json")
    assert architecture.num_connections == 0
    assert architecture.reductions == ((False, True), (True, False))
    assert f"{cost.count(architecture).parameters:,} parameters" in printed
    net = get_model("dsonas", architecture, weighted=True)
    net.load_parameters(str(out / "model.params"))
    assert net(mx.nd.zeros((1, 3, 32, 32))).shape == (1, 10)


def test_inputs_in_the_file_are_left_out(golden, convert):
    inputs = {"arg:data": np.ones((1, 3, 32, 32)), "arg:softmax_label": np.ones(1)}
    checkpoint = golden_checkpoint(golden, "share")
    written = []
    for arrays in (checkpoint, {**checkpoint, **inputs}):
        out, _ = convert(arrays)
        written.append((out / "model.params").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"arg:lambda_after": None}, "", "lambda_after is missing"),
        ({"arg:lambda_layer_2_1": None}, "", "lambda_layer_2_1 is missing"),
        ({"arg:lambda_stage1_unit2": None}, "", r"lambda_stage1_unit2 is missing"),
        ({"arg:fc1_weight": None}, "", "no array for the parameter fc_weight"),
        ({"aux:bn0_moving_var": None}, "", "parameter stem_bn_running_var"),
        ({"arg:fc1_bias": np.ones(3)}, "", "fc_bias has the shape"),
        ({"arg:fc1_bias": np.full(10, np.nan)}, "", "fc_bias has a value that is not finite"),
        ({"arg:lambda_after": np.full((1, 16), np.nan)}, "", "not finite"),
        ({"arg:lambda_after": np.ones((1, 15))}, "", "not those of 3 levels of 4 operations"),
        ({"arg:unheard_of": np.ones(3)}, "", "'unheard_of' belongs to no network"),
        ({"arg:lambda_unheard_of": np.ones(3)}, "", "'lambda_unheard_of' belongs to no"),
        ({"unheard_of": np.ones(3)}, "", "'unheard_of' is not named arg:… or aux:…"),
        ({}, "--levels 3", "levels is 3, but the arrays are of 4"),
        ({}, "--width 8", "width is 8, but the arrays are of 4"),
        ({}, "--blocks 2", "blocks of stage 1 is 2, but the arrays are of 1"),
        ({}, "--blocks 1,1", "blocks has 2 stages, but the arrays are of 3"),
        ({}, "--blocks one", "--blocks must be a number"),
        ({}, "--operations sep3,sep5,max,sep7", "the arrays have sep3, sep5, max, avg"),
        ({}, "--operations conv", "number of operations is 1, but the arrays are of 4"),
        ({}, "--operations a,b,c,d", "operations are not a, b, c, d"),
    ],
)
def test_what_does_not_fit_is_refused(change, options, message, golden, attempt, tmp_path):
    arrays = {**golden_checkpoint(golden, "share"), **change}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    status, out, err = attempt(arrays, *options.split())
    assert status == 2 and out == ""
    assert re.search(message, err) and err.count("\n") == 1
    assert not (tmp_path / "deep").exists()


def test_a_network_without_scales_is_refused(golden, attempt):
    arrays = golden_checkpoint(golden, "share")
    arrays = {name: array for name, array in arrays.items() if "lambda" not in name}
    status, _, err = attempt(arrays)
    assert status == 2 and "there are no scales" in err


def test_old_weights_are_not_left_beside_a_new_architecture(golden, convert, attempt):
    checkpoint = golden_checkpoint(golden, "share")
    convert(checkpoint)
    out, _ = convert(checkpoint)  # the same again
    before = {path: path.read_bytes() for path in out.iterdir()}
    status, _, err = attempt(scales(checkpoint))
    assert status == 2 and "give another --out" in err
    other = {name: array + 1 if "fc1_bias" in name else array for name, array in checkpoint.items()}
    status, _, err = attempt(other)
    assert status == 2
    assert f"{out / 'model.params'} is there already: remove it, or give another place" in err
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_run_is_not_overwritten(golden, attempt, tmp_path):
    run = tmp_path / "deep" / "out"
    run.mkdir(parents=True)
    (run / "args.json").write_text("{}")
    status, _, err = attempt(golden_checkpoint(golden, "share"))
    assert status == 2 and f"{run} is of a run: give another --out" in err
    assert [path.name for path in run.iterdir()] == ["args.json"]


def test_other_files_are_refused_in_one_line(golden, script, tmp_path):
    checkpoint = golden_checkpoint(golden, "share")
    prefix, out = tmp_path / "theirs", tmp_path / "out"
    mx.nd.save(f"{prefix}-0012.params", {k: mx.nd.array(v) for k, v in checkpoint.items()})
    content = Path(f"{prefix}-0012.params").read_bytes()
    Path(f"{prefix}-0013.params").write_bytes(content[:-100])
    Path(f"{prefix}-0014.params").write_bytes(b"not a checkpoint")
    for epoch, message in (
        (13, "theirs-0013.params: the file is cut off, or damaged"),
        (14, "theirs-0014.params: not a .params file of MXNet"),
        (15, "theirs-0015.params"),
        ("twelve", "argument EPOCH: invalid int value"),
        ("-1", "EPOCH"),
    ):
        status, printed, err = script("tools/import_checkpoint.py", prefix, epoch, "--out", out)
        assert status == 2 and printed == ""
        assert message in err and err.count("\n") == 1
        assert not out.exists()


def test_runs_from_anywhere(golden, tmp_path, script, monkeypatch):
    checkpoint = scales(golden_checkpoint(golden, "full"))
    mx.nd.save(
        str(tmp_path / "full-0120.params"), {k: mx.nd.array(v) for k, v in checkpoint.items()}
    )
    monkeypatch.chdir(tmp_path)
    status, _, err = script("tools/import_checkpoint.py", "full", 120, "--out", "out")
    assert (status, err) == (0, "")
    origin = json.loads((tmp_path / "out" / "architecture.json").read_text())["origin"]
    assert origin == {"source": "a checkpoint of the authors' release", "epoch": 120}


@pytest.mark.parametrize("layout", ["vector", "layers"])
@pytest.mark.parametrize("name", ["cifar10", "imagenet"])
@pytest.mark.parametrize("scope", ["share", "full"])
def test_supernets_go_to_the_authors_and_back(name, scope, layout, tmp_path, script, randomised):
    small = {"cifar10": (1, 2, 1), "imagenet": (1, 1, 2, 1)}[name]
    space = getattr(SearchSpace, name)(scope=scope, levels=2, blocks=small, width=4)
    architecture = Architecture.complete(space)
    net = randomised(architecture, weighted=True, fix_gamma="operations")
    arrays = {n: p.data().asnumpy() for n, p in net.collect_params().items()}
    path = export_checkpoint(tmp_path / "ours", 3, arrays, architecture, layout)
    assert path.name == "ours-0003.params"
    words = ("--out", tmp_path / "back", "--levels", 2)
    status, _, err = script("tools/import_checkpoint.py", tmp_path / "ours", 3, *words)
    assert (status, err) == (0, "")
    assert Architecture.load(tmp_path / "back" / "architecture.json").kept == architecture.kept
    back = mx.nd.load(str(tmp_path / "back" / "model.params"))
    assert set(back) == set(arrays)
    for key, array in arrays.items():
        np.testing.assert_array_equal(back[key].asnumpy(), array, err_msg=key)


@pytest.mark.parametrize("name", ["cifar10", "imagenet"])
def test_derived_networks_go_to_the_authors_and_back(name, tmp_path, script, randomised):
    small = {"cifar10": (1, 2, 1), "imagenet": (1, 1, 2, 1)}[name]
    space = getattr(SearchSpace, name)(levels=2, blocks=small, width=4)
    found = Architecture.random(space, 1, connections=9)
    found.with_space(width=8).save(tmp_path / "found.json")
    net = randomised(found)
    arrays = {n: p.data().asnumpy() for n, p in net.collect_params().items()}
    path = export_checkpoint(tmp_path / "ours", 0, arrays, found)
    words = (tmp_path / "ours", 0, "--out", tmp_path / "back")
    status, _, err = script("tools/import_checkpoint.py", *words)
    assert (status, "there are no scales" in err) == (2, True)
    more = ("--architecture", tmp_path / "found.json")
    status, _, err = script("tools/import_checkpoint.py", *words, *more)
    assert (status, err) == (0, "")
    assert Architecture.load(tmp_path / "back" / "architecture.json").space == space
    back = mx.nd.load(str(tmp_path / "back" / "model.params"))
    assert set(back) == set(arrays)
    for key, array in arrays.items():
        np.testing.assert_array_equal(back[key].asnumpy(), array, err_msg=key)
    assert {key.split(":")[0] for key in mx.nd.load(str(path))} == {"arg", "aux"}


def test_compare_checkpoint(tmp_path, script, randomised):
    """The release's own λ of the supernet: its cost and, on data, its error."""
    space = SearchSpace.cifar10(levels=2, blocks=(1, 1, 1), width=4, in_channels=1, image_size=28)
    found = Architecture.random(space, 1, connections=9)
    found.save(tmp_path / "found.json")
    net = randomised(found)
    arrays = {n: p.data().asnumpy() for n, p in net.collect_params().items()}
    export_checkpoint(tmp_path / "ours", 0, arrays, found)
    words = ("checkpoint", tmp_path / "ours", 0, "--architecture", tmp_path / "found.json")
    more = ("--data-set", "fashion_mnist", "--json")
    status, out, err = script("tools/compare.py", *words, *more)
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert result["parameters"] == cost.count(found).parameters
    assert result["connections"] == 9 and not result["supernet"]
    images = load_data_set("fashion_mnist", train=False)
    known = DATA_SETS["fashion_mnist"]
    data = (images.images.transpose(0, 3, 1, 2) / 255 - known.mean[0]) / known.std[0]
    guesses = net(mx.nd.array(data)).asnumpy().argmax(1)
    assert result["test_error"] == pytest.approx((guesses != images.labels).mean(), abs=2e-3)
    status, out, _ = script("tools/compare.py", *words)
    assert "not measured" in out
