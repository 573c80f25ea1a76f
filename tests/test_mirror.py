"""Recomputation: the same bits for less memory, plans that fit, and what they predict."""

import json
import math

from dsonas_mx import Architecture, mirror
from dsonas_mx.graph import TrainGraph
from dsonas_mx.loss import cross_entropy, with_auxiliary
from dsonas_mx.mirror import find_plan, parse_mirror, segments

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import HybridBlock, nn

from symbols import get_model

UNTOUCHED = 7.0


class Segmenter(HybridBlock):
    """Residual blocks at half the size, a skip from the full size, and logits of every pixel."""

    def __init__(self, blocks=16, channels=8, classes=3):
        super().__init__(prefix="segmenter_")  # parameters are called the same in every network
        with self.name_scope():
            self.stem = self.conv_bn(channels, 1)
            self.down = nn.MaxPool2D(2)
            self.blocks = [self.conv_bn(channels, channels) for _ in range(blocks)]
            for block in self.blocks:
                self.register_child(block)
            self.head = nn.Conv2D(classes, 1, in_channels=2 * channels)

    @staticmethod
    def conv_bn(channels, inputs):
        layers = nn.HybridSequential()
        with layers.name_scope():
            layers.add(nn.Conv2D(channels, 3, padding=1, use_bias=False, in_channels=inputs))
            layers.add(nn.BatchNorm(in_channels=channels), nn.Activation("relu"))
        return layers

    def hybrid_forward(self, F, x):
        full = self.stem(x)
        half = self.down(full)
        for block in self.blocks:
            half = half + block(half)
        back = F.UpSampling(half, scale=2, sample_type="nearest")
        return self.head(F.concat(full, back, dim=1))


def pixel_loss(F, logits, label):
    """Of each sample, the mean over pixels."""
    return F.mean(-F.pick(F.log_softmax(logits, axis=1), label, axis=1), axis=(1, 2))


def segmenter(seed=0):
    mx.random.seed(seed)
    net = Segmenter()
    net.initialize(mx.init.Xavier())
    return net


def batch_of(data_shape, label_shape, seed=0):
    generator = np.random.RandomState(seed)
    label = generator.randint(0, 3, label_shape)
    return generator.randn(*data_shape).astype("float32"), label.astype("float32")


CASES = ("share", "full", "gamma", "found", "segmentation")
SUPERNETS = CASES[:3]


@pytest.fixture(params=CASES)
def case(request, tiny_space, randomised, some_architecture):
    """A function that builds the network, its loss, shapes of a batch, and kinds of steps."""
    name = request.param
    if name == "segmentation":
        return segmenter, pixel_loss, (32, 1, 32, 32), (32, 32, 32), ("all", "weights")
    if name == "found":
        space = tiny_space(image_size=32, blocks=(2, 2, 1))
        architecture = some_architecture(space)
        options = {"auxiliary": True, "dropout": 0.3}
        loss, shape, kinds = with_auxiliary(0.4), (16, 1, 32, 32), ("all", "weights")
    else:
        space = tiny_space(scope="full" if name == "full" else "share", blocks=(3, 2))
        architecture, loss = Architecture.complete(space), cross_entropy
        options = {"weighted": True, "fix_gamma": "none" if name == "gamma" else "all"}
        shape, kinds = (128, 1, 8, 8), ("weights", "lambdas", "all")
    return lambda: randomised(architecture, **options), loss, shape, shape[:1], kinds


def graph_of(case, how):
    build, loss, data, label, _ = case
    net = build()
    return net, TrainGraph(net, loss, data, label, [mx.cpu()], how)


def run(case, net, graph):
    """Everything that two steps of each kind compute and change, in order."""
    seen = []
    mx.random.seed(5)  # of Dropout
    parameters = net.collect_params().items()
    for step, kind in enumerate(2 * case[-1]):
        for _, parameter in parameters:
            if parameter.grad_req != "null":
                parameter.grad()[:] = UNTOUCHED
        (outputs,) = graph.step(kind, *batch_of(case[2], case[3], step))
        graph.wait()
        arrays = {"loss": outputs.loss, "logits": outputs.logits}
        for name, parameter in parameters:
            arrays[name] = parameter.data()
            if parameter.grad_req != "null":
                arrays[f"gradient of {name}"] = parameter.grad()
        seen.append({name: array.asnumpy() for name, array in arrays.items()})
    return seen


def test_every_bit_is_that_of_the_plain_graph(case, operators):
    """Outputs, all gradients and BN statistics, with all or some segments computed again."""
    net, graph = graph_of(case, "off")
    plain, expected = graph.plan, run(case, net, graph)
    statistics = [name for name in expected[0] if "running" in name]
    assert any((expected[0][name] != expected[1][name]).any() for name in statistics)
    net, graph = graph_of(case, "deep")
    smallest = graph.plan
    assert plain.recomputed == set()
    assert smallest.megabytes < 0.7 * plain.megabytes
    graphs = [(net, graph), graph_of(case, (plain.megabytes + smallest.megabytes) // 2)]
    assert set() < graphs[1][1].plan.recomputed < smallest.recomputed
    for net, graph in graphs:
        for step, (wanted, got) in enumerate(zip(expected, run(case, net, graph))):
            assert wanted.keys() == got.keys()
            for array in wanted:
                np.testing.assert_array_equal(got[array], wanted[array], f"{array}, step {step}")
            taken = [mirror.megabytes(bound[0]) for bound in graph._bound.values()]
        assert max(taken[:2]) == graph.plan.megabytes


def nodes_of(symbol):
    return {node["name"]: node for node in json.loads(symbol.tojson())["nodes"]}


def chain(blocks, tower_after=None):
    """Residual blocks x + tanh(2x), perhaps with a side branch that joins at the end."""
    x = mx.sym.Variable("data")
    side = None
    for number in range(blocks):
        inner = mx.sym.tanh(x * 2.0, name=f"inner{number}")
        x = mx.sym.elemwise_add(x, inner, name=f"out{number}")
        if number == tower_after:
            side = x
    end = mx.sym.sum(x, name="end")
    return end if side is None else end + mx.sym.sum(side, name="tower")


@pytest.mark.parametrize("tower_after", [None, 2])
def test_segments_end_at_the_outputs_of_blocks(tower_after):
    divided = segments(chain(12, tower_after), {"data": (4, 8)}, 0)
    kept = {f"out{number}" for number in range(12)}
    recomputed = {name for segment in divided for name in segment}
    assert not kept & recomputed
    behind_kept = {0} if tower_after is None else {0, tower_after + 1}  # of an input or a branch
    assert {f"inner{number}" for number in set(range(12)) - behind_kept} <= recomputed


def test_larger_segments_keep_fewer_maps():
    shapes = {"data": (4, 8)}
    counts = [len(segments(chain(12), shapes, least)) for least in (0, 1000, 5000, math.inf)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > counts[-1] == 1


def test_random_numbers_are_drawn_once():
    x = mx.sym.Dropout(chain(2), p=0.5, name="drop")
    symbol = mx.sym.sum(x)
    recomputed = {n for s in segments(symbol, {"data": (4, 8)}, math.inf) for n in s}
    assert "inner0" in recomputed
    assert "drop" not in recomputed


def plan_for(megabytes, sizes):
    """The plan for so many MB where each node computed again saves its size of a hundred."""
    measure = lambda recomputed: 100.0 - sum(sizes.get(name, 0) for name in recomputed)  # noqa: E731
    return find_plan(chain(6), {"data": (4, 8)}, measure, megabytes)


def test_megabytes_take_the_fewest_segments_that_fit():
    sizes = {f"inner{number}": 10 for number in range(6)}
    assert plan_for("off", sizes).recomputed == set()
    assert plan_for(100.0, sizes).recomputed == set()
    assert plan_for("deep", sizes).megabytes == 40
    assert plan_for("auto", sizes).megabytes == 50  # within a quarter of the least
    plan = plan_for(75.0, sizes)
    assert plan.megabytes == 70
    assert {name for name in plan.recomputed if name.startswith("inner")} == {
        "inner0",
        "inner1",
        "inner2",
    }
    with pytest.raises(ValueError, match="--mirror 39: the smallest plan takes 40 MB"):
        plan_for(39.0, sizes)


@pytest.mark.parametrize("text", ["", "yes", "0", "-5", "nan", "inf", "1e999"])
def test_refuses_a_mirror(text):
    with pytest.raises(ValueError, match="--mirror must be auto, deep, off, or a number of MB"):
        parse_mirror(text)


def test_reads_a_mirror():
    assert [parse_mirror(text) for text in ("auto", "deep", "off", "850")] == [
        "auto",
        "deep",
        "off",
        850.0,
    ]


def test_batch_norms_that_run_twice_on_a_gpu_move_their_averages_once():
    x = mx.sym.BatchNorm(mx.sym.Variable("data"), name="twice", momentum=0.9)
    symbol = mx.sym.BatchNorm(x, name="once", momentum=0.9)
    marked = nodes_of(mirror.apply(symbol, frozenset({"twice"}), on_gpu=True))
    momentum = float(marked["twice"]["attrs"]["momentum"])
    assert float(marked["once"]["attrs"]["momentum"]) == 0.9
    assert mirror.ATTRIBUTE in marked["twice"]["attrs"]
    assert mirror.ATTRIBUTE not in marked["once"]["attrs"]
    average, batch = 5.0, 2.0
    for _ in range(2):
        average = momentum * average + (1 - momentum) * batch
    assert average == pytest.approx(0.9 * 5.0 + 0.1 * 2.0)
    on_cpu = nodes_of(mirror.apply(symbol, frozenset({"twice"})))
    assert float(on_cpu["twice"]["attrs"]["momentum"]) == 0.9


def test_a_plan_needs_neither_parameters_nor_data(tiny_space):
    net = get_model("dsonas", space=tiny_space(blocks=(3, 2)), weighted=True)
    graph = TrainGraph(net, cross_entropy, (64, 1, 8, 8), (64,), [mx.cpu()], "auto")
    assert 0 < graph.plan.megabytes
    assert graph.plan.recomputed
