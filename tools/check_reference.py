#!/usr/bin/env python
"""Compare our network with a file of what the authors' release computed, array by array.

Outputs, moving statistics and gradients are computed on the CPU by the graphs that a search runs.
Exit status 1 if one is too far off, missing, superfluous or not finite.
"""

import argparse
import math
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.parser import Parser, run


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("file", metavar="FILE.npz", help="see tests/golden/README.md")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-3,
        help="for gradients, relative to the largest value of each; a tenth of it for the others",
    )
    return parser


def main(options: argparse.Namespace) -> int:
    from dsonas_mx.release import check as reference

    from symbols import DSONAS

    if not 0 < options.tolerance < math.inf:
        raise ValueError(f"--tolerance must be above 0, got {options.tolerance}")

    weighted = partial(DSONAS, weighted=True)
    file = reference.read_reference(options.file)
    try:
        architecture = reference.read_architecture(file)
        checked = reference.check(file, architecture, weighted, options.tolerance)
    except ValueError as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 1

    title = str(architecture).splitlines()[0]
    print(f"{title}; on {'the native' if checked.is_native else 'the plain MXNet'} operators")
    if checked.of_native:
        print(
            f"{len(checked.of_native)} gradients of the native operators differ, by up to "
            f"{max(difference.relative for difference in checked.of_native):.0e}. If MXNet's own "
            "agree, a value lies at the kink of a ReLU or a maximum, where rounding decides."
        )
    for group in reference.GROUPS:
        members = [difference for difference in checked.differences if difference.group == group]
        largest = reference.largest_of(members, group)
        if largest is not None:
            print(
                f"{group:<12} {len(members):>5} compared, largest relative difference "
                f"{largest.relative:.2e} in {largest.name} "
                f"(limit {reference.limit(group, options.tolerance):.0e})"
            )
    failed = reference.failures(checked.differences, options.tolerance)
    print(f"{len(checked.differences)} arrays compared, {len(failed)} failed")
    for difference in failed[:20]:
        print(f"{difference.name}: {difference.relative:.2e}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    run(main, arguments())
