"""The latency table: its entries from known times, what it makes of them, and its file."""

import json

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.engine import timing
from dsonas_mx.latency import table as latency_table
from dsonas_mx.latency.deductions import Saving
from dsonas_mx.latency.table import Table, contents, measure_table, measured_blocks, parts

import numpy as np
import pytest

from symbols import get_model

DEVICE = {"kind": "cpu", "name": "some", "threads": 2}


@pytest.fixture
def table(tiny_space):
    """Operations of 4 and 2 ms, a term of 0.5 and a slice of 1; half of it in the second stage."""
    stages = [
        {
            "sep3": Saving(4.0 * share, 0.1),
            "max": Saving(2.0 * share, 0.1),
            "term": Saving(0.5 * share, 0.1),
            "slice": Saving(1.0 * share, 0.1),
        }
        for share in (1.0, 0.5)
    ]
    return Table(tiny_space(), 1, DEVICE, {"mxnet": "1.9.1"}, tuple(stages))


def pruned(space, *names):
    mask = [edge.name in names for edge in space.connections]
    return Architecture(
        space, (mask,) * space.num_structures, ((True, True),) * space.num_reductions
    )


def by_name(space, row):
    return {edge.name: ms for edge, ms in zip(space.connections, row) if ms}


CHAIN = ("input->2.max", "1.sep3->2.max", "2.max->output", "1.sep3->output")


def test_deduction_is_what_dies_in_all_blocks(table, tiny_space):
    space = tiny_space(blocks=(3, 2))  # 3 + 2 × 0.5 = 4 times
    saved = by_name(space, table(pruned(space, *CHAIN))[0])
    assert saved == {
        "input->2.max": 4 * 0.5,
        "1.sep3->2.max": 4 * 0.5,
        "2.max->output": 4 * (2 + 0.5 + 1),  # the operation, the term of its sum, its slice
        "1.sep3->output": 4 * 1,
    }


def test_everything_that_hangs_on_a_connection_counts(table, tiny_space):
    space = tiny_space()
    saved = by_name(space, table(pruned(space, "1.sep3->2.max", "2.max->output"))[0])
    assert saved == dict.fromkeys(("1.sep3->2.max", "2.max->output"), 1.5 * (4 + 2 + 1))


def test_full_scope_has_a_row_a_block(table, tiny_space):
    space = tiny_space(scope="full", blocks=(1, 2))
    saved = table(pruned(space, *CHAIN))
    position = [edge.name for edge in space.connections].index("1.sep3->output")
    assert saved[:, position].tolist() == [1.0, 0.5, 0.5]


def test_other_levels_and_fewer_operations_fit(table, tiny_space):
    space = tiny_space(levels=3, operations=("max",))
    saved = by_name(space, table(Architecture.complete(space))[0])
    assert saved["2.max->3.max"] == 1.5 * 0.5
    assert saved["3.max->output"] == 1.5 * (2 + 2 * 0.5 + 1)


def test_part_inside_its_noise_costs_nothing(table, tiny_space):
    loud = tuple({**stage, "term": Saving(0.09, 0.1)} for stage in table.stages)
    quiet = Table(table.space, 1, DEVICE, {}, loud)
    saved = by_name(tiny_space(), quiet(pruned(tiny_space(), *CHAIN))[0])
    assert saved == {"2.max->output": 1.5 * 3, "1.sep3->output": 1.5}


def test_contents(tiny_space):
    space = tiny_space()
    assert parts(space) == ("sep3", "max", "term", "slice")
    assert contents(space, Architecture.complete(space).kept[0]).tolist() == [2, 2, 4, 4]
    assert contents(space, pruned(space, *CHAIN).kept[0]).tolist() == [1, 1, 1, 2]
    assert not contents(space, (False,) * len(space.connections)).any()


# Measuring


def test_measured_blocks_differ_in_one_part(tiny_space):
    deep = tiny_space(levels=6, blocks=(1,))
    blocks = {name: contents(deep, mask) for name, mask in measured_blocks(deep).items()}
    for mask in measured_blocks(deep).values():
        Architecture(deep, (mask,), ())  # would refuse one that is not pruned
    differences = {
        "sep3": blocks["long sep3"] - blocks["short sep3"],
        "max": blocks["long max"] - blocks["short max"],
        "term": blocks["all terms"] - blocks["long sep3"],
        "slice": blocks["all outputs"] - blocks["long sep3"],
    }
    for part, times in zip(parts(deep), (5, 5, 15, 5)):
        expected = [times if name == part else 0 for name in parts(deep)]
        assert differences[part].tolist() == expected


@pytest.fixture
def machine(monkeypatch):
    """Times of parts, in ms, that a network of one block takes by its contents."""

    class Machine:
        now = 0.0
        times = np.array([4.0, 2.0, 0.5, 1.0])
        copies = 0.0  # by how much every further network is slower

        def deploy(self, architecture, shape, device):
            space = architecture.space
            ms = contents(space, architecture.kept[0]) @ self.times * shape[2] / 8
            self.times = self.times + self.copies

            def run():
                self.now += ms / 1e3

            return run

    one = Machine()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: one.now)
    monkeypatch.setattr(latency_table, "deploy", one.deploy)
    return one


def test_entries_are_the_times_of_the_parts(machine, tiny_space):
    table = measure_table(lambda architecture: architecture, tiny_space(), batch_size=8, rounds=2)
    for stage, share in zip(table.stages, (1, 0.5)):  # the second stage has half of the side
        assert [stage[part].ms for part in parts(table.space)] == pytest.approx(
            [4 * share, 2 * share, 0.5 * share, share]
        )
        assert max(time.noise_ms for time in stage.values()) < 1e-6
    assert table.batch_size == 8 and table.device["kind"] == "cpu"
    assert table.versions["mxnet"].startswith("1.")


def test_copies_that_differ_are_noise(machine, tiny_space):
    machine.copies = 0.1
    stage = measure_table(lambda a: a, tiny_space(blocks=(1,)), rounds=2).stages[0]
    assert stage["sep3"].noise_ms == pytest.approx(3 * stage["term"].noise_ms)  # 5 times, 15 times
    assert stage["term"].noise_ms > 0.02


def test_real_table(tiny_space):
    """A 7×7 at 32 channels takes longer than nothing, on any machine."""
    space = tiny_space(operations=("sep7",), blocks=(1,), width=32, image_size=32)
    table = measure_table(lambda a: get_model("dsonas", a), space, rounds=20)
    assert table.stages[0]["sep7"].ms > 0
    assert np.isfinite(table(Architecture.complete(space))).all()


# Fitting a space


@pytest.mark.parametrize(
    "changes, difference",
    [
        ({"width": 8}, "for width 4, not 8"),
        ({"image_size": 16}, "for image_size 8, not 16"),
        ({"stem": "imagenet"}, "for stem cifar, not imagenet"),
        ({"blocks": (1, 1, 1)}, "for 2 stages, not 3"),
        ({"operations": ("sep3", "avg")}, "for sep3, max, without avg"),
    ],
)
def test_another_space_is_refused(table, tiny_space, tmp_path, changes, difference):
    space = tiny_space(**changes)
    with pytest.raises(ValueError, match=difference):
        table(Architecture.complete(space))
    table.save(tmp_path / "table.json")
    with pytest.raises(ValueError, match=f"table.json: the latency table is {difference}"):
        Table.load(tmp_path / "table.json", space)


def test_file_round_trip(table, tmp_path):
    path = tmp_path / "table.json"
    table.save(path)
    assert Table.load(path, table.space) == table


def edited(table, **changes):
    return {**table.to_json(), **changes}


def without(data, name):
    return {key: value for key, value in data.items() if key != name}


TIME = {"ms": 1.0, "noise_ms": 0.1}
STAGE = dict.fromkeys(("sep3", "max", "term", "slice"), TIME)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"format": "dsonas-architecture"}, "format must be 'dsonas-latency-table'"),
        ({"version": 2}, "version must be 1, got 2"),
        ({"version": True}, "version must be 1, got True"),
        ({"more": 1}, "unknown field 'more'"),
        ({"space": []}, "space must be an object"),
        ({"space": {"width": 3}}, "space has no field 'scope'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": "1"}, "batch_size must be a whole number"),
        ({"device": None}, "device must be an object"),
        ({"device": without(DEVICE, "name")}, "device has no field 'name'"),
        ({"device": {**DEVICE, "kind": "tpu"}}, "device kind must be cpu or gpu"),
        ({"device": {**DEVICE, "kind": []}}, "device kind must be cpu or gpu"),
        ({"device": {**DEVICE, "name": 3}}, "device name must be text"),
        ({"device": {**DEVICE, "threads": 0}}, "device threads must be at least 1"),
        ({"versions": 3}, "versions must be an object"),
        ({"versions": {"mxnet": 1.9}}, r"versions\['mxnet'\] must be text"),
        ({"stages": {}}, "stages must be a list"),
        ({"stages": [STAGE]}, "stages must have 2 entries"),
        ({"stages": [STAGE, 3]}, r"stages\[1\] must be an object"),
        ({"stages": [STAGE, without(STAGE, "term")]}, r"stages\[1\] has no field 'term'"),
        ({"stages": [STAGE, {**STAGE, "sep9": TIME}]}, r"stages\[1\] has an unknown field 'sep9'"),
        ({"stages": [STAGE, {**STAGE, "max": 3}]}, r"stages\[1\]\['max'\] must be an object"),
        ({"stages": [STAGE, {**STAGE, "max": {"ms": 1}}]}, "has no field 'noise_ms'"),
        ({"stages": [{**STAGE, "max": {**TIME, "ms": "1"}}, STAGE]}, "ms must be a number"),
        ({"stages": [{**STAGE, "max": {**TIME, "ms": True}}, STAGE]}, "ms must be a number"),
        ({"stages": [{**STAGE, "max": {**TIME, "ms": 10**400}}, STAGE]}, "ms must be finite"),
        ({"stages": [{**STAGE, "max": {**TIME, "noise_ms": -1}}, STAGE]}, "noise_ms must be"),
    ],
)
def test_wrong_field_is_named(table, tmp_path, changes, message):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(edited(table, **changes)))
    with pytest.raises(ValueError, match=f"table.json: .*{message}") as error:
        Table.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", latency_table.FIELDS[2:])
def test_missing_field_is_named(table, name):
    with pytest.raises(ValueError, match=f"no field '{name}'"):
        Table.from_json(without(table.to_json(), name))


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_what_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "table.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="table.json: "):
        Table.load(path)


def test_infinite_time_is_refused(table, tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table.to_json()).replace("4.0", "Infinity"))
    with pytest.raises(ValueError, match="Infinity is not a number that JSON knows"):
        Table.load(path)


# The tool

TOOL = "tools/measure_latency.py"
SMALL = ["--levels", 1, "--operations", "sep3,max", "--blocks", "1,1,1", "--width", 4]


def test_tool_measures_a_space_and_a_file(script, tmp_path):
    status, output, _ = script(TOOL, *SMALL, "--json", "--runs", 3, "--batch-size", 2)
    printed = json.loads(output)
    assert status == 0 and printed["batch_size"] == 2 and printed["kind"] == "cpu"
    runs = sorted(printed["runs_ms"])
    assert len(runs) == 3 and printed["latency_ms"] == runs[1]
    assert printed["spread_ms"] == runs[2] - runs[0]
    space = SearchSpace(levels=1, operations=("max",), blocks=(1,), width=4, image_size=8)
    Architecture.complete(space).save(tmp_path / "found.json")
    status, output, _ = script(TOOL, tmp_path / "found.json", "--width", 8)
    assert status == 0 and [line.split()[0] for line in output.splitlines()] == [
        "latency_ms",
        "spread_ms",
        "noise_ms",
    ]


def test_tool_lists_live_connections(script, tmp_path):
    space = SearchSpace(levels=1, operations=("sep3", "max"), blocks=(1,), width=4, image_size=8)
    Architecture.from_lambdas(space, [0, 1]).save(tmp_path / "found.json")
    status, output, _ = script(TOOL, tmp_path / "found.json", "--connections", "--json")
    assert status == 0
    assert list(json.loads(output)["connections"]) == ["1.max->output"]


def test_tool_writes_a_table_that_fits_its_space(script, tmp_path):
    path = tmp_path / "table.json"
    status, output, _ = script(TOOL, *SMALL, "--blocks", "1", "--table", path)
    assert status == 0 and f"saved {path}" in output
    space = SearchSpace.cifar10(levels=4, operations=("sep3", "max"), width=4)
    assert Table.load(path, space).space.width == 4


@pytest.mark.parametrize(
    "words, message",
    [
        (["--runs", 0], "runs must be at least 1"),
        (["--batch-size", 0], "batch_size must be at least 1"),
        (["--operations", "sep9"], "operations has an unknown name 'sep9'"),
        (["--table", "/nowhere/table.json"], "--table must be a file in a folder that is there"),
        (["none.json"], "none.json"),
    ],
)
def test_tool_refuses_in_one_line(script, words, message):
    status, output, error = script(TOOL, *words)
    assert status == 2 and not output
    assert message in error and error.count("\n") == 1


def test_tool_does_not_change_the_structure_of_a_file(script, tmp_path):
    Architecture.complete(SearchSpace()).save(tmp_path / "found.json")
    status, _, error = script(TOOL, tmp_path / "found.json", "--levels", 3)
    assert status == 2 and "--levels is the architecture's own" in error
