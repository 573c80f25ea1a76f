"""Agreement of searches: figures that are known, and levels by chance that drawing confirms."""

import csv

from dsonas_mx.experiments.agreement import (
    Found,
    agreement,
    chance_jaccard,
    chance_spearman,
    jaccard,
    kinds_of,
    mean_jaccard,
    operations_kept,
    read_search,
    spearman,
    spearman_by_epoch,
)
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import SearchSpace

import numpy as np
import pytest
from scipy import stats

SMALL = SearchSpace(levels=2, operations=("sep3", "max"), blocks=(1,))  # 10 connections
FULL = SearchSpace(scope="full", levels=2, operations=("sep3", "max"), blocks=(2,))


def found(space, seed, epochs=3):
    lambdas = np.random.RandomState(seed).rand(epochs, space.num_structures, 10)
    return Found(Architecture.random(space, seed), lambdas)


def write(folder, architecture, lambdas):
    folder.mkdir()
    architecture.save(folder / "architecture.json")
    space = architecture.space
    owners = [""]
    if space.scope == "full":
        owners = [f"stage{stage}.block{block}:" for stage, block in space.block_positions]
    names = [owner + c.name for owner in owners for c in space.connections]
    with open(folder / "lambdas.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *names, "reduction1.1x1"])
        for epoch, row in enumerate(lambdas, 1):
            writer.writerow([epoch, *row.ravel(), 9.0])


def test_jaccard():
    assert jaccard([1, 1, 0, 0], [1, 0, 1, 0]) == pytest.approx(1 / 3)
    assert jaccard([0, 0], [0, 0]) == 1


def test_spearman_is_scipys():
    first, second = np.array([0.0, 0.0, 0.5, 2.0, 1.0]), np.array([1.0, 0.0, 0.0, 4.0, 3.0])
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second)[0])
    assert np.isnan(spearman(first, np.ones(5)))


def test_pairs_of_seeds_and_blocks():
    """Of three seeds there are three pairs; blocks are compared with the same block alone."""
    a, b = (True, False), (False, True)
    assert mean_jaccard([[a, b], [a, b], [b, a]]) == pytest.approx(1 / 3)
    assert mean_jaccard([[a, b], [b, a]]) == 0


def test_epochs():
    """Epochs in which all λ are one are left out; a search that has ended stays as it was."""
    ones, rising, falling = np.ones((1, 10)), np.arange(10.0)[None], -np.arange(10.0)[None]
    architecture = Architecture.complete(SMALL)
    short = Found(architecture, np.stack([ones, rising]))
    long = Found(architecture, np.stack([ones, rising, falling]))
    ranks = spearman_by_epoch([short, long])
    assert [row["epoch"] for row in ranks] == [2, 3]
    assert [row["mean"] for row in ranks] == pytest.approx([1, -1])
    assert "itself" not in ranks[0]
    assert ranks[1]["itself"] == pytest.approx(0)  # 1 of the one seed, -1 of the other


def test_averages_over_epochs_agree_where_single_epochs_do_not():
    architecture, common = Architecture.complete(SMALL), np.arange(10.0)[None]
    noise = 20 * np.array([[1, -1] * 5]) * np.array([1, -1])[:, None, None]
    seeds = [Found(architecture, np.stack([common + one, common - one])) for one in noise]
    first, last = spearman_by_epoch(seeds)
    assert first["averaged"] == first["mean"] < 0 and last["mean"] < 0
    assert last["averaged"] == pytest.approx(1) and last["itself"] < 0


def test_kinds():
    """Two seeds that find the same at other levels agree in the kinds alone."""
    space = SearchSpace(levels=3, operations=("sep3", "max"), blocks=(1,))
    kinds = kinds_of(space)
    assert len(kinds) == 8 and sum(map(len, kinds.values())) == len(space.connections)
    names = [c.name for c in space.connections]
    at = {name: [names.index(name)] for name in ("1.sep3->2.max", "2.sep3->3.max")}
    assert kinds["sep3", "max"] == [
        *at["1.sep3->2.max"],
        names.index("1.sep3->3.max"),
        *at["2.sep3->3.max"],
    ]
    lambdas = np.ones((2, 1, len(names)))
    lambdas[0, 0, at["1.sep3->2.max"]] = lambdas[1, 0, at["2.sep3->3.max"]] = 2
    architecture = Architecture.complete(space)
    (row,) = spearman_by_epoch([Found(architecture, one[None]) for one in lambdas])
    assert row["kinds"] == pytest.approx(1) and row["mean"] < 0


@pytest.mark.parametrize("space", [SMALL, FULL])
def test_the_levels_by_chance_are_those_of_drawing(space):
    drawn = np.random.RandomState(0).rand(600, 3, space.num_structures, 10)
    architecture = Architecture.complete(space)
    ranks = [
        spearman_by_epoch([Found(architecture, one[None]) for one in seeds])[0]["mean"]
        for seeds in drawn
    ]
    level = chance_spearman(10, 3, space.num_structures)
    inside = [level["low"] <= rank <= level["high"] for rank in ranks]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.025)

    counts = ((4,) * space.num_structures,) * 2
    level = chance_jaccard(space, counts)
    pairs = [
        mean_jaccard([Architecture.random(space, 10**6 + 2 * i + j, 4).kept for j in (0, 1)])
        for i in range(150)
    ]
    assert level["mean"] == pytest.approx(np.mean(pairs), abs=0.07)
    assert level["low"] < np.mean(pairs) < level["high"]


def test_operations():
    """1.max and 2.sep3 are on the only way, which passes each operation in one level of two."""
    names = [c.name for c in SMALL.connections]
    mask = [name in ("1.max->2.sep3", "2.sep3->output") for name in names]
    one = Architecture(SMALL, (mask,), Architecture.complete(SMALL).reductions)
    assert operations_kept([one]) == {"sep3": 0.5, "max": 0.5}
    assert operations_kept([one, Architecture.complete(SMALL)]) == {"sep3": 0.75, "max": 0.75}


def test_of_folders(tmp_path):
    for space in (SMALL, FULL):
        searches = [found(space, seed) for seed in range(3)]
        folders = [tmp_path / f"{space.scope}{seed}" for seed in range(3)]
        for folder, search in zip(folders, searches):
            write(folder, search.architecture, search.lambdas)
        read = [read_search(folder) for folder in folders]
        assert all((a.lambdas == b.lambdas).all() for a, b in zip(read, searches))
        assert agreement(read) == agreement(searches)
    assert agreement(read[:1]) is None
    with pytest.raises(ValueError, match="one space"):
        agreement([read[0], found(SMALL, 0)])


def test_lambdas_of_another_space(tmp_path):
    search = found(SMALL, 0)
    write(tmp_path / "run", search.architecture, search.lambdas)
    Architecture.complete(SearchSpace(levels=1)).save(tmp_path / "run" / "architecture.json")
    with pytest.raises(ValueError, match=r"lambdas.csv: its columns are not the connections"):
        read_search(tmp_path / "run")
