"""The API page gives parameters that are documented together one default: they have one."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [path for folder in ("dsonas_mx", "symbols") for path in (ROOT / folder).rglob("*.py")]
SECTION = re.compile(r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", re.M | re.S)


def defaults_of(node):
    """Defaults by name, as source text, of a function, or of what builds a class."""
    found = {}
    if isinstance(node, ast.ClassDef):
        for one in node.body:
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                value = one.value
                if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "option":
                    value = value.args[0]
                found[one.target.id] = value and ast.dump(value)
        inits = (one for one in node.body if getattr(one, "name", "") == "__init__")
        node = next(inits, None)
    if node is not None:
        given, values = node.args.args, node.args.defaults
        found.update(
            zip((one.arg for one in given[len(given) - len(values) :]), map(ast.dump, values))
        )
        for one, value in zip(node.args.kwonlyargs, node.args.kw_defaults):
            found[one.arg] = value and ast.dump(value)
    return found


def mixed(source):
    """Names that stand together in a section of parameters, with different defaults."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            section = SECTION.search(ast.get_docstring(node) or "")
            lines = section[1].splitlines() if section else []
            for line in lines:
                names = re.split(", *", line.split(" : ")[0])
                if line[:1].strip() and len({defaults_of(node).get(name) for name in names}) > 1:
                    yield names


@pytest.mark.parametrize("folder", ["dsonas_mx", "symbols"])
def test_parameters_that_are_documented_together_have_one_default(folder):
    files = [path for path in FILES if folder in path.parts]
    assert len(files) > 10
    assert {str(path): names for path in files for names in mixed(path.read_text("utf-8"))} == {}


def test_different_defaults_are_seen():
    text = "Does.\n\n    Parameters\n    ----------\n    a, b : int\n    c, d : int\n    "
    assert list(mixed(f'def f(a=1, b=1, *, c=2, d=3):\n    """{text}"""')) == [["c", "d"]]
