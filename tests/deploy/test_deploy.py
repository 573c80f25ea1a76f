"""Deployed forms compute what Gluon computed; cards say what is there."""

import json
import sys
from dataclasses import replace

from dsonas_mx.deploy.card import Card
from dsonas_mx.deploy.fold import fold
from dsonas_mx.deploy.forms import check, deploy, table, traced
from dsonas_mx.deploy.predictor import Predictor
from dsonas_mx.deploy.quantize import float_operators, quantize

import mxnet as mx
import numpy as np
import pytest


@pytest.fixture
def net(tiny_space, some_architecture, randomised):
    space = tiny_space(operations=("sep3", "max", "avg"), in_channels=3, width=8)
    return randomised(some_architecture(space))


@pytest.fixture
def card():
    return Card("", "classification", tuple("abc"), (3, 8, 8), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


@pytest.fixture
def pixels():
    return np.random.RandomState(0).randint(0, 256, (12, 3, 8, 8)).astype(np.uint8)


def run(network, data):
    executor = network.symbol.bind(
        mx.cpu(),
        {
            "data": mx.nd.array(data, dtype=data.dtype),
            **{k: mx.nd.array(v, dtype=v.dtype) for k, v in network.arguments.items()},
        },
        aux_states={k: mx.nd.array(v) for k, v in network.auxiliary.items()},
        grad_req="null",
    )
    return executor.forward(is_train=False)[0].asnumpy()


def operators(symbol):
    return {node["op"] for node in json.loads(symbol.tojson())["nodes"]}


def test_folded_is_the_same_function_without_batch_norm(net, card, pixels):
    plain = traced(net, card)
    folded = fold(*plain)
    assert "BatchNorm" in operators(plain.symbol)
    assert not operators(folded.symbol) & {"BatchNorm", "add_n"}
    assert folded.auxiliary == {}
    data = card.prepare(pixels)
    np.testing.assert_allclose(run(folded, data), run(plain, data), rtol=1e-4, atol=1e-5)


def test_a_sum_of_three_maps_is_one_operator_or_two():
    data = mx.sym.Variable("data")
    maps = [data * float(k) for k in (1, 2, 3)]
    total = mx.sym.add_n(*maps, name="total")
    pairs, whole = fold(total, {}, {}), fold(total, {}, {}, pairs=False)
    assert "add_n" in operators(whole.symbol) and "add_n" not in operators(pairs.symbol)
    data = np.array([[1.0, -2.0]], np.float32)
    for network in (pairs, whole):
        np.testing.assert_array_equal(run(network, data), 6 * data)
    of_two = fold(mx.sym.add_n(*maps[:2], name="total"), {}, {}, pairs=False)
    assert "add_n" not in operators(of_two.symbol)  # MKLDNN adds it to a convolution


def test_fold_by_hand():
    data = mx.sym.Variable("data")
    gamma, beta, mean, var = (np.array([v], np.float32) for v in (2.0, 1.0, 3.0, 4.0))
    x = mx.sym.Pooling(data, kernel=(3, 3), pad=(1, 1), pool_type="avg", name="pool")
    x = mx.sym.BatchNorm(x, eps=0, fix_gamma=False, name="bn")
    folded = fold(
        x,
        {"bn_gamma": gamma, "bn_beta": beta},
        {"bn_moving_mean": mean, "bn_moving_var": var},
    )
    assert operators(folded.symbol) == {"null", "Convolution"}
    image = np.full((1, 1, 3, 3), 9, np.float32)
    # The middle sees nine pixels of 9, a corner four: (9 − 3)/2·2 + 1 and (4 − 3)/2·2 + 1.
    result = run(folded, image)[0, 0]
    assert result[1, 1] == pytest.approx(7)
    assert result[0, 0] == pytest.approx(2)


def test_a_map_used_twice_stays():
    """BN of a convolution whose plain output somebody else takes must not change it."""
    weight = np.array([[[[2.0]]]], np.float32)
    convolved = mx.sym.Convolution(
        mx.sym.Variable("data"), num_filter=1, kernel=(1, 1), no_bias=True, name="conv"
    )
    x = mx.sym.BatchNorm(convolved, eps=0, fix_gamma=True, name="bn") + convolved
    one = np.ones(1, np.float32)
    folded = fold(
        x,
        {"conv_weight": weight, "bn_gamma": 5 * one, "bn_beta": one},
        {"bn_moving_mean": 0 * one, "bn_moving_var": 4 * one},
    )
    assert run(folded, np.full((1, 1, 1, 1), 3, np.float32)).item() == pytest.approx(3 + 1 + 6)


def test_int8_is_close_and_leaves_nothing_in_float(net, card, pixels):
    folded = fold(*traced(net, card))
    data = card.prepare(pixels)
    quantized = quantize(folded, [data[:6], data[6:]])
    assert float_operators(quantized.symbol) == {}
    assert {v.dtype for n, v in quantized.arguments.items() if n.endswith("_quantize")} <= {
        np.dtype("int8"),
        np.dtype("int32"),
        np.dtype("float32"),
    }
    expected, actual = run(folded, data), run(quantized, data)
    error = np.abs(actual - expected).max() / np.abs(expected).max()
    assert 1e-6 < error < 0.1  # bytes, and near
    with pytest.raises(ValueError, match="at least one image"):
        quantize(folded, [])


def test_every_form_in_a_fresh_process(net, card, pixels, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    expected = net(mx.nd.array(card.prepare(pixels))).asnumpy()
    card = replace(card, uint8_input=True)
    forms = ("mxnet", "fused", "int8", "onnx")
    written = deploy(net, tmp_path / "net", card, forms, [pixels[:6], pixels[6:]])
    assert Card.load(tmp_path / "net.json") == written
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "net-0000.params",
        "net-fused-0000.params",
        "net-fused-symbol.json",
        "net-int8-0000.params",
        "net-int8-symbol.json",
        "net-symbol.json",
        "net.json",
        "net.onnx",
    ]
    rows = {row["form"]: row for row in check(tmp_path / "net", written, pixels, expected, 1)}
    assert set(rows) == set(forms)
    for form, row in rows.items():
        assert row["relative"] < (0.1 if form == "int8" else 1e-5)
        assert row["agreement"] >= 0.9
        assert row["ms_1"] > 0 and row["ms_8"] > 0
        outputs = Predictor(tmp_path / "net.json", form).outputs(list(pixels.transpose(0, 2, 3, 1)))
        assert np.abs(outputs - expected).max() == pytest.approx(row["difference"], abs=1e-4)
    one = replace(written, forms={"mxnet": written.forms["mxnet"]})
    wrong = check(tmp_path / "net", one, pixels, expected + 1, 1)
    assert wrong[0]["difference"] == pytest.approx(1, abs=1e-4)
    assert len(table(list(rows.values())).splitlines()) == 5


def test_a_fixed_batch(net, card, pixels, tmp_path):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    card = replace(card, batch=5)
    written = deploy(net, tmp_path / "net", card, ["onnx"])
    expected = net(mx.nd.array(card.prepare(pixels))).asnumpy()
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    assert session.get_inputs()[0].shape == [5, 3, 8, 8]
    row = check(tmp_path / "net", written, pixels, expected, 1)[0]
    assert row["relative"] < 1e-5 and row["ms_1"] is None


def test_nothing_is_written_without_onnx(net, card, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match="needs the package onnx: pip install"):
        deploy(net, tmp_path / "new" / "net", card, ["mxnet", "onnx"])
    assert list(tmp_path.iterdir()) == []


def test_cards(card, tmp_path):
    card.save(tmp_path / "card.json")
    assert Card.load(tmp_path / "card.json") == card
    prepared = card.prepare(np.full((1, 3, 1, 1), 255, np.uint8))
    np.testing.assert_allclose(prepared[0, :, 0, 0], [3, 0.5 / 0.3, 1.6], rtol=1e-6)
    with pytest.raises(ValueError, match="task must be classification or segmentation"):
        replace(card, task="detection")
    (tmp_path / "other.json").write_text('{"format": "x"}')
    with pytest.raises(ValueError, match=r"other.json: not the card of a deployed network"):
        Card.load(tmp_path / "other.json")


def test_a_damaged_file_is_noticed(net, card, tmp_path):
    written = deploy(net, tmp_path / "net", card)
    written.files(tmp_path, "mxnet")
    with open(tmp_path / "net-0000.params", "ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match="is not the file that the card names"):
        written.files(tmp_path, "mxnet")
    with pytest.raises(ValueError, match="form must be mxnet, got 'onnx'"):
        written.files(tmp_path, "onnx")
