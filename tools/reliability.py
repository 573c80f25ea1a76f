#!/usr/bin/env python
"""Let everything go wrong that tests/runs/test_reliability.py knows, and write what happened.

The tables of docs/reliability.md are made anew, the second from the result.json of `make soak` if
there is one. Needs what `make test` needs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.io.files import atomic

try:
    import pytest
except ImportError:
    sys.exit("reliability.py: pytest is missing; `make faults` installs it")

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests" / "runs" / "test_reliability.py"
DOCUMENT = ROOT / "docs" / "reliability.md"


class Collector:
    """Notes, for each test that is a fault, what it is, what happened, and what was lost."""

    def __init__(self) -> None:
        self._faults: Dict[str, Tuple[str, str]] = {}
        self.rows: Dict[str, Tuple[str, str]] = {}

    def pytest_collection_modifyitems(self, items: List[Any]) -> None:
        """Of the tests that will run."""
        for item in items:
            for mark in item.iter_markers("fault"):
                self._faults[item.nodeid] = mark.args[0], mark.kwargs["lost"]

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Of a test that has run."""
        happens = dict(report.user_properties).get("happens")
        if report.when == "call" and report.passed and report.nodeid in self._faults and happens:
            fault, lost = self._faults[report.nodeid]
            self.rows[fault] = happens, lost


def replaced(text: str, name: str, content: str) -> str:
    """The text with something else between <!-- name --> and <!-- /name -->."""
    first, second = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = text.partition(first)
    _, found, after = rest.partition(second)
    if not found:
        raise ValueError(f"{DOCUMENT} has no {first} and {second}")
    return f"{before}{first}\n{content}\n{second}{after}"


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--soak", default="runs/soak/result.json", help="what `make soak` wrote")
    return parser


def main(options: argparse.Namespace) -> int:
    collector = Collector()
    status = pytest.main([str(TESTS), "-q", "-p", "no:cacheprovider"], [collector])
    if status:
        return 1  # pytest has said why
    table = ["| fault | what happens | what is lost |", "|-|-|-|"]
    table += [f"| {fault} | {does} | {lost} |" for fault, (does, lost) in collector.rows.items()]
    text = replaced(DOCUMENT.read_text(encoding="utf-8"), "faults", "\n".join(table))
    if Path(options.soak).exists():
        soak = json.loads(Path(options.soak).read_text(encoding="utf-8"))
        sentence = (
            f"The last time: {sum(soak['kills'].values())} kills in {soak['minutes']} minutes, "
            f"{soak['kills']['inside a checkpoint']} of them inside a checkpoint;\n{soak['runs']} "
            f"runs came to their end, having gone on from {soak['places it went on from']} "
            f"different places. Files that differ: {len(soak['different']) or 'none'}."
        )
        text = replaced(text, "soak", sentence)
    with atomic(DOCUMENT) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    run(main, arguments())
