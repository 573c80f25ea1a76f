"""Which network a training gets by its options: the paper's size goes with the paper's depth."""

from dsonas_mx import SearchSpace
from dsonas_mx.cli.network import load_network
from dsonas_mx.data import DATA_SETS
from dsonas_mx.io.files import write_json

import pytest

from symbols import architectures

NAME = "dsonas_share_cifar10"


@pytest.fixture
def network(script_module, tmp_path):
    """`network(*words)`: what these options ask for, and the options by then."""

    def load(*words, stem="cifar"):
        words = [*map(str, words), "--save-dir", str(tmp_path / "run")]
        options = script_module("train/train_cifar.py").arguments().read(words)
        space = SearchSpace.cifar10() if stem == "cifar" else SearchSpace.imagenet()
        found, options = load_network(
            options, space, DATA_SETS["cifar10"], len, architectures.find, lambda line: None
        )
        return found, options.network

    return load


def test_a_shipped_network_gets_the_papers_depth_with_its_size(network):
    assert architectures.load(NAME).space.blocks == (1, 1, 1)
    found, options = network("--architecture", NAME)
    assert (found.space.blocks, found.space.width) == ((8, 8, 8), 30)
    assert (options.blocks, options.target_params) == ("8,8,8", 3_000_000)
    assert found.kept == architectures.load(NAME).kept
    found, _ = network("--architecture", NAME, stem="imagenet")
    assert found.space.blocks == (2, 2, 13, 6)


def test_who_gives_a_size_or_a_depth_keeps_it(network, tiny_space, some_architecture, tmp_path):
    for words in (["--width", 12], ["--target-params", "100K"], ["--demo"]):
        assert network("--architecture", NAME, *words)[0].space.blocks == (1, 1, 1)
    assert network("--architecture", NAME, "--blocks", 2)[0].space.blocks == (2, 2, 2)
    full = some_architecture(tiny_space(scope="full", blocks=(1, 1)))
    full.save(tmp_path / "full.json")  # each block has a structure of its own
    assert network("--architecture", tmp_path / "full.json")[0].space.blocks == (1, 1)


@pytest.mark.parametrize("before, blocks", [(None, (1, 1, 1)), ("8,8,8", (8, 8, 8))])
def test_a_run_that_goes_on_keeps_its_depth(network, tmp_path, before, blocks):
    (tmp_path / "run").mkdir()
    recorded = {"options": {"target_params": 3_000_000, "blocks": before}}
    write_json(tmp_path / "run" / "args.json", recorded)
    found, options = network("--architecture", NAME, "--resume")
    assert (found.space.blocks, options.blocks) == (blocks, before)
