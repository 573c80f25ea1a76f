#!/usr/bin/env python
"""Import a checkpoint of the authors' search: what its scales have found, and its weights.

Writes DIR/architecture.json and, if the file has weights, DIR/model.params: the parameters of
get_model('dsonas', architecture, weighted=True, fix_gamma='operations'), as the release trains it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Dict, List, Optional, Union

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx import cli
from dsonas_mx.architecture import Architecture
from dsonas_mx.authors import INPUTS, read_lambdas, to_ours
from dsonas_mx.authors_space import read_space
from dsonas_mx.cost import count
from dsonas_mx.files import atomic
from dsonas_mx.params_file import read_params
from dsonas_mx.reference import check_parameters

import mxnet as mx
import numpy as np

from symbols import get_model


def arguments() -> cli.Parser:
    parser = cli.Parser(description=__doc__)
    parser.add_argument("prefix", metavar="PREFIX", help="the file is PREFIX-%%04d.params")
    parser.add_argument("epoch", metavar="EPOCH", type=int)
    parser.add_argument("--out", metavar="DIR", required=True)
    group = parser.add_argument_group("what the file cannot tell, if not the data set's default")
    group.add_argument("--levels", type=int)
    group.add_argument("--operations", help="such as sep3,sep5,max,avg")
    group.add_argument("--blocks", help="blocks a stage: a number, or one a stage (2,2,13,6)")
    group.add_argument("--width", type=int, help="channels of the first stage")
    return parser


def main(options: argparse.Namespace) -> None:
    if options.epoch < 0:
        raise ValueError(f"EPOCH must be at least 0, got {options.epoch}")
    path = f"{options.prefix}-{options.epoch:04d}.params"
    arrays = read_params(path)
    try:
        theirs = without_kinds(arrays)
        space = read_space(
            theirs,
            levels=options.levels,
            operations=options.operations and options.operations.split(","),
            blocks=parse_blocks(options.blocks),
            width=options.width,
        )
        origin = {"source": "a checkpoint of the authors' release", "epoch": options.epoch}
        architecture = Architecture.from_lambdas(space, *read_lambdas(theirs, space), origin)
        parameters = None
        if any(not name.startswith("lambda_") for name in theirs):
            parameters = read_parameters(theirs, architecture)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None

    folder = Path(options.out)
    model = folder / "model.params"
    if parameters is None and model.exists():
        raise ValueError(f"{model} is there, but {path} has no weights: give another --out")
    folder.mkdir(parents=True, exist_ok=True)
    if parameters is not None:
        with atomic(model) as temporary:
            mx.nd.save(str(temporary), {k: mx.nd.array(v) for k, v in parameters.items()})
    architecture.save(folder / "architecture.json")

    cost = count(architecture)
    print(f"{architecture}\n{cost.parameters:,} parameters, {cost.multiply_adds:,} multiply-adds")
    print(f"wrote {folder / 'architecture.json'}")
    print(f"wrote {model}" if parameters else "the file has no weights, only scales")


def without_kinds(arrays: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """The parameters and moving statistics among the arrays, without `arg:` and `aux:`."""
    theirs: Dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        kind, _, rest = name.partition(":")
        if kind not in ("arg", "aux"):
            raise ValueError(f"{name!r} is not named arg:… or aux:…, so this is no checkpoint")
        if rest not in INPUTS:
            theirs[rest] = array
    return theirs


def read_parameters(
    theirs: Dict[str, np.ndarray], architecture: Architecture
) -> Dict[str, np.ndarray]:
    """Our parameters of the network that is left, all of them and finite."""
    ours = to_ours(theirs, architecture)
    net = get_model("dsonas", architecture, weighted=True, fix_gamma="operations")
    check_parameters(ours, {name: p.shape for name, p in net.collect_params().items()})
    for name, array in ours.items():
        if not np.isfinite(array).all():
            raise ValueError(f"the array for the parameter {name} has a value that is not finite")
    return {name: array.astype(np.float32) for name, array in ours.items()}


def parse_blocks(text: Optional[str]) -> Union[int, List[int], None]:
    if text is None:
        return None
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--blocks must be a number or one a stage (2,2,13,6), got {text!r}"
        ) from None
    return counts[0] if len(counts) == 1 else counts


if __name__ == "__main__":
    cli.run(main, arguments())
