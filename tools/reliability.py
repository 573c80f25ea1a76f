#!/usr/bin/env python
"""Let everything go wrong that tests mark as a fault, and write what happened.

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
from dsonas_mx.io.files import renew

try:
    import pytest
except ImportError:
    sys.exit("reliability.py: pytest is missing; `make faults` installs it")

ROOT = Path(__file__).resolve().parents[1]
TESTS = [ROOT / "tests" / name for name in ("runs/test_reliability.py", "tools/test_launch.py")]
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


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--soak", default="runs/soak/result.json", help="what `make soak` wrote")
    return parser


def main(options: argparse.Namespace) -> int:
    collector = Collector()
    # Not the test of the table itself, which is of an older one.
    status = pytest.main(
        [*map(str, TESTS), "-q", "-m", "fault", "-p", "no:cacheprovider"], [collector]
    )
    if status:
        return 1  # pytest has said why
    table = ["| fault | what happens | what is lost |", "|-|-|-|"]
    table += [f"| {fault} | {does} | {lost} |" for fault, (does, lost) in collector.rows.items()]
    renew(DOCUMENT, "faults", "\n".join(table))
    if Path(options.soak).exists():
        soak = json.loads(Path(options.soak).read_text(encoding="utf-8"))
        sentence = (
            f"The last time: {sum(soak['kills'].values())} kills in {soak['minutes']} minutes, "
            f"{soak['kills']['inside a checkpoint']} of them inside a checkpoint;\n{soak['runs']} "
            f"runs came to their end, having gone on from {soak['places it went on from']} "
            f"different places. Files that differ: {len(soak['different']) or 'none'}."
        )
        renew(DOCUMENT, "soak", sentence)
    return 0


if __name__ == "__main__":
    run(main, arguments())
