#!/usr/bin/env python
"""Import a checkpoint of the authors, for CIFAR or ImageNet: a supernet's, or a derived network's.

Writes DIR/architecture.json and, if the file has weights, DIR/model.params: the parameters of
get_model('dsonas', architecture, weighted=True, fix_gamma='operations'), as the release trains it.
A derived network has no scales that tell what it is: give --architecture; DIR/model.params are then
the parameters of get_model('dsonas', architecture).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.cost.count import count
from dsonas_mx.io.files import atomic
from dsonas_mx.io.params_file import read_params
from dsonas_mx.release.check import check_parameters
from dsonas_mx.release.names import INPUTS, read_lambdas, to_ours
from dsonas_mx.release.space import read_space
from dsonas_mx.space.architecture import Architecture

import mxnet as mx
import numpy as np

from symbols import get_model

FIXED = "operations"  # which BN scales the release fixes in its supernets


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("prefix", metavar="PREFIX", help="the file is PREFIX-%%04d.params")
    parser.add_argument("epoch", metavar="EPOCH", type=int)
    parser.add_argument("--out", metavar="DIR", required=True)
    add_space(parser)
    return parser


def add_space(parser: argparse.ArgumentParser) -> None:
    """What a file of the authors does not tell."""
    parser.add_argument(
        "--architecture", metavar="FILE", help="of a derived network, whose file has no scales"
    )
    group = parser.add_argument_group("what the file cannot tell, if not the data set's default")
    group.add_argument("--levels", type=int)
    group.add_argument("--operations", help="such as sep3,sep5,max,avg")
    group.add_argument("--blocks", help="blocks a stage: a number, or one a stage (2,2,13,6)")
    group.add_argument("--width", type=int, help="channels of the first stage")


def path_of(options: argparse.Namespace) -> str:
    """The file of the options."""
    if options.epoch < 0:
        raise ValueError(f"EPOCH must be at least 0, got {options.epoch}")
    return f"{options.prefix}-{options.epoch:04d}.params"


def read(
    options: argparse.Namespace,
) -> Tuple[Architecture, Optional[Dict[str, np.ndarray]], bool]:
    """The architecture, our parameters if there are weights, and whether they are a supernet's."""
    path = path_of(options)
    arrays = read_params(path)
    try:
        theirs = without_kinds(arrays)
        if options.architecture is not None:
            return read_derived(theirs, options)
        if not any(name.startswith("lambda") for name in theirs):
            raise ValueError(
                "there are no scales (lambda_…), so this is no supernet: of a derived network give "
                "--architecture FILE"
            )
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
    return architecture, parameters, True


def read_derived(
    theirs: Dict[str, np.ndarray], options: argparse.Namespace
) -> Tuple[Architecture, Dict[str, np.ndarray], bool]:
    """A network without scales, of the architecture and at the size of the options."""
    if any(name.startswith("lambda_") for name in theirs):
        raise ValueError("the file has scales, so it is a supernet's: leave out --architecture")
    architecture = Architecture.load(options.architecture)
    weight = theirs.get("stage1_unit1_id_conv_weight")
    changes: Dict[str, Any] = {} if weight is None else {"width": weight.shape[0]}
    if options.blocks is not None:
        counts = parse_blocks(options.blocks)
        stages = len(architecture.space.blocks)
        changes["blocks"] = (counts,) * stages if isinstance(counts, int) else counts
    if "fc1_weight" in theirs:
        changes["num_classes"] = theirs["fc1_weight"].shape[0]
    architecture = architecture.with_space(**changes)
    tower = "auxiliary_", "aux_"  # a training's, which a derived network is used without
    main = {name: array for name, array in theirs.items() if not name.startswith(tower)}
    return architecture, read_parameters(main, architecture, weighted=False), False


def main(options: argparse.Namespace) -> None:
    architecture, parameters, _ = read(options)
    path = path_of(options)
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
    theirs: Dict[str, np.ndarray], architecture: Architecture, weighted: bool = True
) -> Dict[str, np.ndarray]:
    """Our parameters of the network that is left, all of them and finite."""
    ours = to_ours(theirs, architecture)
    fixed = FIXED if weighted else "none"
    net = get_model("dsonas", architecture, weighted=weighted, fix_gamma=fixed)
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
    run(main, arguments())
