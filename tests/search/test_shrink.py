"""What is left of a network after shrinking: exactly what it was, and it steps as it would have."""

from dsonas_mx import APGNAG, Architecture
from dsonas_mx.engine.flat import FlatTrainer, is_lambda
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.search.shrink import inherit, inherit_states, select
from dsonas_mx.space.masks import prune
from dsonas_mx.training.loss import cross_entropy

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model

CONTEXTS = [mx.cpu(0), mx.cpu(1)]
BATCH = 6


def part(parent, child, name, array):
    """The oracle: of an array of the parent's parameter, what the child's has, name by name."""
    array = np.asarray(array)
    if name not in parent.packed:
        return array
    axis, names = parent.packed[name]
    pieces = dict(zip(names, np.split(array, len(names), axis)))
    return np.concatenate([pieces[left] for left in child.packed[name][1]], axis)


class Side:
    """A network with a graph and trainers, as a search has them."""

    def __init__(self, net, schedule):
        self.net = net
        self.parameters = net.collect_params()
        learned = {n: p for n, p in self.parameters.items() if p.grad_req != "null"}
        self.graph = TrainGraph(net, cross_entropy, (BATCH, 1, 8, 8), (BATCH,), CONTEXTS)
        common = {"learning_rate": 0.05, "momentum": 0.9, "clip_gradient": 2.0}
        optimizers = {
            "weights": mx.optimizer.create("nag", wd=1e-3, **common),
            "lambdas": APGNAG(gamma=0.01, momentum_schedule=schedule, **common),
        }
        self.trainers = {
            kind: FlatTrainer(
                [p for p in learned.values() if is_lambda(p) == (kind == "lambdas")], optimizer
            )
            for kind, optimizer in optimizers.items()
        }

    def step(self, kind, seed):
        generator = np.random.RandomState(seed)
        data = generator.randn(BATCH, 1, 8, 8).astype("float32")
        outputs = self.graph.step(kind, data, np.arange(BATCH, dtype="float32") % 3)
        self.trainers[kind].step(BATCH)
        self.graph.wait()
        return np.concatenate([output.answers.asnumpy() for output in outputs])

    def values(self, context):
        return {name: p.data(context).asnumpy() for name, p in self.parameters.items()}

    def states(self, kind, device):
        states = self.trainers[kind].states(device)
        return {name: state.asnumpy() for name, (state,) in states.items()}

    def counts(self, kind, device):
        return self.trainers[kind].updates(device)


def weighted(architecture):
    net = get_model("dsonas", architecture, weighted=True, fix_gamma="operations")
    net.initialize(ctx=CONTEXTS)
    return net


def set_removed_to_zero(side, architecture):
    """λ of what the architecture does not have, at zero in the complete network."""
    child = weighted(architecture)
    for name in side.net.lambda_names:
        left = child.packed.get(name, (0, ()))[1]
        keep = np.array([part in left for part in side.net.packed[name][1]])
        side.parameters[name].set_data(side.parameters[name].data(CONTEXTS[0]) * mx.nd.array(keep))


@pytest.fixture(params=["share-constant", "share-apg", "full-constant", "full-apg"])
def before_and_after(request, tiny_space, some_architecture, randomised, plain):
    """A complete network after some steps, and what shrinking makes of it."""
    scope, schedule = request.param.split("-")
    space = tiny_space(scope=scope)
    options = {"weighted": True, "fix_gamma": "operations"}
    complete = randomised(Architecture.complete(space), CONTEXTS, **options)
    parent = Side(complete, schedule)
    for seed, kind in enumerate(["weights", "lambdas", "weights", "weights", "lambdas"]):
        parent.step(kind, seed)
    found = some_architecture(space)
    set_removed_to_zero(parent, found)
    child = Side(weighted(found), schedule)
    inherit(parent.net, child.net)
    for kind in parent.trainers:
        inherit_states(parent.net, parent.trainers[kind], child.net, child.trainers[kind])
    return parent, child


def test_everything_is_carried_over(before_and_after):
    parent, child = before_and_after
    for device, context in enumerate(CONTEXTS):
        expected, values = parent.values(context), child.values(context)
        assert len(values) < len(expected)  # operations are gone
        assert values["lambdas" if "lambdas" in values else "stage1_block1_lambdas"].all()
        for name, value in values.items():
            old = part(parent.net, child.net, name, expected[name])
            np.testing.assert_array_equal(value, old, err_msg=name)
        for kind, steps in (("weights", 3), ("lambdas", 2)):
            expected, states = parent.states(kind, device), child.states(kind, device)
            assert len(states) == len(child.trainers[kind].parameters)
            for name, state in states.items():
                assert state.any(), name
                old = part(parent.net, child.net, name, expected[name])
                np.testing.assert_array_equal(state, old, err_msg=name)
            assert child.counts(kind, device) == {name: steps for name in states}
            optimizer = child.trainers[kind].optimizer
            assert optimizer.num_update == steps
            assert optimizer._index_update_count is optimizer._all_index_update_counts[0]
    statistics = [n for n in child.parameters if "running" in n]
    first, second = (child.values(context) for context in CONTEXTS)
    assert all((first[name] != second[name]).any() for name in statistics)


def test_outputs_are_the_same(before_and_after):
    parent, child = before_and_after
    data = np.random.RandomState(9).randn(BATCH, 1, 8, 8).astype("float32")
    for context in CONTEXTS:  # with the statistics of each device
        expected, actual = (
            side.net(mx.nd.array(data, context)).asnumpy() for side in (parent, child)
        )
        np.testing.assert_allclose(actual, expected, atol=1e-5)
        assert np.ptp(expected, axis=0).min() > 1e-2  # the samples differ


@pytest.mark.parametrize("kinds", [["weights"], ["lambdas"], ["lambdas", "weights"]])
def test_steps_go_on_as_they_would_have(before_and_after, kinds):
    """With the removed λ at zero: in the complete network a step may raise them again."""
    parent, child = before_and_after
    for seed, kind in enumerate(kinds, 100):
        expected, actual = (side.step(kind, seed) for side in (parent, child))
        np.testing.assert_allclose(actual, expected, atol=1e-5)
        set_removed_to_zero(parent, child.net.architecture)
    for device, context in enumerate(CONTEXTS):
        expected, values = parent.values(context), child.values(context)
        for name, value in values.items():
            old = part(parent.net, child.net, name, expected[name])
            np.testing.assert_allclose(value, old, rtol=1e-5, atol=1e-5, err_msg=name)
        for kind in kinds:
            expected, states = parent.states(kind, device), child.states(kind, device)
            for name, state in states.items():
                old = part(parent.net, child.net, name, expected[name])
                np.testing.assert_allclose(state, old, rtol=1e-5, atol=1e-5, err_msg=name)


def test_shrinking_twice_is_shrinking_once(before_and_after, tiny_space):
    """The parts of parts: by name, not by place."""
    parent, child = before_and_after
    space = child.net.architecture.space
    kept = [list(mask) for mask in child.net.architecture.kept]
    for mask in kept:  # what the last operation still has on the way to the output
        mask[max(i for i, keeps in enumerate(mask[:-1]) if keeps and i != 1)] = False
    smaller = Architecture(
        space, [prune(space, mask) for mask in kept], child.net.architecture.reductions
    )
    assert smaller.num_connections < child.net.architecture.num_connections
    once, twice = weighted(smaller), weighted(smaller)
    inherit(parent.net, once)
    inherit(child.net, twice)
    for name, parameter in once.collect_params().items():
        other = twice.collect_params()[name]
        for context in CONTEXTS:
            np.testing.assert_array_equal(
                parameter.data(context).asnumpy(), other.data(context).asnumpy()
            )


def test_select():
    array = mx.nd.array(np.arange(12).reshape(2, 6))
    left = select(array, (1, ("a", "b", "c")), (1, ("a", "c")))
    np.testing.assert_array_equal(left.asnumpy(), [[0, 1, 4, 5], [6, 7, 10, 11]])
    rows = select(array, (0, ("a", "b")), (0, ("b",)))
    np.testing.assert_array_equal(rows.asnumpy(), [[6, 7, 8, 9, 10, 11]])


def test_an_optimizer_that_has_not_stepped(tiny_space, some_architecture):
    """Nothing to carry over, and nothing that would be taken for it."""
    space = tiny_space()
    parent = Side(weighted(Architecture.complete(space)), "constant")
    child = Side(weighted(some_architecture(space)), "constant")
    inherit_states(parent.net, parent.trainers["weights"], child.net, child.trainers["weights"])
    assert not child.states("weights", 0)
    child.step("weights", 0)
    assert set(child.counts("weights", 0).values()) == {1}
