"""The ablations of tables 6 to 9: every setting searches, and its block goes into ImageNet's."""

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.cost.count import count

import pytest

from symbols import get_model

SEARCH = "train/search_cifar.py"
ORDER = ("sep3", "avg", "max", "sep5", "sep7")  # of table 9
SMALL = ["--blocks", "1,1", "--width", 4, "--mirror", "off", "--num-epochs", 1]
SMALL += ["--pretrain-epochs", 0]


@pytest.fixture
def search(script, small_cifar, tmp_path):
    """`search(*words)`: two steps on the tiny CIFAR; what was found."""

    def run(*words):
        folder = tmp_path / "run"
        status, _, err = script(
            SEARCH, "--data-dir", small_cifar, *SMALL, *words, "--save-dir", folder
        )
        assert (status, err) == (0, "")
        return Architecture.load(folder / "architecture.json"), folder

    return run


def check_transfer(found):
    """In the paper's network for ImageNet, whose reductions are complete."""
    imagenet = SearchSpace.imagenet()
    there = found.transferred_to(imagenet)
    assert there.kept == found.kept
    assert there.reductions == ((True, True),) * 3
    assert (there.space.levels, there.space.operations) == (
        found.space.levels,
        found.space.operations,
    )
    for name in ("stem", "blocks", "width", "num_classes", "image_size"):
        assert getattr(there.space, name) == getattr(imagenet, name)
    net = get_model("dsonas", there)
    learned = [p for name, p in net.collect_params().items() if "_running_" not in name]
    sizes = [p.shape for p in learned]
    assert sum(_product(shape) for shape in sizes) == count(there).parameters


def _product(shape):
    product = 1
    for side in shape:
        product *= side
    return product


@pytest.mark.parametrize("scope", ["share", "full"])
@pytest.mark.parametrize("levels", [2, 3, 4, 5])
def test_levels(search, levels, scope):
    """Table 8: M, with four operations."""
    found, _ = search("--levels", levels, "--scope", scope, "--batch-size", 60)
    assert (found.space.levels, len(found.space.operations)) == (levels, 4)
    assert found.num_connections == found.space.num_connections
    if scope == "share":
        check_transfer(found)


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_operations(search, number):
    """Table 9: the first N of the paper's list, with four levels."""
    found, _ = search("--operations", ",".join(ORDER[:number]), "--batch-size", 60)
    assert set(found.space.operations) == set(ORDER[:number])
    check_transfer(found)


NETWORK = ["--levels", 2, "--operations", "sep3,avg"]


@pytest.mark.parametrize("epochs", [0, 2])
def test_pretraining(search, epochs):
    """Table 6: none, or so many epochs before the search."""
    _, folder = search(*NETWORK, "--batch-size", 60, "--pretrain-epochs", epochs)
    rows = (folder / "metrics.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == ["pretrain"] * epochs + ["search"]


@pytest.mark.parametrize("epochs", [60, 120, 150])
def test_pretraining_of_the_paper(script, epochs):
    words = [*NETWORK, *SMALL, "--pretrain-epochs", epochs, "--dry-run"]
    status, out, err = script(SEARCH, *words)
    assert (status, err) == (0, "")
    assert "steps an epoch" in out


@pytest.mark.parametrize("split, batch", [("none", 60), ("1:1", 60), ("3:1", 30), ("4:1", 24)])
def test_splits(search, split, batch):
    """Table 7: one part, or two of a ratio of samples and steps."""
    found, folder = search(*NETWORK, "--split", split, "--batch-size", batch)
    (row,) = (folder / "metrics.csv").read_text().splitlines()[1:]
    assert (row.split(",")[4] == "") == (split == "none")  # the loss on the samples of λ
    assert found.origin["split"] == split


def test_a_block_goes_into_the_network_for_imagenet(tmp_path):
    """By its file, which then is that of a network for ImageNet."""
    space = SearchSpace.cifar10(levels=2, operations=("sep3", "avg", "sep7"))
    found = Architecture.random(space, 1, connections=9)
    check_transfer(found)
    check_transfer(Architecture(space, found.kept, ((False, True), (True, False))))
    found.transferred_to(SearchSpace.imagenet()).save(tmp_path / "there.json")
    back = Architecture.load(tmp_path / "there.json").transferred_to(space)
    assert back == found


def test_structures_of_single_blocks_stay_where_they_are():
    found = Architecture.complete(SearchSpace.cifar10(scope="full", blocks=(1, 2, 1)))
    with pytest.raises(ValueError, match="blocks must stay 1,2,1 in the full scope"):
        found.transferred_to(SearchSpace.imagenet())
