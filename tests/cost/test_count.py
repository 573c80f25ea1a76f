"""Costs: against the authors' networks, array by array, and against the published sizes."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

from dsonas_mx.cli.parser import run
from dsonas_mx.cost import count as cost
from dsonas_mx.cost.count import Cost, count, count_lambdas
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import Connection, SearchSpace

import numpy as np
import pytest

from symbols import DSONAS

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "derive_share.json").read_text())
SCRIPT = Path(__file__).parents[2] / "tools" / "cost.py"


def derived(case):
    names = [f"lambda_layer_{level}_{k}" for level in (2, 3, 4) for k in (1, 2, 3, 4)]
    lambdas = [v for name in (*names, "lambda_after") for v in case["lambdas"][name][0]]
    space = SearchSpace(blocks=(case["blocks_per_stage"],) * 3, width=case["width"])
    return Architecture.from_lambdas(space, lambdas)


def sizes(arguments, image_size=32):
    """Oracle: (parameters, multiply-adds) of named arrays of the authors' network."""
    parameters = multiply_adds = 0
    for name, shape in arguments.items():
        size = int(np.prod(shape))
        parameters += size
        if len(shape) == 2:
            multiply_adds += size
        elif len(shape) == 4:
            stage = int((re.match(r"stage(\d)_", name) or [0, 1])[1])
            # The unit after the one block of a stage is the reduction.
            side = image_size >> (stage if "_unit2_" in name else stage - 1)
            multiply_adds += size * side**2
    return parameters, multiply_adds


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"density {case['density']}")
def test_derived_networks_have_the_authors_arrays(case):
    architecture = derived(case)
    network = count(architecture)
    assert network.parameters == case["parameters"]
    assert (network.parameters, network.multiply_adds) == sizes(case["arguments"])
    assert network.connections == sum(map(sum, architecture.kept))


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"density {case['density']}")
def test_pieces_have_the_authors_arrays(case):
    architecture = derived(case)

    def arrays(pattern):
        return sizes({n: s for n, s in case["arguments"].items() if re.match(pattern, n)})

    def pair(piece):
        return piece.parameters, piece.multiply_adds

    space = architecture.space
    assert pair(cost.stem(space)) == arrays(r"conv0|bn0")
    assert pair(cost.classifier(32, 10)) == arrays(r"final|fc1")
    for stage, (channels, side) in enumerate(space.stage_shapes, 1):
        block = cost.block(architecture, 0, channels, side, first=True)
        assert pair(block) == arrays(f"stage{stage}_unit1_")
        if stage < 3:
            reduction = cost.reduction(channels, side, (True, True))
            assert pair(reduction) == arrays(f"stage{stage}_unit2_")
    for node in architecture.live_nodes(0):
        level, name = node.split(".")
        theirs = {"sep3": "conv3x3", "sep5": "conv5x5", "max": "max_pool", "avg": "avg_pool"}[name]
        assert pair(cost.operation(name, 16, 16)) == arrays(f"stage2_unit1_{level}_{theirs}_")


def test_published_supernets():
    """The release's numbers include λ, for CIFAR and for ImageNet."""
    cifar, full, imagenet = (
        SearchSpace.cifar10(),
        SearchSpace.cifar10(scope="full"),
        SearchSpace.imagenet(),
    )
    assert count(Architecture.complete(cifar)).parameters == 10_031_002
    assert count_lambdas(cifar) == 124 + 4
    assert count(Architecture.complete(full)).parameters + count_lambdas(full) == 10_033_982
    assert count_lambdas(imagenet) == 124 + 6
    assert count(Architecture.complete(imagenet)).parameters + count_lambdas(imagenet) == 12_459_688


EVERY_OPERATION = ("sep3", "sep5", "max", "avg", "sep7")
NETWORKS = {
    "complete": Architecture.complete(SearchSpace(blocks=(2, 1, 1), width=4)),
    "pruned": Architecture.random(SearchSpace(blocks=(1, 2), width=6), 0, connections=20),
    "empty": Architecture.from_lambdas(SearchSpace(blocks=(2, 2), width=4), np.zeros(124)),
    "sep7": Architecture.complete(
        SearchSpace(levels=2, operations=EVERY_OPERATION, blocks=(1, 1), width=4, num_classes=7)
    ),
    "full": Architecture.from_lambdas(
        SearchSpace("full", blocks=(1, 2, 1), width=4),
        np.random.RandomState(0).randn(4, 124) * [[1], [0], [1], [1]],
        [[1, 0], [0, 0]],
    ),
    "imagenet": Architecture.random(
        SearchSpace.imagenet(width=9, blocks=(1, 2, 1, 1), in_channels=1), 1, density=0.3
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_the_arrays_of_the_built_network(name):
    architecture = NETWORKS[name]
    for weighted in (True, False):
        parameters = DSONAS(architecture, weighted=weighted).collect_params()
        sizes = {n: int(np.prod(p.shape)) for n, p in parameters.items() if "_running_" not in n}
        lambdas = sum(size for n, size in sizes.items() if n.endswith("lambdas"))
        assert sum(sizes.values()) - lambdas == count(architecture).parameters
        live = architecture.num_connections + sum(map(sum, architecture.reductions))
        assert lambdas == (live if weighted else 0)


def test_separable_7_and_equations():
    c, s = 6, 5
    f = c * s * s  # a map
    assert cost.operation("sep7", c, s) == Cost(
        parameters=49 * c + c * c + 2 * c,
        multiply_adds=(49 * c + c * c) * s * s,
        memory_access=4 * f + 49 * c + c * c,
    )
    assert cost.operation("max", c, s) == Cost(parameters=2 * c, memory_access=2 * f)
    assert cost.connection(Connection("1.max", "output"), c, s) == Cost(
        c * c, c * c * s * s, 1, 2 * f + c * c
    )
    assert cost.connection(Connection("input", "2.max"), c, s) == Cost(0, 0, 1, f)
    assert cost.dense(7, 3) == Cost(7 * 3 + 3, 7 * 3, memory_access=7 + 24 + 3)
    # Three maps are put together (read, written), then read, and one is written.
    assert cost.output(3, c, s) == Cost(
        3 * c * c + 2 * c, 3 * c * c * s * s, memory_access=10 * f + 3 * c * c
    )
    assert cost.output(1, c, s).memory_access == 2 * f + c * c
    assert cost.summed(1, c, s) == Cost()
    assert cost.summed(3, c, s) == Cost(memory_access=4 * f)


def test_memory_access_of_a_block_by_hand():
    space = SearchSpace(levels=2, operations=("sep3", "max"), blocks=(1, 1), width=4)
    names = [edge.name for edge in space.connections]
    kept = {"input->2.sep3", "1.max->2.sep3", "input->2.max", "1.max->2.max"}
    kept |= {"2.sep3->output", "2.max->output", "1.max->output"}
    mask = tuple(name in kept for name in names)
    c, s = 4, 6
    f = c * s * s
    expected = (
        2 * f + c * c  # the shortcut
        + 2 * f  # 1.max
        + 3 * f  # one sum for both operations of level 2, which have the same sources
        + 4 * f + 9 * c + c * c  # 2.sep3
        + 2 * f  # 2.max
        + 6 * f  # three maps put together
        + 4 * f + 3 * c * c  # the 1×1 convolution of them
        + 3 * f  # with the shortcut
    )  # fmt: skip
    architecture = Architecture(space, (mask,), ((True, True),))
    assert cost.block(architecture, 0, c, s, first=True).memory_access == expected
    # Another source, and 2.sep3 needs a sum of its own.
    mask = tuple(name in kept - {"input->2.max"} for name in names)
    architecture = Architecture(space, (mask,), ((True, True),))
    assert cost.block(architecture, 0, c, s, first=True).memory_access == expected


def test_odd_sides_round_up():
    # 15 -> 8: a branch of the reduction sees 64 positions.
    assert cost.reduction(4, 15, (True, False)).multiply_adds == 4 * 8 * 64
    assert cost.reduction(4, 15, (False, True)).multiply_adds == 9 * 4 * 8 * 64


def test_an_empty_block_is_its_shortcut():
    empty = Architecture.from_lambdas(SearchSpace(), np.zeros(124))
    assert cost.block(empty, 0, 10, 4, first=False) == Cost()
    assert cost.block(empty, 0, 10, 4, first=True) == Cost(
        100 + 20, 1600, memory_access=2 * 160 + 100
    )


def test_imagenet_stem():
    space = SearchSpace.imagenet(width=9, image_size=33)  # 33 -> 17 -> 9
    assert cost.stem(space) == Cost(
        parameters=(27 * 4 + 8) + (9 * 4 * 9 + 18),
        multiply_adds=27 * 4 * 17**2 + 9 * 4 * 9 * 9**2,
        memory_access=(3 * 33**2 + 27 * 4 + 4 * 17**2) + (4 * 17**2 + 9 * 4 * 9 + 9 * 9**2),
    )


def test_a_dead_branch_is_not_counted():
    space = SearchSpace(blocks=(1, 1), width=8)
    ones = np.ones(124)
    whole = count(Architecture.from_lambdas(space, ones, [[1, 1]]))
    for branches, kernel in (([0, 1], 1), ([1, 0], 3)):
        less = count(Architecture.from_lambdas(space, ones, [branches]))
        assert whole.parameters - less.parameters == kernel**2 * 8 * 16 + 2 * 16
        assert whole.multiply_adds - less.multiply_adds == kernel**2 * 8 * 16 * 16**2
        assert whole.connections == less.connections
        # The map of 32×32, the weights, the map of 16×16; and the sum of both.
        branch = 8 * 32**2 + kernel**2 * 8 * 16 + 16 * 16**2
        assert whole.memory_access - less.memory_access == branch + 3 * 16 * 16**2


def test_connections_by_scope():
    kept = Architecture.random(SearchSpace(), 0, connections=20).kept
    share = Architecture(SearchSpace(blocks=(3, 3)), kept, ((True, True),))
    full = Architecture(SearchSpace(scope="full", blocks=(3, 3)), kept * 6, ((True, True),))
    assert count(share).connections == 20
    assert count(full).connections == 120
    assert count(share).parameters == count(full).parameters


# The tool


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("tools_cost", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def called(words):
        """Its exit status."""
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
            patch.setattr(sys, "argv", ["cost.py", *words])
            run(module.main, module.arguments())
        return int(stopped.value.code or 0)

    return called


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "architecture.json"
    Architecture.random(SearchSpace(blocks=(1, 1, 1), width=8), 3, connections=25).save(path)
    return str(path)


def ask(tool, capsys, *arguments):
    assert tool([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and err == ""
    return json.loads(out)


def test_tool_uses_the_space_in_the_file(tool, file, capsys):
    expected = count(Architecture.load(file))
    assert ask(tool, capsys, file) == {
        "parameters": expected.parameters,
        "multiply_adds": expected.multiply_adds,
        "connections": 25,
    }
    assert tool([file]) == 0
    out = capsys.readouterr().out
    assert f"{expected.parameters:,}" in out
    assert f"{expected.multiply_adds:,}" in out
    assert f"{expected.memory_access:,}" in out
    assert "25 of 124" in out


def test_tool_options(tool, file, capsys):
    base = Architecture.load(file)
    for options, changes in (
        (("--width", "36"), {"width": 36}),
        (("--blocks", "8"), {"blocks": (8, 8, 8)}),
        (("--blocks", "2,2,13,6"), {"blocks": (2, 2, 13, 6)}),
        (("--num-classes", "100"), {"num_classes": 100}),
        (("--image-size", "64"), {"image_size": 64}),
    ):
        expected = count(base.with_space(**changes))
        answer = ask(tool, capsys, file, *options)
        assert (answer["parameters"], answer["multiply_adds"]) == (
            expected.parameters,
            expected.multiply_adds,
        )


def test_tool_transfers(tool, file, capsys):
    there = Architecture.load(file).transferred_to(SearchSpace.imagenet())
    assert (
        ask(tool, capsys, file, "--transfer", "imagenet")["parameters"] == count(there).parameters
    )
    wider = ask(tool, capsys, file, "--transfer", "imagenet", "--width", "40")
    assert wider["multiply_adds"] == count(there.with_space(width=40)).multiply_adds


def test_tool_counts_the_networks_of_table_1(tool, capsys):
    assert tool(["--model", "densenet_bc_190_40"]) == 0
    assert "25,624,430, published as 25.6M" in capsys.readouterr().out
    assert ask(tool, capsys, "--model", "resnet_preact_1001")["parameters"] == 10_327_706


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{missing}"], "No such file"),
        (["{folder}"], "is a folder: give a file"),
        (["{text}"], "not a JSON file"),
        (["{file}", "--width", "0"], "width must be at least 1, got 0"),
        (["{file}", "--width", "wide"], "--width"),
        (["{file}", "--blocks", "0"], "blocks"),
        (["{file}", "--blocks", "2,x"], "blocks"),
        (["{file}", "--depth", "3"], "--depth"),
        ([], "ARCHITECTURE.json"),
        (["{file}", "--model", "densenet_bc_190_40"], "not allowed with argument"),
        (["--model", "densenet"], "--model must be one of densenet_bc_190_40, resnet_preact_1001"),
        (["--model", "densenet_bc_190_40", "--num-classes", "5"], "--num-classes is not for"),
        (["{file}", "--transfer", "mnist"], "invalid choice: 'mnist'"),
    ],
)
def test_tool_refuses_in_one_line(tool, file, tmp_path, capsys, arguments, message):
    (tmp_path / "text").write_text("weights")
    places = {"missing": "nowhere.json", "folder": tmp_path, "text": tmp_path / "text"}
    assert tool([argument.format(file=file, **places) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err and err.count("\n") == 1


def test_tool_runs_from_anywhere(file, tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), file, "--json"], cwd=str(tmp_path), stdout=subprocess.PIPE
    )
    assert done.returncode == 0
    assert list(json.loads(done.stdout)) == ["parameters", "multiply_adds", "connections"]
