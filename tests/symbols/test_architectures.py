"""The architectures that come with the project."""

from dsonas_mx.cost import count as cost

import mxnet as mx
import pytest

from symbols import architectures, get_model, get_symbol

NAMES = architectures.names()


def test_names():
    assert "dsonas_share_cifar10" in NAMES
    with pytest.raises(ValueError, match="no architecture 'none'; known are dsonas_share_cifar10"):
        architectures.load("none")


@pytest.mark.parametrize("name", NAMES)
def test_its_symbol_is_the_one_shipped(name):
    """If the network was changed on purpose: python -m symbols.architectures."""
    get_model("dsonas")  # numbers of unnamed operators go on from here
    shipped = architectures.FOLDER / f"{name}-symbol.json"
    assert get_symbol(name).tojson() == shipped.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_its_result_is_of_this_network(name):
    """The origin has the seeds, and its result the cost of the network that is loaded."""
    architecture = architectures.load(name)
    result, size = architecture.origin["result"], cost.count(architecture)
    assert result["parameters"] == size.parameters
    assert result["multiply_adds"] == size.multiply_adds
    assert result["connections"] == architecture.num_connections
    assert 0 < result["test_error"] < 0.5
    assert architecture.origin["search"]["seed"] == architecture.origin["training"]["seed"] == 0


def test_in_another_size():
    net = get_model("dsonas_share_cifar10", width=4, blocks=(2, 1, 1), num_classes=7, image_size=16)
    net.initialize()
    assert net(mx.nd.zeros((2, 3, 16, 16))).shape == (2, 7)
    assert net.architecture.kept == architectures.load("dsonas_share_cifar10").kept
