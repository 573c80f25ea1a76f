"""The width that meets a target."""

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.cost.count import count
from dsonas_mx.cost.width import Target, fit_width, multiply_adds, parameters

import pytest

FOUND = Architecture.random(SearchSpace.cifar10(), 0, connections=25)


def area(architecture):
    """A cost that is easy to work out."""
    return float(architecture.space.width**2)


def test_paper_has_three_million_parameters():
    found = fit_width(FOUND, Target("parameters", 3_000_000, parameters))
    width = found.space.width
    assert count(found).parameters <= 3_000_000
    assert count(FOUND.with_space(width=width + 1)).parameters > 3_000_000
    assert found.kept == FOUND.kept and found.space.blocks == FOUND.space.blocks


def test_multiply_adds_of_the_imagenet_space():
    space = SearchSpace.imagenet()
    found = fit_width(
        Architecture.random(space, 1, connections=20), Target("multiply-adds", 6e8, multiply_adds)
    )
    assert count(found).multiply_adds <= 600e6
    assert count(found.with_space(width=found.space.width + 1)).multiply_adds > 600e6


@pytest.mark.parametrize(
    ("most", "divisor", "width"),
    [
        (100, 1, 10),
        (99.9, 1, 9),
        (1, 1, 1),
        (100, 4, 8),
        (64, 8, 8),
        (1e6, 8, 1000),
        (9, 3, 3),
        (3500.0**2, 3, 3498),  # nearer to the widest than any doubling of 3
    ],
)
def test_the_widest_within_the_target(most, divisor, width):
    assert fit_width(FOUND, Target("units", most, area), divisor).space.width == width


def test_each_width_is_measured_once():
    widths = []

    def measure(architecture):
        widths.append(architecture.space.width)
        return area(architecture)

    target = Target("ms", 1000.0, measure)
    found = fit_width(FOUND, target)
    assert target.describe(found) == "width 31: 961 of 1,000 ms"
    assert len(widths) == len(set(widths)) < 15


@pytest.mark.parametrize(
    ("most", "divisor", "message"),
    [
        (10, 4, "a target of 10 units cannot be met: the narrowest network, of width 4, has 16"),
        (0.5, 1, "a target of 0.5 units cannot be met: the narrowest network, of width 1, has 1"),
        (1e9, 1, "a target of 1,000,000,000 units cannot be met: the widest network, of width 40"),
    ],
)
def test_unreachable_targets_name_the_closest(most, divisor, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        fit_width(FOUND, Target("units", most, area), divisor)


def test_the_imagenet_stem_needs_two_channels():
    found = Architecture.complete(SearchSpace.imagenet())
    with pytest.raises(ValueError, match="narrowest network, of width 2, has 4"):
        fit_width(found, Target("units", 1.5, area))


@pytest.mark.parametrize("most", [0, -1, float("nan"), float("inf")])
def test_bad_targets(most):
    with pytest.raises(ValueError, match="a target of ms must be above 0 and finite"):
        Target("ms", most, area)


def test_bad_divisor():
    with pytest.raises(ValueError, match="divisor must be at least 1, got 0"):
        fit_width(FOUND, Target("units", 5, area), 0)
