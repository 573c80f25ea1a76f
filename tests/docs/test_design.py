"""docs/design.md and CONTRIBUTING.md: every file, folder and name in them is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("dsonas_mx", "symbols", "train", "tools", "docs", "tests", ".ci")
FILES = [path for name in FOLDERS for path in (ROOT / name).rglob("*")]
FILES += [path for path in ROOT.iterdir() if path.is_file()]
CODE = "\n".join(
    path.read_text(encoding="utf-8") for path in FILES if path.suffix in (".py", ".cc", ".h")
)
NO_NAMES = re.compile(r".*[ <>]|make |stage\d")  # commands, patterns, a parameter as an example


def is_there(word):
    if "/" in word or re.search(r"\.(py|cc|h|json|md|txt|ipynb)$", word):
        end = "/" + word.rstrip("/")
        return any(path.as_posix().endswith(end) for path in (*FILES, *map(ROOT.joinpath, FOLDERS)))
    return all(re.search(rf"\b{name}\b", CODE) for name in re.findall(r"[A-Za-z_]\w+", word))


@pytest.mark.parametrize("page", ["docs/design.md", "CONTRIBUTING.md"])
def test_what_is_named_is_there(page):
    words = re.findall(r"`([^`\n]+)`", (ROOT / page).read_text(encoding="utf-8"))
    assert len(words) > 20
    assert [word for word in words if not NO_NAMES.match(word) and not is_there(word)] == []
    assert not is_there("engine/mirror.py") and not is_there("NoSuchName" + "Here")
