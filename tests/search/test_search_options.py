"""What a search is told: the paper's defaults, and what is refused."""

from dsonas_mx.search.options import SearchOptions

import pytest


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_epochs": 0}, "`num_epochs` must be at least 1, got 0"),
        ({"pretrain_epochs": -1}, "`pretrain_epochs` must be at least 0, got -1"),
        ({"shrink_every": 0}, "`shrink_every` must be at least 1"),
        ({"patience": 0}, "`patience` must be at least 1"),
        ({"gamma": float("nan")}, "`gamma` must be at least 0 and finite, got nan"),
        ({"gamma": -1}, "`gamma` must be at least 0"),
        ({"learning_rate": 0}, "`learning_rate` must be above 0 and finite, got 0"),
        ({"learning_rate": float("inf")}, "`learning_rate` must be above 0 and finite, got inf"),
        ({"momentum": 1}, "`momentum` must be in \\[0, 1\\), got 1"),
        ({"split": (0, 1)}, r"`split` must be two numbers of at least 1, as 4:1, got \(0, 1\)"),
        ({"split": (1, 2, 3)}, "`split` must be two numbers"),
    ],
)
def test_refuses_options(changes, message):
    with pytest.raises(ValueError, match=message):
        SearchOptions(**changes)


def test_the_defaults_are_those_of_the_paper():
    options = SearchOptions()
    assert (options.pretrain_epochs, options.num_epochs) == (120, 120)
    assert (options.learning_rate, options.momentum, options.weight_decay) == (0.1, 0.9, 3e-4)
    assert (options.split, options.shrink_every, options.gamma) == ((1, 1), 5, 0.001)
