"""The architecture of a search when it had so many connections."""

import csv

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.experiments.search_path import with_connections
from dsonas_mx.space.scales import scale_names

import numpy as np
import pytest

# Six connections to the output; nothing dangles.
SPACE = SearchSpace(
    scope="full", levels=1, operations=("sep3", "max", "avg"), blocks=(1, 1), width=4
)


def run(folder, *epochs):
    """A run folder of a search whose λ were these."""
    scales = [[*epoch, 1.0, 1.0] for epoch in epochs]  # and branches of the reduction
    names = scale_names(SPACE)
    with open(folder / "lambdas.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["epoch", *names], *([epoch, *row] for epoch, row in enumerate(scales))]
        )
    rows = np.array(epochs[-1]).reshape(2, 3)
    Architecture.from_lambdas(SPACE, rows, origin={"seed": 7}).save(folder / "architecture.json")
    return folder


EPOCHS = (
    (1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
    (0.9, 0.2, 0.5, 0.1, 0.8, 0.3),
    (0.9, 0.0, 0.0, 0.0, 0.8, 0.1),
    (0.9, 0.0, 0.0, 0.0, 0.8, 0.0),
)


@pytest.mark.parametrize(
    ("connections", "kept"),
    [
        (2, (1, 0, 0, 0, 1, 0)),
        (3, (1, 0, 0, 0, 1, 1)),
        (4, (1, 0, 1, 0, 1, 1)),
        (5, (1, 1, 1, 0, 1, 1)),
        (6, (1, 1, 1, 1, 1, 1)),
    ],
)
def test_the_smallest_scales_go(tmp_path, connections, kept):
    found = with_connections(run(tmp_path, *EPOCHS), connections)
    assert np.array(found.kept).ravel().tolist() == list(map(bool, kept))
    assert found.origin == {"seed": 7}


def test_of_equal_ones_those_go_that_the_next_epoch_has_smaller(tmp_path):
    found = with_connections(run(tmp_path, EPOCHS[0], EPOCHS[2]), 5)
    assert found.num_connections == 5
    found = with_connections(run(tmp_path, EPOCHS[0], (0.9, 0.1, 0.0, 0.0, 0.0, 0.0)), 4)
    assert found.kept[0][:2] == (True, True)


def test_what_dangles_goes_too(tmp_path):
    space = SearchSpace(levels=2, operations=("sep3", "max"), blocks=(1, 1), width=4)
    complete = Architecture.complete(space)
    names = scale_names(complete.space)
    scales = {name: 1.0 for name in names}
    scales.update({"2.sep3->output": 0.1, "1.sep3->output": 0.2})
    last = {**scales, "2.sep3->output": 0.0, "1.sep3->output": 0.0}
    with open(tmp_path / "lambdas.csv", "w", newline="") as file:
        csv.writer(file).writerows([["epoch", *names], [0, *scales.values()], [1, *last.values()]])
    size = space.num_connections
    Architecture.from_lambdas(space, list(last.values())[:size]).save(
        tmp_path / "architecture.json"
    )
    # Without 2.sep3->output its three inputs are on no way to the output.
    assert with_connections(tmp_path, size - 1).num_connections == size - 4


def test_a_search_that_never_had_so_few_or_so_many(tmp_path):
    assert with_connections(run(tmp_path, *EPOCHS), 1).num_connections == 2
    with pytest.raises(ValueError, match="no epoch of the search had 7 connections"):
        with_connections(tmp_path, 7)
