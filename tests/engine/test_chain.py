"""Chains of executors: segments that make up the whole, the same bits, memory used in turn."""

import json

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.engine.chain import (
    HEAD_GRADIENT,
    INPUT,
    UNUSED,
    Chain,
    only_forward,
    split,
    with_head_gradient,
)
from dsonas_mx.engine.forward import Forward
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.engine.recompute import Plan, Planner, Taken, TooLarge
from dsonas_mx.space.mobile import MobileSpace
from dsonas_mx.space.mobile_architecture import MobileArchitecture
from dsonas_mx.training.loss import cross_entropy, pixel_cross_entropy

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model, network_of
from symbols.segmentation import deeplab

SHAPES = {"data": (4, 3)}


def layers():
    """Three layers of one weight; the last has two outputs."""
    x, weight = mx.sym.Variable("data"), mx.sym.Variable("weight")
    for name in ("first", "second"):
        x = mx.sym.FullyConnected(x, weight, num_hidden=3, no_bias=True)
        x = mx.sym.Activation(x, act_type="tanh", name=name)
    x = mx.sym.FullyConnected(x, weight, num_hidden=3, no_bias=True)
    return mx.sym.Group([mx.sym.MakeLoss(mx.sym.sum(x * x)), mx.sym.BlockGrad(x)])


def arrays(seed=0):
    generator = np.random.RandomState(seed)
    shapes = {**SHAPES, "weight": (3, 3)}
    return {name: mx.nd.array(generator.randn(*shape)) for name, shape in shapes.items()}


def test_segments_make_up_the_whole():
    symbol, given = layers(), arrays()
    segments = split(symbol, ["first", "second"])
    assert [segment.list_arguments() for segment in segments] == [
        ["data", "weight"],
        [INPUT, "weight"],
        [INPUT, "weight"],
    ]
    assert [len(segment) for segment in segments] == [1, 1, 2]
    (x,) = segments[0].eval(**given)
    (x,) = segments[1].eval(**{INPUT: x, "weight": given["weight"]})
    outputs = segments[2].eval(**{INPUT: x, "weight": given["weight"]})
    for got, wanted in zip(outputs, symbol.eval(**given)):
        np.testing.assert_array_equal(got.asnumpy(), wanted.asnumpy())


def test_a_head_gradient_is_that_of_the_output():
    segment = with_head_gradient(mx.sym.tanh(mx.sym.Variable(INPUT)))
    x, head = mx.nd.array([[0.5, -1.0]]), mx.nd.array([[3.0, 0.25]])
    gradient = mx.nd.zeros_like(x)
    executor = segment.bind(mx.cpu(), {INPUT: x, HEAD_GRADIENT: head}, {INPUT: gradient})
    executor.forward(is_train=True)
    executor.backward()
    expected = head.asnumpy() * (1 - np.tanh(x.asnumpy()) ** 2)
    np.testing.assert_allclose(gradient.asnumpy(), expected, rtol=1e-6)


def test_a_forward_pass_moves_no_averages():
    """But normalises by the batch, as in training. (The CPU moves them in backward anyway.)"""
    x = mx.sym.Variable("data")
    symbol = mx.sym.Activation(mx.sym.BatchNorm(x, fix_gamma=True, name="bn"), act_type="relu")
    segment = only_forward(symbol)
    (moving,) = [n for n in json.loads(segment.tojson())["nodes"] if n["op"] == "BatchNorm"]
    assert moving["attrs"]["momentum"] == "1" and moving["attrs"]["fix_gamma"] == "True"
    data = mx.nd.array(np.random.RandomState(0).randn(8, 2, 3, 3))
    executor = segment.simple_bind(mx.cpu(), data=data.shape, **{UNUSED: (1,)})
    executor.arg_dict["data"][:] = data
    executor.aux_dict["bn_moving_var"][:] = 7
    executor.forward(is_train=True)
    output = executor.outputs[0].asnumpy()
    normed = data.asnumpy() - data.asnumpy().mean((0, 2, 3), keepdims=True)
    normed /= np.sqrt(data.asnumpy().var((0, 2, 3), keepdims=True) + 1e-3)
    np.testing.assert_allclose(output, np.maximum(normed, 0), rtol=1e-4, atol=1e-5)
    assert (executor.aux_dict["bn_moving_var"].asnumpy() == 7).all()


@pytest.mark.parametrize(
    ("cuts", "keeps"),
    [("first", 1), ("second", 1), ("first second", 1), ("first second", 2), ("first second", 0)],
)
def test_a_chain_is_the_whole_executor(cuts, keeps):
    """Outputs and gradients, of a weight that all segments use too, step after step.

    Up to rounding: a segment adds up its own gradients of the weight first.
    """
    symbol = layers()
    seen = []
    for chained in (False, True):
        given = arrays()
        slots = {name: mx.nd.zeros_like(array) for name, array in given.items()}
        if chained:
            plan = Plan(0, cuts=tuple(cuts.split()), keeps=keeps)
            executor = Chain(symbol, plan, mx.cpu(), given, slots, {})
        else:
            executor = symbol.bind(mx.cpu(), given, slots)
        steps = []
        for step in range(2):
            given["data"][:] = arrays(step + 1)["data"]
            executor.forward(is_train=True)
            executor.backward()
            steps += [array.asnumpy() for array in (*executor.outputs, *slots.values())]
        seen.append(steps)
    for wanted, got in zip(*seen):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_nothing_before_the_first_gradient_runs_backward():
    given = {**arrays(), "last": mx.nd.ones((3, 3))}
    x = mx.sym.FullyConnected(
        mx.sym.Variable("data"), mx.sym.Variable("weight"), num_hidden=3, no_bias=True
    )
    x = mx.sym.Activation(x, act_type="tanh", name="cut")
    x = mx.sym.FullyConnected(x, mx.sym.Variable("last"), num_hidden=3, no_bias=True)
    symbol = mx.sym.MakeLoss(mx.sym.sum(x))
    slot = mx.nd.zeros((3, 3))
    chain = Chain(symbol, Plan(0, cuts=("cut",), keeps=1), mx.cpu(), given, {"last": slot}, {})
    assert (list(chain._forward), list(chain._backward)) == ([0], [1])
    chain.forward()
    chain.backward()
    hidden = np.tanh(given["data"].asnumpy() @ given["weight"].asnumpy().T)
    np.testing.assert_allclose(slot.asnumpy(), np.tile(hidden.sum(0), (3, 1)), rtol=1e-5)


def test_gradients_of_maps_take_the_place_of_maps():
    """Of maps of one shape only the last gradient needs a place of its own."""
    x = mx.sym.Variable("data")
    names = [f"cut{number}" for number in range(5)]
    for name in names:
        x = mx.sym.Activation(x, act_type="tanh", name=name)
    symbol = mx.sym.MakeLoss(mx.sym.sum(x * x))
    data, slot = mx.nd.ones((4, 3)), mx.nd.zeros((4, 3))
    chain = Chain(
        symbol, Plan(0, cuts=tuple(names), keeps=5), mx.cpu(), {"data": data}, {"data": slot}, {}
    )
    maps, gradients = chain._maps, chain._map_gradients
    assert len({id(array) for array in (*maps, *gradients)}) == 5 + 1
    for index, gradient in enumerate(gradients):  # what backward needs when it writes this one
        assert gradient is not maps[index]
        assert all(gradient is not following for following in gradients[index + 1 : index + 2])
        assert all(gradient is not earlier for earlier in maps[:index])
    chain.forward()
    chain.backward()
    expected, value = np.ones((4, 3)), np.ones((4, 3))
    for _ in names:
        value = np.tanh(value)
        expected *= 1 - value**2
    np.testing.assert_allclose(slot.asnumpy(), 2 * value * expected, rtol=1e-5)


# The plan


def cuts_of(symbol):
    return Forward(symbol, SHAPES).cuts


def block_space(scope="share"):
    return SearchSpace(
        levels=4,
        operations=("sep3", "max", "avg", "sep5"),
        blocks=(2, 2),
        width=8,
        num_classes=3,
        in_channels=1,
        image_size=16,
        scope=scope,
    )


def mobile():
    """The mobile supernet."""
    space = MobileSpace.skeleton(
        "mobile-gpu", 0.25, (1, 2, 1, 1, 1, 1), in_channels=1, num_classes=3, image_size=32
    )
    return network_of(MobileArchitecture.complete(space), weighted=True)


NETWORKS = {
    "share": lambda: get_model("dsonas", space=block_space(), weighted=True),
    "full": lambda: get_model("dsonas", space=block_space("full"), weighted=True, fix_gamma="none"),
    "mobile": mobile,
    "segmentation": lambda: deeplab(
        Architecture.complete(
            SearchSpace.imagenet(
                levels=3,
                operations=("sep3", "max", "avg"),
                blocks=(1, 2, 1),
                width=8,
                num_classes=3,
                image_size=65,
            )
        ),
        weighted=True,
        auxiliary=False,
    ),
}


SHAPES_OF = {
    "share": ((8, 1, 16, 16), (8,)),
    "full": ((8, 1, 16, 16), (8,)),
    "mobile": ((4, 1, 32, 32), (4,)),
    "segmentation": ((2, 3, 65, 65), (2, 65, 65)),
}


def supernet(name="share"):
    mx.random.seed(0)
    net = NETWORKS[name]()
    net.initialize(force_reinit=True)
    return net


def graph_of(net, mirroring, data, label):
    loss = cross_entropy if len(label) == 1 else pixel_cross_entropy
    return TrainGraph(net, loss, data, label, [mx.cpu()], mirroring)


def test_a_deep_plan_is_a_chain_with_a_block_a_segment(plain):
    shapes = (256, 1, 16, 16), (256,)
    graph = graph_of(supernet(), "deep", *shapes)
    plan = graph.plan
    assert [cut.split("__")[0] for cut in plan.cuts[:5]] == [
        "stage1_block1",
        "stage1_block2",
        "reduction1_concat0",
        "stage2_block1",
        "stage2_block2",
    ]
    assert plan.megabytes < 0.5 * graph_of(supernet(), "off", *shapes).plan.megabytes
    kept = {node["name"] for node in json.loads(graph.symbol().tojson())["nodes"]}
    assert set(plan.cuts) < kept and not plan.recomputed & set(plan.cuts)


def steps_of(name, plan):
    """Everything that steps of all kinds compute and change by a plan."""
    net = supernet(name)
    graph = graph_of(net, "least", *SHAPES_OF[name])
    graph.plan = plan
    generator = np.random.RandomState(0)
    mx.random.seed(3)  # of the dropout in a segmentation head
    seen = []
    for kind in ("weights", "lambdas", "all", "weights"):
        data, label = SHAPES_OF[name]
        batch = generator.randn(*data).astype("float32")
        (outputs,) = graph.step(kind, batch, generator.randint(0, 3, label).astype("float32"))
        graph.wait()
        found = {"loss": outputs.loss.asnumpy(), "logits": outputs.answers.asnumpy()}
        for key, parameter in net.collect_params().items():
            found[key] = parameter.data().asnumpy().copy()
            if parameter.grad_req != "null":
                found[f"gradient of {key}"] = parameter.grad().asnumpy().copy()
        seen.append(found)
    return seen


def check_bits(name):
    """Chains, of which nothing and half is kept, against one executor that keeps everything."""
    data, label = SHAPES_OF[name]
    symbol = graph_of(supernet(name), "off", data, label).symbol()
    forward = Forward(symbol, {"data": data, "label": label})
    whole, last = steps_of(name, Plan(0)), len(forward.cuts)
    assert last > 1
    plans = [
        Plan(0, forward.inside, forward.cuts, keeps=last),
        Plan(0, forward.blocks, forward.cuts, keeps=last // 2, apart=True),
    ]
    for plan in plans:
        for step, (wanted, got) in enumerate(zip(whole, steps_of(name, plan))):
            for key in wanted:
                message = f"{name}, {plan.keeps} again, step {step}: {key}"
                np.testing.assert_array_equal(got[key], wanted[key], message)


@pytest.mark.parametrize(
    "mkldnn, names",
    [
        (0, ("share", "full")),
        (0, ("mobile", "segmentation")),
        (1, ("share",)),
        pytest.param(1, ("full", "mobile", "segmentation"), marks=pytest.mark.slow),
    ],
)
def test_every_bit_of_a_chain_is_that_of_the_plain_graph(mkldnn, names, in_child):
    program = f"import test_chain; print(*map(test_chain.check_bits, {names}))"
    settings = {"MXNET_MKLDNN_ENABLED": str(mkldnn), "DSONAS_MX_NATIVE": "0"}
    assert in_child(program, **settings).split() == ["None"] * len(names)


def test_a_copy_around_a_map_forbids_a_cut():
    """Or the segment behind it would compute again, and move the averages of, what is before."""
    x = mx.sym.tanh(mx.sym.Variable("data"))
    for number in range(3):
        around = mx.sym.identity(x)
        for _ in range(8):
            x = mx.sym.tanh(x)
        x = mx.sym.Activation(x, act_type="tanh", name=f"passed{number}")
        for _ in range(8):
            x = mx.sym.tanh(x)
        x = mx.sym.elemwise_add(around, x, name=f"cut{number}")
    assert cuts_of(mx.sym.sum(x)) == ("cut0", "cut1", "cut2")


def test_numbers_are_drawn_behind_the_last_cut_only():
    x = mx.sym.Variable("data")
    for number in range(12):
        x = mx.sym.Activation(x * 2 + 1, act_type="tanh", name=f"cut{number}")
        for _ in range(8):
            x = mx.sym.tanh(x)
    ends = mx.sym.Activation(x, act_type="tanh", name="last")
    assert cuts_of(mx.sym.sum(mx.sym.Dropout(ends)))
    late = mx.sym.Activation(mx.sym.Dropout(ends), act_type="tanh", name="late")
    assert cuts_of(mx.sym.sum(late)) == cuts_of(mx.sym.sum(mx.sym.Dropout(ends)))
    drawn = mx.sym.Dropout(mx.sym.Variable("data"))
    assert cuts_of(ends(data=drawn)) == ()


class Sizes:
    """What a planner asks, of a graph of seven segments."""

    kinds, on_gpu = 2, True
    last = 0.25

    def whole(self, recomputed, limit):
        return Taken(100.0)

    def segments(self, recomputed):
        return [Taken(4.0 if recomputed else 28.0)] * 6 + [Taken(self.last)]

    def kept(self):
        return [Taken(12.0)] * 6

    def forward(self):
        return [0.0] * 6

    def between(self):
        return 2.0


class Graphs(Sizes):
    """The same, and what their nodes take."""

    def segments(self, recomputed):
        return [taken._replace(graph=0.5) for taken in super().segments(recomputed)]

    def kept(self):
        return [taken._replace(graph=0.25) for taken in super().kept()]

    def forward(self):
        return [0.125] * 6


def planner_of(sizes):
    x = mx.sym.Variable("data")
    for number in range(6):
        for _ in range(9):
            x = mx.sym.tanh(x)
        x = mx.sym.Activation(x, act_type="tanh", name=f"cut{number}")
    symbol = mx.sym.MakeLoss(mx.sym.sum(x))
    return Planner(Forward(symbol, SHAPES), sizes)


@pytest.mark.parametrize("last, maps", [(0.25, 6.0), (1.0, 7.0), (9.0, 15.0)])
def test_a_last_segment_that_is_not_small_has_memory_of_its_own(last, maps):
    sizes = Sizes()
    sizes.last = last
    plan = planner_of(sizes).plan()
    assert (plan.maps, plan.largest, plan.apart) == (maps, 0, last > 0.25)


def test_a_chain_has_a_graph_of_each_executor():
    """Of those that run backward, and forward before that unless they keep their maps."""
    planner = planner_of(Graphs())
    plans = [planner.plan(limit) for limit in (12.0, 50.0, 99.0)]
    assert [plan.keeps for plan in plans] == [6, 5, 1]
    for plan in plans:
        first, later = plan.keeps, 6 - plan.keeps
        assert plan.graphs == 0.5 * (first + 1) + 0.25 * later + 0.125 * first
        assert plan.megabytes == plan.maps + plan.rest + plan.graphs


def test_the_fastest_chain_that_fits():
    """Each step of memory buys time, from everything computed again to nothing."""
    planner = planner_of(Sizes())
    assert planner.plan(102.0).cuts == ()
    limits = (99.0, 89.0, 50.0, 31.0, 20.0, 17.0, 7.0)
    plans = [planner.plan(limit) for limit in limits]
    assert (plans[0].maps, plans[0].keeps, plans[0].recomputed) == (90.0, 1, frozenset())
    assert (plans[-1].maps, plans[-1].keeps) == (6.0, 6) and plans[-1].recomputed
    assert all(a.again <= b.again for a, b in zip(plans, plans[1:]))
    assert all(plan.megabytes <= limit for plan, limit in zip(plans, limits))
    assert planner.plan().maps == 6.0
    assert all(again < plans[-1].again for _, again in plans[-1].faster)
    with pytest.raises(TooLarge, match="the smallest plan takes 6 MB"):
        planner.plan(5.0)
