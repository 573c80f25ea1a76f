"""docs/paper_to_code.md: every file and name in it exists, and nothing of the paper is missing."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "paper_to_code.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)[1:]


def names_in(path):
    """Functions, classes, their methods and fields, and variables of a module."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        for part in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(part, ast.FunctionDef):
                names.add(f"{node.name}.{part.name}")
            elif isinstance(part, ast.AnnAssign):
                names.add(f"{node.name}.{part.target.id}")
        if isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return names


def numbers(kind):
    """All that the first column names of a kind, `Eq. 10-12` being three."""
    found = set()
    for row, _ in ROWS:
        if row.startswith(kind):
            for part in row[len(kind) :].split(","):
                first, _, last = part.strip().partition("-")
                found.update(range(int(first), int(last or first) + 1))
    return found


@pytest.mark.parametrize("row, places", ROWS, ids=[row for row, _ in ROWS])
def test_the_names_exist(row, places):
    words = re.findall(r"`([^`]+)`", places)
    assert "/" in words[0]
    for word in words:
        if "/" in word:
            path = ROOT / word
            assert path.is_file(), word
        else:
            assert word in names_in(path), f"{word} is not in {path.name}"


@pytest.mark.parametrize(
    "kind, first, last", [("Eq. ", 1, 19), ("Table ", 1, 9), ("Fig. ", 2, 8), ("Algorithm ", 1, 1)]
)
def test_nothing_is_missing(kind, first, last):
    assert numbers(kind) == set(range(first, last + 1))
