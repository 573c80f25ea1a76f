#!/usr/bin/env python
"""Print what the network of an architecture file costs, and how many connections survive."""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.cost.count import Cost
from dsonas_mx.cost.network import count_network
from dsonas_mx.space.mobile_architecture import MobileArchitecture, load_architecture
from dsonas_mx.space.normal import SearchSpace, parse_blocks

NETWORKS = {"cifar10": SearchSpace.cifar10, "imagenet": SearchSpace.imagenet}


def arguments() -> Parser:
    parser = Parser(
        description=__doc__,
        epilog="Without options the network is the one whose space is in the file.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("architecture", metavar="ARCHITECTURE.json", nargs="?")
    which.add_argument("--model", metavar="NAME", help="a network of table 1 instead")
    parser.add_argument(
        "--transfer",
        choices=sorted(NETWORKS),
        help="put the blocks into the paper's network for that data set",
    )
    parser.add_argument("--width", type=int, help="channels of the first stage")
    parser.add_argument("--blocks", help="blocks a stage: a number, or one a stage (2,2,13,6)")
    parser.add_argument("--num-classes", type=int)
    parser.add_argument("--image-size", type=int, help="side of the images in pixels")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser


def main(options: argparse.Namespace) -> None:
    from symbols import architectures

    given = {name: value for name, value in vars(options).items() if value is not None}
    changes = {
        name: given[name] for name in ("width", "num_classes", "image_size") if name in given
    }
    if options.model:
        for name in ("transfer", "blocks", *changes):
            if name in given:
                raise ValueError(f"`{name}` is not for `model`")
        show_model(options.model, options.json)
        return
    architecture = load_architecture(architectures.find(options.architecture))
    if isinstance(architecture, MobileArchitecture):
        for name in ("transfer", "blocks"):
            if name in given:
                raise ValueError(f"`{name}` is not for the mobile setting")
    elif options.transfer:
        architecture = architecture.transferred_to(NETWORKS[options.transfer]())
    if options.blocks is not None:
        changes["blocks"] = parse_blocks(options.blocks, len(architecture.space.blocks))
    cost = count_network(architecture.with_space(**changes))
    if options.json:
        print(line_of(cost))
        return
    print(f"parameters     {cost.parameters:>14,}")
    print(f"multiply-adds  {cost.multiply_adds:>14,}")
    print(f"memory access  {cost.memory_access:>14,}")
    print(f"connections    {cost.connections:>14,} of {architecture.space.num_connections:,}")


def line_of(cost: Cost) -> str:
    """One line of JSON."""
    names = ("parameters", "multiply_adds", "connections")
    return json.dumps({name: getattr(cost, name) for name in names})


def show_model(name: str, as_json: bool) -> None:
    """A network of table 1 beside what its paper says."""
    from symbols.baselines import PUBLISHED, cost_of

    if name not in PUBLISHED:
        raise ValueError(f"`model` must be one of {', '.join(sorted(PUBLISHED))}, got {name}")
    cost = cost_of(name)
    if as_json:
        print(line_of(cost))
        return
    published = PUBLISHED[name].parameters / 1e6
    print(f"parameters     {cost.parameters:>14,}, published as {published:.1f}M")
    print(f"multiply-adds  {cost.multiply_adds:>14,}")


if __name__ == "__main__":
    run(main, arguments())
