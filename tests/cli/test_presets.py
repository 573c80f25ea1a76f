"""Presets grow with the data, and what is given wins over them."""

from dataclasses import replace

from dsonas_mx.cli import presets
from dsonas_mx.data import DATA_SETS

import pytest

CIFAR = DATA_SETS["cifar10"]


def of(num_train):
    return replace(CIFAR, num_train=num_train)


def test_without_a_preset_and_with_the_papers_nothing_changes(script_module):
    for name in ("train/search_cifar.py", "train/train_cifar.py"):
        module = script_module(name)
        words = ["--full-network"] * ("train_cifar" in name)
        before = module.arguments().read(words).record()
        after = module.arguments().read([*words, "--preset", "paper"]).record()
        assert {key for key in after if after[key] != before[key]} == {"preset"}


@pytest.mark.parametrize("preset", ["quick", "standard"])
@pytest.mark.parametrize(
    ("num_train", "fall"),
    [(40, 0.7), (48, 0.7), (300, 0.9), (1_200, 2.1), (6_000, 5.6), (50_000, 5.6)],
)
def test_a_search_of_few_images_has_more_epochs_and_ends(preset, num_train, fall):
    found = presets.of_search({"preset": preset}, of(num_train))
    batches = num_train // 2 // found["batch_size"]
    assert batches >= 1
    steps = batches * found["num_epochs"]
    # A step takes γ from a λ that nothing holds, at a momentum of 0.9 and a learning rate of 0.1.
    assert found["gamma"] * steps == pytest.approx(fall, rel=0.05)  # the loss of few is soon 0
    assert found["num_epochs"] / found["shrink_every"] >= 3
    assert found["patience"] < found["num_epochs"]


def test_a_training_sees_as_many_samples_or_epochs(script_module):
    few, many = (presets.of_training({"preset": "standard"}, of(n)) for n in (1_200, 50_000))
    assert (few["num_epochs"], few["batch_size"], few["width"], few["cutout"]) == (75, 32, 16, 8)
    assert (many["num_epochs"], many["batch_size"]) == (15, 64)
    dozens = presets.of_training({"preset": "standard"}, of(40))
    assert (dozens["num_epochs"], dozens["batch_size"]) == (100, 8)  # and not 2,250 of 2
    quick = presets.of_training({"preset": "quick"}, of(1_200))
    assert quick["num_epochs"] < few["num_epochs"] and quick["width"] < few["width"]


def test_what_is_given_wins_and_what_follows_from_it_follows(script_module):
    module = script_module("train/search_cifar.py")
    words = ["--preset", "standard", "--data-set", "fashion_mnist"]
    options = module.arguments().read(words)
    fewer = module.arguments().read([*words, "--num-epochs", "3", "--width", "12"])
    assert (fewer.search.num_epochs, fewer.space.width) == (3, 12)
    assert fewer.search.gamma > options.search.gamma
    assert module.arguments().read([*words, "--num-epochs", "1"]).search.gamma == 0.03
    assert module.arguments().read([*words, "--gamma", "0.5"]).search.gamma == 0.5
    module = script_module("train/train_cifar.py")
    words = ["--preset", "standard", "--data-set", "fashion_mnist", "--full-network"]
    sized = module.arguments().read([*words, "--target-params", "1M", "--num-epochs", "4"])
    assert (sized.network.width, sized.network.target_params) == (None, 1_000_000)
    assert (sized.training.num_epochs, sized.training.period) == (4, 4)


def test_ones_own_images_have_standard():
    own = replace(of(1_200), name="folder")
    assert presets.of_search({}, own) == presets.of_search({"preset": "standard"}, of(1_200))
    assert presets.of_training({}, own)["preset"] == "standard"
    for values in ({"preset": "paper"}, {"demo": True}):
        assert presets.of_training(values, own) == {}
    assert presets.of_training({}, of(50_000)) == {}


def test_what_more_would_buy():
    assert presets.advice(None, 1_200, 1, 8) == presets.advice("paper", 1_200, 630, 80) == []
    (quick,) = presets.advice("quick", 1_200, 21, 8)
    assert "21 epochs at width 8" in quick and "75 epochs at width 16, 14 times" in quick
    assert "paper takes 630 epochs" in presets.advice("standard", 1_200, 75, 16)[0]
