"""A training whose parameters are slices of a few arrays is, to the last bit, the same training."""

from functools import cached_property

from dsonas_mx import Architecture
from dsonas_mx.engine.flat import ALIGNMENT, ROOM, Flat, FlatTrainer, add_up, flattened, room
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.engine.setup import Setup
from dsonas_mx.search.options import SearchOptions
from dsonas_mx.search.search import Search

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model

TWO = [mx.cpu(0), mx.cpu(1)]
OPTIONS = SearchOptions(
    pretrain_epochs=1, num_epochs=3, shrink_every=1, learning_rate=0.05, gamma=0.02
)


def _learned(graph):
    parameters = graph._net.collect_params().values()
    return [parameter for parameter in parameters if parameter.grad_req != "null"]


def _flattened(graph):
    return flattened(_learned(graph))


@pytest.fixture
def search(tiny_space, loader, plain, monkeypatch):
    """`search(flat, contexts)`: a new search, of flat parameters or not."""

    def build(flat, contexts, scope="full"):
        learned = cached_property(
            lambda graph: flattened(_learned(graph)) if flat else _learned(graph)
        )
        learned.__set_name__(TrainGraph, "learned")
        monkeypatch.setattr(TrainGraph, "learned", learned)
        mx.random.seed(0)
        return Search(
            lambda architecture: get_model(
                "dsonas", architecture, weighted=True, fix_gamma="operations"
            ),
            Architecture.complete(tiny_space(scope=scope)),
            weight_data=loader(24, 8),
            lambda_data=loader(24, 8, stream=1),
            options=OPTIONS,
            setup=Setup(contexts),
        )

    return build


def lose(searching):
    """Let λ of a connection, and all of a reduction but for the rule, reach zero."""
    parameters = searching.net.collect_params()
    for name in searching.net.lambda_names:
        values = parameters[name].list_data()[0].asnumpy()
        values[-1] = 1e-6
        if name in searching.net.never_empty:
            values[:] = 1e-6
        parameters[name].set_data(mx.nd.array(values))


@pytest.mark.parametrize("contexts", [TWO[:1], TWO], ids=["one device", "two devices"])
def test_the_same_search(search, contexts):
    """With pre-training, a removal, and γ of several parameters: every file has the same bytes."""
    states = []
    for flat in (False, True):
        searching = search(flat, contexts)
        searching.step_epoch()
        lose(searching)
        searching.step_epoch()
        assert (
            searching.net.architecture.num_connections
            < searching.architecture.space.num_connections
        )
        searching.step_epoch()
        assert all(trainer.is_flat == flat for trainer in searching.trainers.values())
        assert all(len(t.parameters) < 4 for t in searching.trainers.values()) == flat
        states.append(searching.state())
    alone, flat = states
    assert alone.values == flat.values
    assert list(alone.arrays) == list(flat.arrays)
    for name, array in alone.arrays.items():
        assert array.tobytes() == flat.arrays[name].tobytes(), name


@pytest.mark.parametrize("before, after", [(False, True), (True, False)])
def test_a_checkpoint_is_of_either(search, before, after):
    first = search(before, TWO)
    first.step_epoch()
    first.step_epoch()
    second = search(after, TWO)
    second.restore(first.state())
    assert second.step_epoch() == first.step_epoch()
    for name, array in first.state().arrays.items():
        assert array.tobytes() == second.state().arrays[name].tobytes(), name


def test_parameters_are_slices(search):
    """Aligned, in an array a factor of decay; what is between them stays zero."""
    searching = search(True, TWO)
    parameters = searching.net.collect_params()
    searching.step_epoch()
    searching.step_epoch()
    for trainer in searching.trainers.values():
        for flat in trainer.parameters:
            assert {parameters[name].wd_mult for name in flat.parts} == {flat.wd_mult}
            assert all(part.start % ALIGNMENT == 0 for part in flat.parts.values())
            between = flat.data(TWO[1]).asnumpy().reshape(-1)
            for name, part in flat.parts.items():
                size = parameters[name].data(TWO[1]).size
                values = between[part.start : part.start + size]
                np.testing.assert_array_equal(
                    values, parameters[name].data(TWO[1]).asnumpy().reshape(-1)
                )
                values[:] = 0
            assert not between.any()


@pytest.mark.parametrize("elements", [ROOM, 9])
def test_devices_share_the_sum(elements, monkeypatch):
    """Of arrays that cannot be divided evenly, of fewer elements than devices, and of many more
    than there is room for.
    """
    monkeypatch.setattr("dsonas_mx.engine.flat.ROOM", elements)
    contexts = [mx.cpu(device) for device in range(3)]
    parameters = []
    for name, size in (("a_weight", 7), ("b_weight", 70)):
        parameter = mx.gluon.Parameter(name, shape=(size,))
        parameter.initialize(mx.init.One(), ctx=contexts)
        parameters.append(parameter)
    trainer = FlatTrainer(flattened(parameters), mx.optimizer.create("sgd", learning_rate=1.0))
    for parameter in parameters:
        for device, gradient in enumerate(parameter.list_grad()):
            gradient[:] = 10**device
    trainer.step(1)
    for parameter in parameters:
        for data in parameter.list_data():
            np.testing.assert_array_equal(data.asnumpy(), 1 - 111)


def test_the_sum_is_in_the_order_of_the_devices(monkeypatch):
    """Whichever of them adds a piece up: so its rounding does not depend on the pieces."""
    monkeypatch.setattr("dsonas_mx.engine.flat.ROOM", 9)
    random, contexts = np.random.RandomState(0), [mx.cpu(device) for device in range(3)]
    values = random.randn(3, 70).astype(np.float32)
    copies = [mx.nd.array(value, ctx=ctx) for value, ctx in zip(values, contexts)]
    add_up(copies, room(70, contexts))
    expected, other = (
        mx.nd.add_n(*map(mx.nd.array, order)).asnumpy() for order in (values, values[::-1])
    )
    assert (expected != other).any()
    for copy in copies:
        np.testing.assert_array_equal(copy.asnumpy(), expected)


def test_on_the_cpu_parameters_stay_their_own(search):
    """In inference MKLDNN lays a weight out anew in place, and all that shares its memory."""
    searching = search(False, TWO)
    arrays = {name: p.data(TWO[1]) for name, p in searching.net.collect_params().items()}
    searching.step_epoch()
    for name, parameter in searching.net.collect_params().items():
        assert parameter.data(TWO[1]) is arrays[name]


def test_an_array_of_arrays():
    """Slices of a slice share its memory, and carry their values along."""
    inner = []
    for name, value in (("a_beta", 1.0), ("b_beta", 2.0), ("c_beta", 3.0)):
        parameter = mx.gluon.Parameter(name, shape=(3,), wd_mult=0)
        parameter.initialize(mx.init.Constant(value), ctx=TWO)
        inner.append(parameter)
    stack = Flat("stack", inner[:2], is_stack=True)
    assert stack.shape == (6,)
    (flat,) = flattened([inner[2], stack])
    assert list(flat.parts) == ["c_beta", "a_beta", "b_beta"]
    for context in TWO:
        np.testing.assert_array_equal(stack.data(context).asnumpy(), [1, 1, 1, 2, 2, 2])
        flat.data(context)[:] = 7
        flat.grad(context)[:] = 5
        for parameter in (*inner, stack):
            assert (parameter.data(context).asnumpy() == 7).all()
            assert (parameter.grad(context).asnumpy() == 5).all()
