"""The picture of how far seeds agree."""

import csv

from dsonas_mx.plots import draw_agreement
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import SearchSpace

import numpy as np
import pytest

FULL = SearchSpace(scope="full", levels=2, operations=("sep3", "max"), blocks=(1, 3))


def lines(axes, gid):
    (line,) = [line for line in axes.lines if line.get_gid() == gid]
    return line.get_ydata()


@pytest.mark.parametrize("space", [SearchSpace(), FULL])
def test_means_are_sorted_and_stand_apart_where_seeds_agree(space):
    count = len(space.connections)
    signal = np.random.RandomState(0).rand(1, space.num_structures, count)
    noise = 0.1 * np.random.RandomState(1).rand(4, space.num_structures, count)
    figure = draw_agreement(space, signal + noise, ["a note"])
    assert len(figure.axes) == space.num_structures
    for structure, axes in enumerate(figure.axes):
        mean = lines(axes, "mean")
        expected = np.sort((signal + noise).mean(0)[structure])[::-1]
        np.testing.assert_allclose(mean, expected)
        assert np.ptp(mean) > 1.2 * np.ptp(lines(axes, "chance"))
        dots = np.concatenate([part.get_offsets() for part in axes.collections[1:]])
        assert len(dots) == 4 * count
    assert "a note" in [text.get_text() for text in figure.texts]


def test_without_agreement_the_mean_is_that_of_chance():
    space = SearchSpace()
    (axes,) = draw_agreement(space, np.random.RandomState(0).rand(5, 1, 124), []).axes
    np.testing.assert_allclose(lines(axes, "mean"), lines(axes, "chance"), atol=0.12)


@pytest.mark.parametrize("shape", [(1, 1, 124), (2, 1, 10), (2, 124)])
def test_refused(shape):
    with pytest.raises(ValueError, match=r"two seeds or more, each \(1, 124\)"):
        draw_agreement(SearchSpace(), np.ones(shape), [])


def test_of_runs(script, tmp_path):
    space = SearchSpace(levels=2, operations=("sep3", "max"), blocks=(1,))
    folders = [tmp_path / f"seed{seed}" for seed in range(2)]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        Architecture.random(space, seed).save(folder / "architecture.json")
        with open(folder / "lambdas.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *(c.name for c in space.connections)])
            writer.writerow([1, *np.random.RandomState(seed).rand(len(space.connections))])
    out = tmp_path / "out"
    status, said, _ = script("tools/plot.py", "agreement", *folders, "--out", out)
    assert status == 0 and (out / "agreement.png").is_file() and "agreement.png" in said
    status, _, error = script("tools/plot.py", "agreement", folders[0], "--out", out)
    assert status and "agreement is of two searches or more" in error
