#!/usr/bin/env python
"""Let everything go wrong that tests mark as a fault, and write what happened.

The tables of docs/reliability.md are made anew, the second from the result.json of `make soak` if
there is one. Needs what `make test` needs.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.io.markdown import markdown_table, renew

try:
    import pytest
except ImportError:
    sys.exit("reliability.py: pytest is missing; `make faults` installs it")

ROOT = Path(__file__).resolve().parents[1]
TESTS = [ROOT / "tests" / name for name in ("runs/test_reliability.py", "tools/test_launch.py")]
DOCUMENT = ROOT / "docs" / "reliability.md"


class Collector:
    """Notes, of each test that is a fault, its place, the fault, what happens, what is lost."""

    def __init__(self) -> None:
        self._rows: Dict[str, Tuple[int, str, str, str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Of a test that has run."""
        said = dict(report.user_properties)
        if report.when == "call" and report.passed and {"fault", "happens"} <= set(said):
            place, fault, lost = said["fault"]
            self._rows[fault] = place, fault, said["happens"], lost

    def table(self) -> str:
        """In the order of the tests, whichever process ran them."""
        rows = [row for _, *row in sorted(self._rows.values())]
        return markdown_table([("fault", "what happens", "what is lost"), *rows])


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--soak", default="runs/soak/result.json", help="what `make soak` wrote")
    return parser


def main(options: argparse.Namespace) -> int:
    collector = Collector()
    # Not the test of the table itself, which is of an older one. A process a file.
    words = ["-q", "-m", "fault", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile"]
    if pytest.main([*map(str, TESTS), *words], [collector]):
        return 1  # pytest has said why
    renew(DOCUMENT, "faults", collector.table())
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
