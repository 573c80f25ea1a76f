"""The project's own operators against the same functions of MXNet's."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from dsonas_mx.engine import native

import mxnet as mx
import numpy as np
import pytest

if shutil.which("g++"):
    native.build()
pytestmark = pytest.mark.skipif(not native.load(), reason="the operators are not built")

nd = mx.nd
EPS = 1e-3
ROOT = Path(__file__).resolve().parents[2]


def close(ours, theirs, tolerance=1e-5):
    """Within a fraction of the largest value."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max() + 1e-30)


def gradients(function, inputs, out_gradient):
    for array in inputs:
        array.attach_grad()
    with mx.autograd.record():
        output = function(*inputs)
        if isinstance(output, list):  # with statistics behind it
            output = output[0]
    output.backward(out_gradient)
    return [output.asnumpy(), *(array.grad.asnumpy() for array in inputs)]


class Level:
    """One level: its attributes, some inputs, and the same function in MXNet's operators."""

    def __init__(
        self,
        batch,
        channels,
        size,
        operations,
        maps,
        edges,
        scaled=True,
        fix_gamma=True,
        per_sample=False,
        seed=0,
    ):
        random = np.random.RandomState(seed)
        self.channels, self.maps, self.scaled, self.fix_gamma = channels, maps, scaled, fix_gamma
        self.operations = operations.split(",")
        self.edges = [[int(source) for source in part.split()] for part in edges.split(";")]
        self.attributes = {
            "operations": operations,
            "maps": ",".join(map(str, maps)),
            "edges": edges,
            "scaled": int(scaled),
            "fix_gamma": int(fix_gamma),
            "eps": EPS,
            "per_sample": int(per_sample),
        }
        scales = (sum(map(len, self.edges)),)
        shapes = [(batch, *scales) if per_sample else scales] if scaled else []
        shapes += [(batch, count * channels, *size) for count in maps]
        for name in self.operations:
            if name.startswith("sep"):
                k = int(name[3])
                shapes += [(channels, 1, k, k), (channels, channels, 1, 1)]
        shapes += 2 * len(self.operations) * [(channels,)]
        self.inputs = [nd.array(random.randn(*shape)) for shape in shapes]
        if not fix_gamma:
            self.inputs[-2][0] = 0  # a gamma that tells nothing of what it scales
        for i in range(scaled, scaled + len(maps)):
            self.inputs[i] = nd.relu(self.inputs[i])  # as in the block: zeros tie in max pooling
        self.out_gradient = nd.array(random.randn(batch, len(self.operations) * channels, *size))

    def native(self, *inputs, **attributes):
        return nd.dsonas_level(*inputs, **{**self.attributes, **attributes})

    def plain(self, *inputs):
        inputs = list(inputs)
        lambdas = inputs.pop(0) if self.scaled else None
        sources = []
        for count in self.maps:
            stack = inputs.pop(0)
            sources += [
                nd.slice_axis(stack, axis=1, begin=j * self.channels, end=(j + 1) * self.channels)
                for j in range(count)
            ]
        outputs, edge = [], 0
        for name, numbers in zip(self.operations, self.edges):
            total = 0
            for number in numbers:
                scale = lambdas.T[edge].reshape((-1, 1, 1, 1)) if self.scaled else 1
                total = total + sources[number] * scale
                edge += 1
            if name.startswith("sep"):
                k, c = int(name[3]), self.channels
                x = nd.Convolution(
                    total,
                    inputs.pop(0),
                    kernel=(k, k),
                    pad=(k // 2, k // 2),
                    num_filter=c,
                    num_group=c,
                    no_bias=True,
                )
                x = nd.Convolution(x, inputs.pop(0), kernel=(1, 1), num_filter=c, no_bias=True)
            else:
                x = nd.Pooling(total, kernel=(3, 3), pad=(1, 1), pool_type=name)
            outputs.append(x)
        for t, x in enumerate(outputs):
            gamma, beta = inputs[2 * t : 2 * t + 2]
            moving = nd.zeros(self.channels), nd.ones(self.channels)
            outputs[t] = nd.relu(
                nd.BatchNorm(x, gamma, beta, *moving, eps=EPS, fix_gamma=self.fix_gamma)
            )
        return nd.concat(*outputs, dim=1)


LEVELS = [
    Level(3, 5, (6, 7), "sep3,sep5,max,avg", [1, 2], "0 1 2;0 2;1 2;0"),
    Level(2, 48, (32, 32), "sep3,sep5,max,avg", [1, 4], ";".join(["0 1 2 3 4"] * 4)),
    Level(3, 5, (6, 7), "sep3,sep5,max,avg", [1, 2], "0 1 2;0 2;1 2;0", fix_gamma=False),
    Level(3, 17, (8, 8), "max", [1, 2], "0 2"),
    Level(1, 4, (9, 17), "avg", [2], "1", scaled=False),
    Level(2, 28, (56, 56), "sep7,sep3", [1, 3], "0 1 2 3;1 3", fix_gamma=False),
    Level(3, 40, (7, 7), "sep7,sep3,sep5,max,avg", [1, 5], ";".join(["0 1 2 3 4 5"] * 5)),
    Level(33, 33, (14, 14), "sep5,max", [1, 1, 1], "0 1 2;2", scaled=False),
    Level(9, 3, (1, 1), "sep7,sep3,max", [2], "0 1;1 0;0 1"),
]


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.attributes["operations"])
def test_level(level):
    ours = gradients(level.native, level.inputs, level.out_gradient)
    for a, b in zip(ours, gradients(level.plain, level.inputs, level.out_gradient)):
        close(a, b)
    scaled, stacks = level.scaled, len(level.maps)
    groups = {
        "lambdas": range(1, 1 + scaled),
        "weights": range(1 + scaled + stacks, 1 + len(level.inputs)),
    }
    data = range(1 + scaled, 1 + scaled + stacks)
    for asked, numbers in groups.items():
        some = gradients(
            lambda *inputs, asked=asked: level.native(*inputs, gradients=asked),
            level.inputs,
            level.out_gradient,
        )
        for i in [0, *data, *numbers]:
            np.testing.assert_array_equal(some[i], ours[i])


@pytest.mark.parametrize("fix_gamma", [False, True])
def test_a_level_with_scales_of_each_sample(fix_gamma):
    """As many samples as make parts of several; they get no gradient."""
    level = Level(
        19, 5, (6, 7), "sep3,sep5,max,avg", [1, 2], "0 1 2;0 2;1 2;0", True, fix_gamma, True
    )
    drops = np.random.RandomState(1).rand(19, 8) < 0.4
    level.inputs[0] = nd.array(np.where(drops, 0, level.inputs[0].asnumpy()))
    ours = gradients(level.native, level.inputs, level.out_gradient)
    theirs = gradients(level.plain, level.inputs, level.out_gradient)
    for number, (a, b) in enumerate(zip(ours, theirs)):
        if number != 1:
            close(a, b)
    alone = gradients(
        lambda *inputs: level.native(*inputs, gradients="weights"),
        level.inputs,
        level.out_gradient,
    )
    for a, b in zip(alone[2:], ours[2:]):
        np.testing.assert_array_equal(a, b)


def test_maximum_gradient_goes_to_the_first_of_equals():
    random = np.random.RandomState(3)
    stack = nd.array(np.maximum(random.randint(-3, 3, (2, 6, 11, 13)), 0))
    out_gradient = nd.array(random.randint(-9, 9, stack.shape))
    affine = [nd.ones(6), nd.zeros(6)]

    def plain(x):
        x = nd.Pooling(x, kernel=(3, 3), pad=(1, 1))
        return nd.relu(nd.BatchNorm(x, *affine, nd.zeros(6), nd.ones(6), eps=EPS))

    attributes = {"operations": "max", "maps": "1", "edges": "0", "scaled": 0, "eps": EPS}
    ours = gradients(lambda x: nd.dsonas_level(x, *affine, **attributes), [stack], out_gradient)
    for a, b in zip(ours, gradients(plain, [stack], out_gradient)):
        close(a, b)


@pytest.mark.parametrize("size", [(6, 7), (16, 16), (32, 32)], ids=str)
@pytest.mark.parametrize("scaled", [0, 1])
@pytest.mark.parametrize("select", [[0, 1, 2, 3], [0, 2, 3], [2]], ids=str)
def test_collect(size, scaled, select):
    random = np.random.RandomState(4)
    batch, channels, filters = 18, 19, 7
    inputs = [
        nd.array(random.randn(*shape))
        for shape in [
            (len(select),),
            (batch, 4 * channels, *size),
            (filters, len(select) * channels, 1, 1),
        ]
    ]
    inputs[0][0] = 0  # a connection that is being removed
    inputs = inputs[1 - scaled :]
    out_gradient = nd.array(random.randn(batch, filters, *size))
    attributes = {"maps": 4, "select": " ".join(map(str, select)), "scaled": scaled}

    def plain(*inputs):
        maps = nd.split(inputs[-2], 4, axis=1)
        weight = inputs[-1]
        if scaled:
            weight = weight * inputs[0].repeat(channels).reshape((1, -1, 1, 1))
        return nd.Convolution(
            nd.concat(*(maps[j] for j in select), dim=1),
            weight,
            kernel=(1, 1),
            num_filter=filters,
            no_bias=True,
        )

    ours = gradients(lambda *x: nd.dsonas_collect(*x, **attributes), inputs, out_gradient)
    for a, b in zip(ours, gradients(plain, inputs, out_gradient)):
        close(a, b)
    for asked, numbers in {"weights": [0, -2, -1], "lambdas": [0, 1, -2]}.items():
        some = gradients(
            lambda *x, asked=asked: nd.dsonas_collect(*x, **attributes, gradients=asked),
            inputs,
            out_gradient,
        )
        for i in numbers[: None if scaled or asked == "weights" else 1]:
            close(some[i], ours[i], 1e-6)


def test_collect_with_scales_of_each_sample():
    random = np.random.RandomState(4)
    batch, channels, filters, select = 18, 19, 7, [0, 2, 3]
    scales = random.choice([0, 1, 1.25], (batch, 3))
    stack, weight = random.randn(batch, 4 * channels, 12, 16), random.randn(filters, 57, 1, 1)
    inputs = [nd.array(array) for array in (scales, stack, weight)]
    out_gradient = nd.array(random.randn(batch, filters, 12, 16))

    def plain(scales, stack, weight):
        maps = nd.split(stack, 4, axis=1)
        scaled = [maps[j] * scales[:, k].reshape((-1, 1, 1, 1)) for k, j in enumerate(select)]
        return nd.Convolution(
            nd.concat(*scaled, dim=1), weight, kernel=(1, 1), num_filter=filters, no_bias=True
        )

    def native(*inputs):
        return nd.dsonas_collect(*inputs, maps=4, select="0 2 3", per_sample=1)

    ours = gradients(native, inputs, out_gradient)
    theirs = gradients(plain, inputs, out_gradient)
    for number in (0, 2, 3):  # scales get no gradient
        close(ours[number], theirs[number])


@pytest.mark.parametrize("fix_gamma", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    "shape", [(3, 5, 6, 7), (2, 48, 32, 32), (5, 30, 4, 4), (4, 3, 1, 1)], ids=str
)
def test_batch_normalisation(shape, relu, fix_gamma):
    random = np.random.RandomState(5)
    maps, channels = 3, shape[1]
    x = nd.array(2 + 3 * random.randn(shape[0], maps * channels, *shape[2:]))
    affine = [nd.array(random.randn(channels)) for _ in range(2 * maps)]
    moving = [nd.array(random.rand(channels)) for _ in range(2 * maps)]
    joined = [nd.concat(*moving[part::2], dim=0) for part in (0, 1)]
    out_gradient = nd.array(random.randn(*x.shape))

    def ours(x, *affine):
        attributes = {"maps": maps, "eps": 2e-5, "fix_gamma": int(fix_gamma), "relu": int(relu)}
        y, statistics = nd.dsonas_normalize(x, *affine, **attributes)
        nd.dsonas_average(statistics, *moving, maps=maps, momentum=0.8)
        return y

    def theirs(x, *affine):
        y = nd.BatchNorm(
            x,
            nd.concat(*affine[::2], dim=0),
            nd.concat(*affine[1::2], dim=0),
            *joined,
            eps=2e-5,
            momentum=0.8,
            fix_gamma=fix_gamma,
        )
        return nd.relu(y) if relu else y

    results = gradients(ours, [x, *affine], out_gradient)
    for a, b in zip(results, gradients(theirs, [x, *affine], out_gradient)):
        close(a, b, 3e-5)
    for part in (0, 1):
        close(nd.concat(*moving[part::2], dim=0).asnumpy(), joined[part].asnumpy())


def test_statistics_are_exact_far_from_zero():
    x = 1000 + np.random.RandomState(6).randn(8, 4, 9, 9).astype("float32")
    mean, variance = nd.dsonas_normalize(nd.array(x), nd.ones(4), nd.zeros(4))[1].asnumpy()
    exact = x.astype("float64")
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=1e-7)
    np.testing.assert_allclose(variance, exact.var(axis=(0, 2, 3)), rtol=1e-5)


def test_levels_and_stacks_have_the_same_statistics():
    """A single pixel is its own maximum, so here the maps before normalisation are known."""
    x = nd.array(np.random.RandomState(10).randn(40, 3, 1, 1))
    affine = [nd.ones(3), nd.zeros(3)]
    level = nd.dsonas_level(x, *affine, operations="max", maps="1", edges="0", scaled=0)
    for ours, theirs in zip(level, nd.dsonas_normalize(x, *affine)):
        np.testing.assert_array_equal(ours.asnumpy(), theirs.asnumpy())


def small_block(mirrored=False, fix_gamma=0):
    """Two levels and their output, as a symbol with all shapes."""

    def node(symbol):
        symbol._set_attr(**({"__force_mirroring__": "True"} if mirrored else {}))
        return symbol

    def pairs(kind, shape=(8,)):
        return [mx.sym.Variable(f"{kind}{i}", shape=shape) for i in range(4)]

    def level(stacks, maps, edges, name):
        shapes = [(8, 1, 3, 3), (8, 8, 1, 1)]
        weights = [mx.sym.Variable(f"{name}_w{i}", shape=s) for i, s in enumerate(shapes)]
        lambdas = mx.sym.Variable(f"{name}_lambdas", shape=(len(edges.replace(";", " ").split()),))
        stack, statistics = node(
            mx.sym.dsonas_level(
                lambdas,
                *stacks,
                *weights,
                *pairs(f"{name}_affine"),
                operations="sep3,max",
                maps=maps,
                edges=edges,
                fix_gamma=fix_gamma,
                name=name,
            )
        )
        moved = mx.sym.dsonas_average(statistics, *pairs(f"{name}_moving"), maps=2)
        return stack, mx.sym.BlockGrad(moved)

    x = mx.sym.Variable("x", shape=(18, 8, 10, 10))
    first, moved_first = level([x], "1", "0;0", "level1")
    second, moved_second = level([x, first], "1,2", "0 1 2;0 2", "level2")
    weight = mx.sym.Variable("weight", shape=(8, 16, 1, 1))
    collected = mx.sym.dsonas_collect(second, weight, maps=2, scaled=0)
    y = node(
        mx.sym.dsonas_normalize(collected, *pairs("output", (4,)), maps=2, fix_gamma=fix_gamma)
    )[0]
    return mx.sym.Group([y, moved_first, moved_second])


def run_block(symbol):
    """Output, gradients and moving averages of a bound block, by name."""
    executor = symbol.simple_bind(mx.cpu())
    random = np.random.RandomState(7)
    for arrays in (executor.arg_dict, executor.aux_dict):
        for name in sorted(arrays):
            arrays[name][:] = random.rand(*arrays[name].shape) + 0.1
    out_gradient = nd.array(random.randn(*symbol.infer_shape()[1][0]))
    executor.forward(is_train=True)
    executor.backward([out_gradient, nd.ones(1), nd.ones(1)])
    mx.nd.waitall()  # the engine does not track moving averages
    found = {"output": executor.outputs[0], **executor.grad_dict, **executor.aux_dict}
    return {name: array.asnumpy() for name, array in found.items()}


@pytest.mark.parametrize("fix_gamma", [0, 1])
def test_recomputing_changes_no_bit(fix_gamma):
    plain, mirrored = (run_block(small_block(mirrored, fix_gamma)) for mirrored in (False, True))
    assert plain.keys() == mirrored.keys()
    for name in plain:
        np.testing.assert_array_equal(plain[name], mirrored[name], err_msg=name)


@pytest.mark.parametrize("consumers", [7, 8, 9, 17])
def test_executor_sums_the_gradients_of_all_consumers(consumers):
    x = np.random.RandomState(8).randn(2, 3, 7, 7)

    def function(F, x):
        affine = 2 * [F.ones((3,)), F.zeros((3,))]
        attributes = {"maps": "1", "edges": "0;0", "scaled": 0}
        levels = [
            F.dsonas_level(x * (1 + i // 2), *affine, operations="max,avg", **attributes)
            if i % 2
            else F.dsonas_level(x, *affine, operations="avg,max", **attributes)
            for i in range(consumers)
        ]
        return F.add_n(*(level[0] for level in levels))

    out_gradient = nd.array(np.random.RandomState(9).randn(2, 6, 7, 7))
    executor = function(mx.sym, mx.sym.Variable("x")).simple_bind(mx.cpu(), x=x.shape)
    executor.forward(is_train=True, x=nd.array(x))
    executor.backward(out_gradient)
    eager = gradients(lambda x: function(nd, x), [nd.array(x)], out_gradient)
    close(executor.outputs[0].asnumpy(), eager[0])
    close(executor.grad_dict["x"].asnumpy(), eager[1])


def digest() -> str:
    """Of everything the operators compute on a block and on the levels above."""
    sha = hashlib.sha256()
    for _, array in sorted(run_block(small_block()).items()):
        sha.update(array.tobytes())
    for level in LEVELS:
        for array in gradients(level.native, level.inputs, level.out_gradient):
            sha.update(array.tobytes())
    return sha.hexdigest()


def test_bits_do_not_depend_on_threads_or_mkldnn():
    code = (
        "import dsonas_mx, sys; sys.path.insert(0, 'tests/native'); import test_operators; "
        "print(test_operators.digest())"
    )
    found = set()
    for settings in (
        {"OMP_NUM_THREADS": "1"},
        {"OMP_NUM_THREADS": "2", "MXNET_MKLDNN_ENABLED": "0"},
    ):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
        child = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        found.add(child.stdout.split()[-1])
    assert len(found) == 1


AFFINE = nd.ones(4), nd.zeros(4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"operations": "sep4"}, "operations are sep3"),
        ({"edges": "0;1"}, "edges lists 2 operations, not 1"),
        ({"edges": "7"}, "source 7 is not one of 1"),
        ({"gradients": "some"}, "gradients must be"),
        ({"maps": "3"}, "has 4 channels, which are not 3 maps"),
    ],
)
def test_errors_name_the_attribute(change, message):
    attributes = {"operations": "avg", "maps": "1", "edges": "0", "scaled": 0, **change}
    with pytest.raises(mx.MXNetError, match=message):
        nd.dsonas_level(nd.zeros((1, 4, 5, 5)), *AFFINE, **attributes)[0].wait_to_read()


def test_other_types_are_refused():
    with pytest.raises(mx.MXNetError, match="float32"):
        nd.dsonas_level(
            nd.zeros((1, 4, 5, 5), dtype="float64"),
            *AFFINE,
            operations="avg",
            maps="1",
            edges="0",
            scaled=0,
        )[0].wait_to_read()


def test_the_largest_workspace_is_known(monkeypatch):
    level = LEVELS[1]
    level.native(*level.inputs)[0].wait_to_read()
    channels, pixels = 48, 32 * 32
    assert native.workspace_megabytes() > 2 * 4 * channels * pixels / 2**20
    monkeypatch.setattr(native, "load", lambda: False)
    assert native.workspace_megabytes() == 0
