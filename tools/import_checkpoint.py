#!/usr/bin/env python
"""Import a checkpoint of the authors, for CIFAR or ImageNet: a supernet's, or a derived network's.

Writes DIR/architecture.json and, if the file has weights, DIR/model.params: the parameters of
get_model('dsonas', architecture, weighted=True, fix_gamma='operations'), as the release trains it.
A derived network has no scales that tell what it is: give --architecture; DIR/model.params are then
the parameters of get_model('dsonas', architecture).
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.parser import Parser, run


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    add_checkpoint(parser)
    parser.add_argument("--out", metavar="DIR", required=True)
    return parser


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Which file, and what it does not tell."""
    parser.add_argument("prefix", metavar="PREFIX", help="the file is PREFIX-%%04d.params")
    parser.add_argument("epoch", metavar="EPOCH", type=int)
    parser.add_argument(
        "--architecture", metavar="FILE", help="of a derived network, whose file has no scales"
    )
    group = parser.add_argument_group("what the file cannot tell, if not the data set's default")
    group.add_argument("--levels", type=int)
    group.add_argument("--operations", help="such as sep3,sep5,max,avg")
    group.add_argument("--blocks", help="blocks a stage: a number, or one a stage (2,2,13,6)")
    group.add_argument("--width", type=int, help="channels of the first stage")


def read(options: argparse.Namespace) -> Any:
    """The `Checkpoint` of the options of `add_checkpoint`."""
    from dsonas_mx.release.checkpoint import Told, read

    from symbols import get_model

    operations = options.operations and options.operations.split(",")
    told = Told(options.architecture, options.levels, operations, options.blocks, options.width)
    return read(path_of(options), options.epoch, told, partial(get_model, "dsonas"))


def path_of(options: argparse.Namespace) -> str:
    """The file of the options."""
    if options.epoch < 0:
        raise ValueError(f"EPOCH must be at least 0, got {options.epoch}")
    return f"{options.prefix}-{options.epoch:04d}.params"


def main(options: argparse.Namespace) -> None:
    from dsonas_mx.cost.count import count
    from dsonas_mx.io.files import adding
    from dsonas_mx.io.params_file import write_params

    architecture, parameters, _ = read(options)
    folder = Path(options.out)
    model = folder / "model.params"
    if parameters is None and model.exists():
        raise ValueError(
            f"{model} is there, but {path_of(options)} has no weights: give another --out"
        )
    if (folder / "args.json").exists():
        raise ValueError(f"{folder} is of a run: give another --out")
    with adding(folder) as place:
        architecture.save(place / "architecture.json")
        if parameters is not None:
            write_params(place / model.name, parameters)
    cost = count(architecture)
    print(f"{architecture}\n{cost.parameters:,} parameters, {cost.multiply_adds:,} multiply-adds")
    print(f"wrote {folder / 'architecture.json'}")
    print(f"wrote {model}" if parameters else "the file has no weights, only scales")


if __name__ == "__main__":
    run(main, arguments())
