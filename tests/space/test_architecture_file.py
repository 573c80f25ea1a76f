"""The file of an architecture, which trusts nobody."""

import copy
import json
import os
import random

from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import SearchSpace

import numpy as np
import pytest

SMALL = SearchSpace(levels=2, operations=("sep3", "max"), blocks=(1, 2), width=4)
FULL = SearchSpace("full", 2, ("sep3", "max"), blocks=(1, 2), width=4)


def examples():
    origin = {"data": "fashion-mnist", "seed": 3, "options": {"gamma": 0.001, "demo": True}}
    yield Architecture.random(SMALL, 3, connections=6, origin=origin)
    yield Architecture.random(FULL, 4, connections=[4, 0, 10])
    yield Architecture.complete(SearchSpace(levels=1, blocks=(2,)))
    yield Architecture.from_lambdas(SMALL, np.zeros(10), [[0.3, 0.0]])


@pytest.mark.parametrize(
    "architecture", list(examples()), ids=["share", "full", "level 1", "empty"]
)
def test_file_round_trip(architecture, tmp_path):
    path = tmp_path / "architecture.json"
    architecture.save(path)
    again = Architecture.load(str(path))
    assert again == architecture
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["again.json", "architecture.json"]


def test_file_has_names_not_bits(tmp_path):
    mask = [edge.name in ("input->2.max", "2.max->output") for edge in SMALL.connections]
    Architecture(SMALL, (mask,), ((True, False),)).save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "format": "dsonas-architecture",
        "version": 1,
        "space": SMALL.to_json(),
        "structures": [["input->2.max", "2.max->output"]],
        "reductions": [[True, False]],
        "origin": {},
    }


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    first, second = Architecture.complete(SMALL), Architecture.random(SMALL, 0)
    first.save(path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        second.save(path)
    assert Architecture.load(path) == first
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["format"], "onnx", "format must be 'dsonas-architecture', got 'onnx'"),
        (["version"], 2, "version must be 1, got 2"),
        (["version"], True, "version must be 1, got True"),
        (["colour"], 1, "unknown field 'colour'"),
        (["space"], [], "space must be an object"),
        (["space", "colour"], 1, "space has an unknown field 'colour'"),
        (["space", "levels"], 0, "levels must be at least 1"),
        (["space", "scope"], "full", "structures must have 3 entries, got 1"),
        (["structures"], {}, "structures must be a list"),
        (["structures"], [], "structures must have 1 entries"),
        (["structures", 0], "input->2.max", r"structures\[0\] must be a list"),
        (["structures", 0], ["1.max->3.max"], "unknown connection '1.max->3.max'"),
        (["structures", 0], [["1.max->2.max"]], r"structures\[0\] has an unknown connection"),
        (["structures", 0], ["1.max->output"] * 2, "has 1.max->output more than once"),
        (["structures", 0], ["input->2.max"], "keeps input->2.max, which is on no way"),
        (["reductions"], [], "reductions must have 1 entries"),
        (["reductions", 0], [True], r"reductions\[0\] must have 2 entries"),
        (["reductions", 0], [1, 0], r"reductions\[0\] must be two of true and false, got 1"),
        (["reductions", 0], ["1", "0"], r"reductions\[0\] must be two of true and false"),
        (["reductions", 0], [False, False], r"reductions\[0\] must keep at least one branch"),
        (["origin"], None, "origin must be an object"),
    ],
)
def test_a_wrong_field_of_a_file_is_named(place, value, message, tmp_path):
    data = Architecture.complete(SMALL).to_json()
    *way, last = place
    part = data
    for step in way:
        part = part[step]
    part[last] = value
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message) as caught:
        Architecture.load(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "name", ("format", "version", "space", "structures", "reductions", "origin")
)
def test_a_missing_field_of_a_file_is_named(name):
    data = Architecture.complete(SMALL).to_json()
    del data[name]
    with pytest.raises(ValueError, match=name):
        Architecture.from_json(data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a JSON file"),
        (b"hello", "not a JSON file"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[]", "an architecture must be an object"),
        (b"3", "an architecture must be an object"),
        (b"{}", "format must be 'dsonas-architecture', got None"),
        (b'{"format": NaN}', "NaN is not a number that JSON knows"),
        (b'{"origin": {"x": -Infinity}}', "-Infinity is not a number"),
        (b'{"format": 1, "format": 1}', "field 'format' is there more than once"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_architecture_is_refused(content, message, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        Architecture.load(path)
    assert "\n" not in str(caught.value)


def test_huge_and_deep_values_are_refused(tmp_path):
    path = tmp_path / "a.json"
    text = json.dumps(Architecture.complete(SMALL).to_json())
    deep = '{"a": ' * 40 + "1" + "}" * 40
    for origin, message in (('{"x": 1e999}', "must be finite"), (deep, "nested too deeply")):
        path.write_text(text.replace('"origin": {}', f'"origin": {origin}'))
        with pytest.raises(ValueError, match=message):
            Architecture.load(path)


def places(value, way=()):
    """Every place in a JSON value, with the container's way to it."""
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    else:
        return
    for key, child in children:
        yield (*way, key)
        yield from places(child, (*way, key))


def canonical(data):
    """The text of a file, the order of what has no order aside."""
    data = copy.deepcopy(data)
    data["space"]["operations"].sort()
    for names in data["structures"]:
        names.sort()
    return json.dumps(data, sort_keys=True)


def test_damaged_files_are_refused_or_mean_what_they_say():
    """A random change of a file is either refused by ValueError or read as it is written."""
    generator = random.Random(0)
    junk = [None, True, False, 0, 1, -1, 2, 5, 1.0, 0.5, 10**30, "", "share", "full", "sep3"]
    junk += ["max", "1.sep3->output", "input->2.max", [], [[]], {}, {"": 0}, [True, False], [1, 2]]
    originals = [architecture.to_json() for architecture in examples()]
    outcomes = {"refused": 0, "read": 0}
    for _ in range(3000):
        data = copy.deepcopy(generator.choice(originals))
        for _ in range(generator.choice((1, 1, 2))):
            *way, last = generator.choice(list(places(data)))
            part = data
            for step in way:
                part = part[step]
            change = generator.random()
            if change < 0.2:
                del part[last]
            elif change < 0.3 and isinstance(part, list):
                part.insert(last, part[last])
            elif change < 0.4 and isinstance(part, dict):
                part[generator.choice(["", "levels", "space", "extra"])] = part.pop(last)
            else:
                part[last] = copy.deepcopy(generator.choice(junk))
        try:
            read = Architecture.from_json(copy.deepcopy(data))
        except ValueError as error:
            assert str(error) and "\n" not in str(error)
            outcomes["refused"] += 1
        else:
            assert canonical(read.to_json()) == canonical(data)
            outcomes["read"] += 1
    assert min(outcomes.values()) > 100  # both happen, so both are tested


def test_damaged_text_is_refused_by_value_error(tmp_path):
    generator = random.Random(1)
    path = tmp_path / "a.json"
    next(examples()).save(path)
    text = path.read_bytes()
    refused = 0
    for _ in range(500):
        damaged = bytearray(text)
        if generator.random() < 0.3:
            del damaged[generator.randrange(len(text)) :]
        for _ in range(generator.randrange(1, 4)):
            if damaged:
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            Architecture.load(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
    assert refused > 300
