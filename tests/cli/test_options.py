"""Options by construction: every one of every script, from its one definition to its places."""

import ast
from dataclasses import FrozenInstanceError
from pathlib import Path

from dsonas_mx.io.options import members

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(f"train/{path.name}" for path in (ROOT / "train").glob("*.py"))
TEXTS = {  # of values that are no numbers, and have no choices
    "split": "3:2",
    "operations": "max",
    "stages": "voc:1:0.1",
    "data_dir": "folder",
    "mirror": "250",
}
NUMBERS = {"image_size": 24}  # of which not every one is allowed


def other(one, default):
    """The words of an option that give it another value than its default, and that value's text."""
    if isinstance(default, bool):
        return [one.flag], True
    if one.choices:
        text = next(choice for choice in one.choices if choice != default)
    elif one.record in TEXTS or (one.parse is None and isinstance(default, (str, type(None)))):
        text = TEXTS.get(one.record, "2")
    else:
        is_float = isinstance(default, float) or one.parse is float
        value = (default or 0.5) / 2 if is_float else NUMBERS.get(one.record, 3)
        return [one.flag, str(value)], value
    return [one.flag, text], text


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_option_of_every_script(script_module, name):
    """It reaches its field and, under its name, the record; of what decides a result also that of
    it; and nothing else. None has the flag, or the name in a record, of another.
    """
    module = script_module(name)
    parser, options = module.arguments(), list(members(module.Options))
    assert len({one.flag for _, _, one in options}) == len(options)
    assert len({one.record for _, _, one in options}) == len(options)
    needed = {one.one_of for _, _, one in options if one.required}
    for group, field, one in options:
        base = [] if one.one_of in needed or not needed else ["--full-network"]
        if (one.one_of, one.record) == ("network", "full_network"):
            base = []
        before = parser.read(base or ["--random", "share"] * bool(needed))
        words, value = other(one, getattr(getattr(before, group), field))
        after = parser.read([*base, *words])
        assert after.record()[one.record] == value, one
        changed = {n for n, v in after.record().items() if v != before.record()[n]}
        follow = {"random", "full_network"} if one.record != "preset" else changed
        assert changed - follow <= {one.record}, one
        assert one.record in after.given
        assert (one.record in after.record(deciding=True)) == one.decides
        assert one.show(getattr(getattr(after, group), field)) == value
        assert one.help


@pytest.mark.parametrize("name", SCRIPTS)
def test_nobody_writes_to_options(script_module, name):
    options = script_module(name).Options()
    with pytest.raises(FrozenInstanceError):
        options.run.save_dir = "elsewhere"
    changed = options.but("run", save_dir="elsewhere")
    assert (changed.run.save_dir, options.run.save_dir == "elsewhere") == ("elsewhere", False)


def test_the_library_names_no_options_of_a_command_line():
    """It says what is wrong in its own words, with the names of values in backquotes; those that
    build command lines know their words.
    """
    building = {"runner.py", "cluster.py", "measure.py", "_compat.py"}
    building.add("options.py")
    found = []
    for path in sorted((ROOT / "dsonas_mx").rglob("*.py")):
        if path.name in building or path.parent.name == "cli":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and id(node) not in documented:
                words = [w for w in text.split() if w.startswith("--") and w[2:3].isalpha()]
                found += [(path.name, node.lineno, word) for word in words]
    assert not found
