"""A checkpoint of the authors' release, read: its architecture, and our parameters of it."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np
from mxnet.gluon import HybridBlock

from ..io.files import PathLike, in_file
from ..io.params_file import read_params
from ..space.architecture import Architecture
from ..space.normal import parse_blocks
from .check import check_parameters
from .names import INPUTS, read_lambdas, to_ours
from .space import read_space

FIXED = "operations"  # which BN scales the release fixes in its supernets

Arrays = Dict[str, np.ndarray]
Build = Callable[..., HybridBlock]


@dataclass(frozen=True)
class Told:
    """What a file of the authors cannot tell, where it is not the data set's default.

    Parameters
    ----------
    architecture : path, optional
        Of a derived network, whose file has no scales.
    levels, operations, blocks, width : optional
        As in `SearchSpace`; `blocks` as `parse_blocks` takes it.
    """

    architecture: Optional[PathLike] = None
    levels: Optional[int] = None
    operations: Optional[List[str]] = None
    blocks: Optional[str] = None
    width: Optional[int] = None


class Checkpoint(NamedTuple):
    """What is in a file; without weights there are no parameters, only scales.

    Attributes
    ----------
    is_supernet : bool
        Whether the network is weighted, as the release trains it: its `fix_gamma` is then `FIXED`.
    """

    architecture: Architecture
    parameters: Optional[Arrays]
    is_supernet: bool


def read(path: PathLike, epoch: int, told: Told, build: Build) -> Checkpoint:
    """The architecture, and our parameters if there are weights.

    Parameters
    ----------
    build : callable
        `build(architecture, weighted=…, fix_gamma=…)` → a network.

    Raises
    ------
    ValueError, OSError
        It is no such file; the message has its name.
    """
    arrays = read_params(path)
    with in_file(path):
        theirs = _without_kinds(arrays)
        if told.architecture is not None:
            return _read_derived(theirs, told, build)
        if not any(name.startswith("lambda") for name in theirs):
            raise ValueError(
                "there are no scales (lambda_…), so this is no supernet: of a derived network give "
                "`architecture` FILE"
            )
        space = read_space(
            theirs,
            levels=told.levels,
            operations=told.operations,
            blocks=None if told.blocks is None else parse_blocks(told.blocks, 1),
            width=told.width,
        )
        origin = {"source": "a checkpoint of the authors' release", "epoch": epoch}
        architecture = Architecture.from_lambdas(space, *read_lambdas(theirs, space), origin)
        parameters = None
        if any(not name.startswith("lambda_") for name in theirs):
            net = build(architecture, weighted=True, fix_gamma=FIXED)
            parameters = _parameters(theirs, architecture, net)
    return Checkpoint(architecture, parameters, True)


def _read_derived(theirs: Arrays, told: Told, build: Build) -> Checkpoint:
    """A network without scales, of the architecture and at the size that are told."""
    if any(name.startswith("lambda_") for name in theirs):
        raise ValueError("the file has scales, so it is a supernet's: leave out `architecture`")
    assert told.architecture is not None
    architecture = Architecture.load(told.architecture)
    weight = theirs.get("stage1_unit1_id_conv_weight")
    changes: Dict[str, Any] = {} if weight is None else {"width": weight.shape[0]}
    if told.blocks is not None:
        changes["blocks"] = parse_blocks(told.blocks, len(architecture.space.blocks))
    if "fc1_weight" in theirs:
        changes["num_classes"] = theirs["fc1_weight"].shape[0]
    architecture = architecture.with_space(**changes)
    tower = "auxiliary_", "aux_"  # a training's, which a derived network is used without
    main = {name: array for name, array in theirs.items() if not name.startswith(tower)}
    net = build(architecture, weighted=False, fix_gamma="none")
    return Checkpoint(architecture, _parameters(main, architecture, net), False)


def _without_kinds(arrays: Arrays) -> Arrays:
    """The parameters and moving statistics among the arrays, without `arg:` and `aux:`."""
    theirs: Arrays = {}
    for name, array in arrays.items():
        kind, _, rest = name.partition(":")
        if kind not in ("arg", "aux"):
            raise ValueError(f"{name!r} is not named arg:… or aux:…, so this is no checkpoint")
        if rest not in INPUTS:
            theirs[rest] = array
    return theirs


def _parameters(theirs: Arrays, architecture: Architecture, net: HybridBlock) -> Arrays:
    """Our parameters of the network that is left, all of them and finite."""
    ours = to_ours(theirs, architecture)
    check_parameters(ours, {name: p.shape for name, p in net.collect_params().items()})
    for name, array in ours.items():
        if not np.isfinite(array).all():
            raise ValueError(f"the array for the parameter {name} has a value that is not finite")
    return {name: array.astype(np.float32) for name, array in ours.items()}
