"""Files that may be anything: each reader gives what it read, or an error of ours."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

from dsonas_mx import Architecture
from dsonas_mx.data import cifar, recordio, restricted_pickle
from dsonas_mx.deploy.card import Card
from dsonas_mx.deploy.export import export, import_symbol
from dsonas_mx.io.params_file import read_params, write_params
from dsonas_mx.io.symbol_file import read_symbol
from dsonas_mx.latency.deductions import Saving
from dsonas_mx.latency.table import Table, parts
from dsonas_mx.runs.checkpoint import Checkpoints, read_checkpoint
from dsonas_mx.runs.folder import Run
from dsonas_mx.space.mobile import STRIDES, MobileSpace
from dsonas_mx.space.mobile_architecture import MobileArchitecture, load_architecture
from dsonas_mx.training.state import State

import cv2
import mxnet as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from symbols import get_model

fuzz = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,  # the same in every run
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 9),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["share", "full", "1.sep3->output", "../x", "/etc/passwd", "Custom", "(0,)"]),
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)


def survives(read, path, content):
    """Read a file of this content; anything but an error of ours fails the test."""
    path.write_bytes(content)
    try:
        return read(path)
    except (ValueError, OSError) as error:
        assert str(error).strip()
        return None


def damage(draw, content):
    """The content with some bytes changed, a piece taken out, or something put in."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        kind = draw(st.sampled_from(["change", "remove", "insert", "large"]))
        if kind == "change" and content:
            content[place] = draw(st.integers(0, 255))
        elif kind == "remove":
            del content[place : place + draw(st.integers(1, 40))]
        elif kind == "insert":
            content[place:place] = draw(st.binary(max_size=12))
        else:
            content[place : place + 8] = b"\xff" * draw(st.integers(1, 8))
    return bytes(content)


def other_json(draw, data):
    """The same data, with one of its parts replaced by anything."""
    data = json.loads(json.dumps(data))
    inside, path = data, []
    while isinstance(inside, (dict, list)) and inside:
        key = draw(
            st.sampled_from(sorted(inside) if isinstance(inside, dict) else range(len(inside)))
        )
        path.append((inside, key))
        inside = inside[key]
        if draw(st.integers(0, 3)) == 0:
            break
    holder, key = path[-1]
    if isinstance(holder, dict) and draw(st.booleans()):
        holder[draw(st.text(max_size=5))] = draw(ANYTHING)
    holder[key] = draw(ANYTHING)
    return json.dumps(data).encode()


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_space, some_architecture):
    """`files[name]`: the reader of a kind of file, its JSON if it is one, and a small good one."""
    folder = tmp_path_factory.mktemp("good")
    space = tiny_space()
    architecture = some_architecture(space)
    architecture.save(folder / "architecture.json")
    stage = {part: Saving(0.5, 0.1) for part in parts(space)}
    device = {"kind": "cpu", "name": "a CPU", "threads": 2}
    Table(space, 1, device, {"mxnet": "1.9.1"}, (stage,) * len(space.blocks)).save(
        folder / "table.json"
    )
    blocks = (1,) * len(STRIDES)
    mobile = MobileSpace.skeleton("mobile-gpu", 0.25, blocks, num_classes=3, image_size=32)
    MobileArchitecture.complete(mobile).save(folder / "mobile.json")
    card = Card("net", "classification", ("a", "é"), (1, 8, 8), (0.5,), (0.25,), batch=2)
    files = {"net-symbol.json": "0" * 64, "net-0000.params": "0" * 64}
    replace(card, forms={"mxnet": files}).save(folder / "card.json")
    net = get_model("dsonas", architecture)
    net.initialize()
    export(net, folder / "net", np.zeros((1, 1, 8, 8), np.float32))
    arrays = {"a": np.arange(3, dtype=np.float32), "é": np.ones((1, 2), np.int32)}
    write_params(folder / "some.params", arrays)
    state = State({"loop": {"epoch": 1}, "x": [1.5, None]}, {"w": arrays["a"]})
    saved = Checkpoints(folder / "checkpoint").save(state)
    generator = np.random.RandomState(0)
    pixels = generator.randint(0, 256, (2, 3072)).astype(np.uint8)
    (folder / "batch").write_bytes(pickle.dumps({"data": pixels, "labels": [0, 1]}, protocol=2))
    png = cv2.imencode(".png", pixels[0].reshape(32, 32, 3))[1].tobytes()
    recordio.write(folder / "few.rec", [recordio.Entry(i, i, png, f"{i}.png") for i in range(2)])

    def places(path):
        (path.parent / "few.rec").write_bytes((folder / "few.rec").read_bytes())
        return recordio.read_places(path.parent / "few.rec")

    def checkpoint(name):
        def read(path):
            target = folder / "damaged"
            target.mkdir(exist_ok=True)
            for file in saved.iterdir():
                (target / file.name).write_bytes(file.read_bytes())
            (target / name).write_bytes(path.read_bytes())
            return read_checkpoint(target)

        return read

    return {
        "architecture": (Architecture.load, folder / "architecture.json"),
        "table": (lambda path: Table.load(path, space), folder / "table.json"),
        "symbol": (read_symbol, folder / "net-symbol.json"),
        "params": (read_params, folder / "some.params"),
        "state": (checkpoint("state.json"), saved / "state.json"),
        "arrays": (checkpoint("arrays.params"), saved / "arrays.params"),
        "batch": (lambda path: restricted_pickle.loads(path.read_bytes()), folder / "batch"),
        "records": (lambda path: cifar.load_cifar_records(path), folder / "few.rec"),
        "index": (recordio.read_index, folder / "few.idx"),
        "places": (places, folder / "few.idx"),
        "mobile": (load_architecture, folder / "mobile.json"),
        "card": (Card.load, folder / "card.json"),
    }


JSON = "architecture mobile card table symbol state".split()
KINDS = [*JSON, *"params arrays batch records index places".split()]


@pytest.mark.parametrize("kind", KINDS)
def test_the_good_one_is_read(files, kind):
    read, good = files[kind]
    assert read(good) is not None


@pytest.mark.parametrize("kind", KINDS)
@fuzz
@given(data=st.data())
def test_damaged_bytes(files, tmp_path, kind, data):
    read, good = files[kind]
    content = damage(data.draw, good.read_bytes())
    result = survives(read, tmp_path / good.name, content)
    if kind in ("state", "arrays"):  # their checksums see everything but another spelling
        assert result is None or result.values == read(good).values


@pytest.mark.parametrize("kind", JSON)
@fuzz
@given(data=st.data())
def test_json_with_another_part(files, tmp_path, kind, data):
    read, good = files[kind]
    content = other_json(data.draw, json.loads(good.read_text(encoding="utf-8")))
    result = survives(read, tmp_path / good.name, content)
    if isinstance(result, mx.sym.Symbol):  # MXNet may refuse what is in it, but lives
        try:
            result.infer_shape_partial(data=(1, 1, 8, 8))
        except mx.MXNetError:
            pass


@pytest.mark.parametrize("kind", JSON)
@fuzz
@given(data=ANYTHING)
def test_any_json(files, tmp_path, kind, data):
    read, good = files[kind]
    assert survives(read, tmp_path / good.name, json.dumps(data).encode()) is None


@pytest.mark.parametrize("kind", KINDS)
def test_cut_at_every_byte(files, tmp_path, kind):
    read, good = files[kind]
    content = good.read_bytes().rstrip(b"\n") if kind in JSON else good.read_bytes()
    lengths = (
        range(len(content)) if len(content) < 2000 else [*range(600), *range(600, len(content), 97)]
    )
    for length in lengths:
        result = survives(read, tmp_path / good.name, content[:length])
        if kind in ("records", "index", "places"):  # a cut between two is seen by their number
            assert result is None or len(result) <= 2
        else:
            assert result is None, length


@pytest.mark.parametrize("kind", ["params", "batch", "records", "index", "places"])
@fuzz
@given(content=st.binary(max_size=200))
def test_any_bytes(files, tmp_path, kind, content):
    read, good = files[kind]
    result = survives(read, tmp_path / good.name, content)
    assert not result  # of an index nothing is no line


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda g: g["nodes"][1].update(op="Custom"), "no place in a network for inference"),
        (lambda g: g["nodes"][1].update(op="Convolutoin"), "no place in a network for inference"),
        (lambda g: g["nodes"][-1]["inputs"][0].__setitem__(0, 10**6), "does not come before"),
        (lambda g: g["heads"].clear(), "it has no output"),
        (lambda g: g["arg_nodes"].pop(), "arg_nodes are not the nodes without an operator"),
        (lambda g: g["nodes"][1].update(name=g["nodes"][0]["name"]), "the same name"),
    ],
)
def test_symbols_that_mxnet_would_believe(files, tmp_path, change, message):
    _, good = files["symbol"]
    graph = json.loads(good.read_text())
    change(graph)
    (tmp_path / "symbol.json").write_text(json.dumps(graph))
    with pytest.raises(ValueError, match=message):
        read_symbol(tmp_path / "symbol.json")


def test_a_network_is_checked_before_mxnet_reads_it(files, tmp_path):
    _, good = files["symbol"]
    cut = tmp_path / "cut.params"
    cut.write_bytes(good.with_name("net-0000.params").read_bytes()[:-9])
    with pytest.raises(ValueError, match="cut off, or damaged"):
        import_symbol(good, cut)
    assert read_symbol(good).tojson() == good.read_text()


@pytest.mark.parametrize("name", ["../net.params", "/etc/passwd", "a/b", "..", ""])
def test_a_card_names_no_file_outside_of_its_folder(files, tmp_path, name):
    _, good = files["card"]
    card = json.loads(good.read_text(encoding="utf-8"))
    card["forms"]["mxnet"] = {name: "0" * 64}
    (tmp_path / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ValueError, match="mxnet must be the name of a file, got"):
        Card.load(tmp_path / "card.json")


@fuzz
@given(
    name=st.text(max_size=12) | st.sampled_from(["../up.csv", "/tmp/x.csv", "a/../../b", "", "."])
)
def test_a_checkpoint_names_no_table_outside_of_its_folder(tmp_path_factory, name):
    """Its table names are the only paths in it."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "up.csv").write_text("kept\n")
    with Run(folder / "run", {}, quiet=True) as run:
        try:
            run.tables.cut({name: 0})
        except (ValueError, OSError):
            pass
    assert (folder / "up.csv").read_text() == "kept\n"
    assert {path.name for path in folder.iterdir()} == {"up.csv", "run"}
    assert not Path("/tmp/x.csv").exists()
