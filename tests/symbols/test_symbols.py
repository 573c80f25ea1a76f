"""The networks: shapes, parameters, and what must compute the same."""

from dsonas_mx.cost import count as cost
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import OPERATIONS, STEMS, SearchSpace

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from symbols import DSONAS, get_model, get_symbol

SMALL = SearchSpace(levels=3, blocks=(1, 2), width=4, image_size=12)
SCOPES = ("share", "full")


def fill(net, seed=0):
    """Random parameters, so that nothing is one or zero by chance; statistics included."""
    net.initialize()
    generator = np.random.RandomState(seed)
    for name, parameter in net.collect_params().items():
        values = generator.uniform(0.2, 1.2, parameter.shape)
        if name.endswith("weight"):
            values = generator.randn(*parameter.shape) / np.sqrt(np.prod(parameter.shape[1:]))
        elif name.endswith(("beta", "mean", "bias")):
            values = values - 0.7
        parameter.set_data(mx.nd.array(values))
    return net


def images(space, batch=2, seed=0):
    shape = (batch, space.in_channels, space.image_size, space.image_size)
    return mx.nd.array(np.random.RandomState(seed).randn(*shape))


def forward_and_backward(net, data, weights):
    """Outputs, gradients and moving statistics of a training pass."""
    with autograd.record():
        outputs = net(data)
        (outputs * weights).sum().backward()
    mx.nd.waitall()
    parameters = net.collect_params().items()
    arrays = {name: p.grad().asnumpy() for name, p in parameters if p.grad_req != "null"}
    arrays.update((n, p.data().asnumpy()) for n, p in parameters if "_running_" in n)
    return {"outputs": outputs.asnumpy(), **arrays}


def assert_all_close(first, second, tolerance=1e-4):
    assert set(first) == set(second)
    for name, array in first.items():
        np.testing.assert_allclose(
            array, second[name], rtol=0, atol=tolerance * (np.abs(array).max() or 1), err_msg=name
        )


ARCHITECTURES = {
    "complete": Architecture.complete(SMALL),
    "pruned": Architecture.random(SMALL, 1, density=0.3),
    "full": Architecture.random(
        SearchSpace("full", 2, OPERATIONS, blocks=(2, 1), width=4, image_size=12), 0, density=0.4
    ),
    "imagenet": Architecture.random(
        SearchSpace.imagenet(levels=2, blocks=(1, 1, 1, 1), width=6, num_classes=10, image_size=48),
        0,
    ),
}


@pytest.mark.parametrize("weighted", (True, False), ids=["weighted", "plain"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_hybridized_computes_the_same(name, weighted):
    architecture = ARCHITECTURES[name]
    data = images(architecture.space, batch=4)
    weights = mx.nd.array(np.random.RandomState(1).randn(4, 10))
    net = fill(DSONAS(architecture, weighted))
    still = net(data).asnumpy()
    hybrid = fill(DSONAS(architecture, weighted))
    hybrid.hybridize()
    np.testing.assert_allclose(hybrid(data).asnumpy(), still, rtol=1e-4, atol=1e-5)
    assert_all_close(
        forward_and_backward(net, data, weights),
        forward_and_backward(hybrid, data, weights),
        1e-3,
    )


@pytest.mark.parametrize("scope", SCOPES)
def test_pruned_computes_what_the_complete_one_does_with_scales_at_zero(scope):
    """In inference and in training, for what is left: outputs, gradients, statistics."""
    space = SearchSpace(scope, 3, blocks=(1, 2), width=4, image_size=12)
    complete = fill(DSONAS(Architecture.complete(space), weighted=True, fix_gamma="none"))
    for seed in range(3):
        branches = (((True, False),), ((False, True),), ((True, True),))[seed]
        kept = Architecture.random(space, seed, density=(0.2, 0.4, 0.8)[seed]).kept
        architecture = Architecture(space, kept, branches)
        pruned = DSONAS(architecture, weighted=True, fix_gamma="none")
        pruned.initialize()

        def selected(name, array, pruned=pruned):
            """Of an array of the complete network, what the pruned one has."""
            if name not in pruned.packed:
                return array
            axis, names = complete.packed[name]
            parts = dict(zip(names, np.split(array, len(names), axis)))
            return np.concatenate([parts[part] for part in pruned.packed[name][1]], axis)

        for name, parameter in pruned.collect_params().items():
            array = complete.collect_params()[name].data().asnumpy()
            parameter.set_data(mx.nd.array(selected(name, array)))
        rows = fill(DSONAS(Architecture.complete(space), weighted=True, fix_gamma="none"))
        for name in rows.lambda_names:
            left = pruned.packed[name][1]
            mask = np.array([part in left for part in rows.packed[name][1]])
            parameter = rows.collect_params()[name]
            assert mask.sum() == len(left) and parameter.shape == mask.shape
            parameter.set_data(parameter.data() * mx.nd.array(mask))

        data, weights = images(space, 4), mx.nd.array(np.random.RandomState(1).randn(4, 10))
        np.testing.assert_allclose(
            pruned(data).asnumpy(), rows(data).asnumpy(), rtol=1e-4, atol=1e-5
        )
        large = forward_and_backward(rows, data, weights)
        small = forward_and_backward(pruned, data, weights)
        assert len(small) < len(large)
        assert_all_close({name: selected(name, large[name]) for name in small}, small, 1e-3)


def test_a_block_with_nothing_left_is_its_shortcut():
    space = SearchSpace(blocks=(3,), width=4, image_size=8)
    empty = Architecture.from_lambdas(space, np.zeros(124))
    for weighted in (True, False):
        net = fill(DSONAS(empty, weighted))
        parts = {name.split("_")[0] for name in net.collect_params()}
        assert parts == {"stem", "stage1", "final", "fc"}  # the first block has its projection
        assert not any("block2" in name or "output" in name for name in net.collect_params())
        p = {name: parameter.data() for name, parameter in net.collect_params().items()}

        def conv_bn_relu(x, name, kernel, channels=4, p=p):
            x = mx.nd.Convolution(
                x, p[f"{name}_conv_weight"], num_filter=channels, kernel=(kernel, kernel),
                pad=(kernel // 2, kernel // 2), no_bias=True,
            )  # fmt: skip
            return bn_relu(x, f"{name}_bn")

        def bn_relu(x, name, p=p, weighted=weighted):
            gamma = 1 if weighted else p[f"{name}_gamma"].reshape((1, -1, 1, 1))
            mean, var, beta = (
                p[f"{name}_{part}"].reshape((1, -1, 1, 1))
                for part in ("running_mean", "running_var", "beta")
            )
            return mx.nd.relu(gamma * (x - mean) / (var + 2e-5).sqrt() + beta)

        data = images(space)
        x = conv_bn_relu(conv_bn_relu(data, "stem", 3), "stage1_block1_shortcut", 1)
        x = bn_relu(x, "final_bn").mean((2, 3))
        expected = mx.nd.dot(x, p["fc_weight"].T) + p["fc_bias"]
        np.testing.assert_allclose(net(data).asnumpy(), expected.asnumpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("levels", range(1, 6))
def test_any_number_of_levels_and_operations(levels, scope):
    """The stems take turns."""
    for count in range(1, 6):
        stem = STEMS[(levels + count) % 2]
        space = SearchSpace(
            scope, levels, OPERATIONS[:count], stem, (1, 1), 4, num_classes=3, image_size=16
        )
        architecture = Architecture.complete(space)
        net = fill(DSONAS(architecture, weighted=True))
        vectors = [p.shape for n, p in net.collect_params().items() if n.endswith("lambdas")]
        assert sorted(vectors) == sorted(
            [(2,)] + [(len(space.connections),)] * space.num_structures
        )
        outputs = forward_and_backward(net, images(space), mx.nd.ones((2, 3)))
        assert outputs["outputs"].shape == (2, 3)
        assert all(np.isfinite(array).all() for array in outputs.values())
        for name in net.lambda_names:
            assert np.count_nonzero(outputs[name]) > len(outputs[name]) // 2


@pytest.mark.parametrize("weighted", (True, False), ids=["weighted", "plain"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_symbol_has_the_arguments_of_the_model(name, weighted):
    architecture = ARCHITECTURES[name]
    space = architecture.space
    symbol = get_symbol("dsonas", architecture, weighted=weighted)
    net = get_model("dsonas", architecture, weighted=weighted)
    parameters = {name: p.shape for name, p in net.collect_params().items()}
    shape = (2, 3, space.image_size, space.image_size)
    arguments, outputs, states = symbol.infer_shape(data=shape)
    found = dict(zip(symbol.list_arguments(), arguments))
    assert found.pop("data") == shape
    moving = dict(zip(symbol.list_auxiliary_states(), states))
    assert {**found, **moving} == parameters
    assert set(moving) == {name for name in parameters if "_running_" in name}
    assert outputs == [(2, 10)]


def test_published_numbers_of_parameters():
    """Of the share-scope supernets, λ included."""
    for space, published in (
        (SearchSpace.cifar10(), 10_031_130),
        (SearchSpace.imagenet(), 12_459_688),
        (SearchSpace.cifar10(scope="full"), 10_033_982),
    ):
        parameters = get_model("dsonas", space=space, weighted=True).collect_params()
        sizes = [np.prod(p.shape) for name, p in parameters.items() if "_running_" not in name]
        assert sum(map(int, sizes)) == published


def test_model_options():
    space = SearchSpace(blocks=(1, 1), width=4)
    architecture = Architecture.random(space, 0)
    assert get_model("dsonas").architecture == Architecture.complete(SearchSpace.cifar10())
    assert get_model("dsonas", space=space).architecture == Architecture.complete(space)
    wide = get_model("dsonas", architecture, width=8)
    assert wide.architecture == architecture.with_space(width=8)
    with pytest.raises(
        ValueError, match="no network 'resnet'; known are densenet_bc_190_40, dsonas"
    ):
        get_model("resnet")
    with pytest.raises(ValueError, match="an architecture has its own space"):
        get_model("dsonas", architecture, space=SearchSpace.cifar10())
    with pytest.raises(ValueError, match="fix_gamma must be all, operations, none, got 'some'"):
        get_model("dsonas", architecture, fix_gamma="some")
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got 1"):
        get_model("dsonas", architecture, dropout=1)


@pytest.mark.parametrize(
    ("options", "fixed"),
    [
        ({"weighted": True}, "all"),
        ({"weighted": False}, "none"),
        ({"weighted": True, "fix_gamma": "operations"}, "operations"),
        ({"weighted": True, "fix_gamma": "none"}, "none"),
    ],
)
def test_which_gammas_are_fixed(options, fixed):
    architecture = Architecture.complete(SMALL)
    net = fill(DSONAS(architecture, **options))
    outer = {"stem_bn_gamma", "final_bn_gamma"}
    outer |= {f"stage{s}_block{b}_output_bn_gamma" for s, b in SMALL.block_positions}
    gammas = {name for name in net.collect_params() if name.endswith("gamma")}
    inner = gammas - outer
    expected = {"all": gammas, "operations": inner, "none": set()}[fixed]
    data, before = images(SMALL), None
    for name in sorted(gammas):
        parameter = net.collect_params()[name]
        assert (parameter.grad_req == "null") == (name in expected)
    # A fixed gamma is one, whatever its array says.
    before = net(data).asnumpy()
    for name in expected:
        net.collect_params()[name].set_data(mx.nd.full(net.collect_params()[name].shape, 7))
    np.testing.assert_array_equal(net(data).asnumpy(), before)


def test_weight_decay_is_for_weights_alone():
    net = DSONAS(Architecture.complete(SMALL), weighted=True, fix_gamma="none")
    for name, parameter in net.collect_params().items():
        assert parameter.wd_mult == (1 if name.endswith("weight") else 0) or "running" in name


def test_initial_values():
    net = DSONAS(Architecture.complete(SearchSpace(blocks=(1, 1), width=32)), weighted=True)
    mx.random.seed(0)
    net.initialize()
    values = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    for name, array in values.items():
        if name == "fc_weight":
            assert array.std() == pytest.approx(0.01, rel=0.1)
        elif name.endswith("weight"):
            outputs, _, kernel, _ = array.shape  # fan_out, of a depthwise convolution too
            assert array.std() == pytest.approx(np.sqrt(2 / (outputs * kernel**2)), rel=0.2), name
        else:
            one = name.endswith(("gamma", "running_var", "lambdas"))
            assert (array == (1 if one else 0)).all(), name


@pytest.mark.parametrize(
    ("space", "pool"),
    [
        (SearchSpace(blocks=(1, 1, 1), width=4), 8),
        (
            SearchSpace.imagenet(
                levels=1, blocks=(1, 1, 1, 1), width=4, num_classes=10, image_size=224
            ),
            7,
        ),
    ],
    ids=["cifar", "imagenet"],
)
def test_auxiliary_tower(space, pool):
    """Behind the second or third reduction, 8×8 or 7×7: a pool to 2×2, 1×1 to 128, 2×2 to 768."""
    architecture = Architecture.random(space, 0)
    net = fill(DSONAS(architecture, auxiliary=True))
    channels, side = space.stage_shapes[2 if space.stem == "cifar" else 3]
    assert side == pool
    shapes = {
        name: p.shape for name, p in net.collect_params().items()
        if name.startswith("auxiliary") and "_running_" not in name
    }  # fmt: skip
    assert shapes == {
        "auxiliary_bn_gamma": (channels,),
        "auxiliary_bn_beta": (channels,),
        "auxiliary_1x1_conv_weight": (128, channels, 1, 1),
        "auxiliary_1x1_bn_gamma": (128,),
        "auxiliary_1x1_bn_beta": (128,),
        "auxiliary_2x2_conv_weight": (768, 128, 2, 2),
        "auxiliary_2x2_bn_gamma": (768,),
        "auxiliary_2x2_bn_beta": (768,),
        "auxiliary_fc_weight": (10, 768),
        "auxiliary_fc_bias": (10,),
    }
    logits, tower = net(images(space))
    assert logits.shape == tower.shape == (2, 10)
    plain = fill(DSONAS(architecture))
    for name, parameter in plain.collect_params().items():
        parameter.set_data(net.collect_params()[name].data())
    np.testing.assert_allclose(plain(images(space)).asnumpy(), logits.asnumpy(), atol=1e-5)
    symbol = get_symbol("dsonas", architecture, auxiliary=True)
    internals = symbol.get_internals()
    _, sides, _ = internals.infer_shape(data=(1, 3, space.image_size, space.image_size))
    found = dict(zip(internals.list_outputs(), sides))
    assert [s for n, s in found.items() if s == (1, 128, 2, 2)]
    assert [s for n, s in found.items() if s == (1, 768, 1, 1)]


def test_auxiliary_tower_needs_room():
    with pytest.raises(ValueError, match="needs a network of more than 2 stages, got 2: give 0"):
        DSONAS(Architecture.complete(SMALL), auxiliary=True)
    tiny = SearchSpace(blocks=(1, 1, 1), width=4, image_size=28)
    with pytest.raises(ValueError, match="`auxiliary` needs maps of at least 8×8.*: give 0"):
        DSONAS(Architecture.complete(tiny), auxiliary=True)


def test_dropout_acts_in_training_alone():
    net = fill(DSONAS(Architecture.random(SMALL, 0), dropout=0.5))
    data = images(SMALL)
    np.testing.assert_array_equal(net(data).asnumpy(), net(data).asnumpy())
    with autograd.train_mode():
        assert not np.array_equal(net(data).asnumpy(), net(data).asnumpy())


def test_dropout_keeps_0_6_of_the_features_of_the_classifier():
    """With an identity for a classifier the logits are its features: of p = 0.4, the paper's
    "probability 0.6", four in ten are 0 and the others 1 / 0.6 times as large.
    """
    architecture = Architecture.complete(
        SearchSpace(levels=1, width=16, blocks=(1,), num_classes=16)
    )
    data = images(architecture.space, batch=256)
    features = []
    for dropout in (0.0, 0.4):
        net = fill(DSONAS(architecture, dropout=dropout))
        net.collect_params()["fc_weight"].set_data(mx.nd.eye(16))
        net.collect_params()["fc_bias"].set_data(mx.nd.zeros(16))
        mx.random.seed(3)
        with autograd.train_mode():  # BN by the batch, in both alike
            features.append(net(data).asnumpy())
    whole, dropped = features
    assert (whole != 0).all()
    kept = dropped != 0
    assert 1 - kept.mean() == pytest.approx(0.4, abs=0.03)  # four standard deviations
    np.testing.assert_allclose(dropped[kept], whole[kept] / 0.6, rtol=1e-4)
    assert dropped.mean() == pytest.approx(whole.mean(), rel=0.06)


def test_networks_have_the_same_names_every_time():
    first, second = (DSONAS(Architecture.complete(SMALL), weighted=True) for _ in range(2))
    assert list(first.collect_params()) == list(second.collect_params())
    assert first.lambda_names == ("lambdas", "reduction1_lambdas")
    assert cost.count_lambdas(SMALL) == sum(
        second.collect_params()[name].shape[0] for name in second.lambda_names
    )
