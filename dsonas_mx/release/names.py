"""The names and arrays of the authors' release, to and from ours.

Their network has one array an output convolution and one a set of scales; ours packs the output
convolutions of a block side by side, and all scales of its live connections in one vector.

Their names: `stage{s}_unit{u}_…` for block u of stage s, and for the reduction, the unit behind
the last block. The ImageNet stem is `conv0`, `bn0`, `conv1`, `bn1`, CIFAR's `conv0`, `bn0`. Scales
are in the order of `SearchSpace.connections`:

- share: `lambda_layer_{level}_{k}`, the inputs of operation k of a level, and `lambda_after`,
- full, layout 'vector' (their adaptive FLOPs): all of a block in `lambda_stage{s}_unit{u}`,
- full, layout 'layers': `lambda_stage{s}_unit{u}_layer_{level}_{k}` and
  `lambda_after_stage{s}_unit{u}`,
- reductions: `lambda_stage{s}_unit{u}`, of the 1×1 and of the 3×3 convolution.

Scales always have the size of the complete block. What the authors' shrinking has removed
altogether has no arrays any more, and its scales are zero.
"""

import re
from itertools import product
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Tuple

import numpy as np

from ..io.checks import shown
from ..io.files import PathLike, atomic
from ..io.params_file import write_params
from ..space.architecture import Architecture
from ..space.normal import OUTPUT, SearchSpace
from ..space.operations import TABLE
from ..space.scales import lambda_parameters

THEIR_OPERATIONS = {name: row.authors for name, row in TABLE.items()}
FULL_LAYOUTS = ("vector", "layers")
INPUTS = ("data", "softmax_label", "aux_softmax_label")  # in their files beside the parameters

Arrays = Mapping[str, np.ndarray]

_BATCH_NORM = (
    ("gamma", "gamma"),
    ("beta", "beta"),
    ("running_mean", "moving_mean"),
    ("running_var", "moving_var"),
)


class _Parameter(NamedTuple):
    """One of our parameters, and the arrays of theirs that stand side by side in it."""

    ours: str
    theirs: Tuple[str, ...]


class _Scales(NamedTuple):
    """One of their arrays of scales: those at `part` in a row of `lambdas` or `reductions`."""

    name: str
    of_reduction: bool
    row: int
    part: slice


def to_ours(arrays: Arrays, architecture: Architecture) -> Dict[str, np.ndarray]:
    """Parameters (or gradients, or moving statistics) of the authors' network under our names.

    Parameters
    ----------
    arrays : mapping of name to array
        By their names, without `arg:` and `aux:`. What `architecture` has removed may be there
        or not. What is not there at all is left out of the result.
    architecture : Architecture

    Returns
    -------
    dict
        The parameters of `symbols.DSONAS(architecture, weighted)`; those that hold λ are there
        if `arrays` has scales. For the complete architecture nothing is lost.

    Raises
    ------
    ValueError
        A name belongs to no network of this space, or part of a parameter is missing.
    """
    space = architecture.space
    known = {
        name for parameter in _parameters(Architecture.complete(space)) for name in parameter.theirs
    }
    for name in arrays:
        if name not in known and not name.startswith("lambda_"):
            raise ValueError(f"{shown(name)} belongs to no network of {_described(space)}")
    ours: Dict[str, np.ndarray] = {}
    for parameter in _parameters(architecture):
        found = [name for name in parameter.theirs if name in arrays]
        if not found:
            continue
        for name in parameter.theirs:
            if name not in arrays:
                raise ValueError(f"{name} is missing, though {found[0]} is there")
        parts = [np.asarray(arrays[name]) for name in parameter.theirs]
        if len(parts) == 1:
            ours[parameter.ours] = parts[0]
            continue
        for name, part in zip(parameter.theirs, parts):
            if part.ndim != 4 or part.shape != parts[0].shape:
                raise ValueError(
                    f"{name} has the shape {part.shape}, unlike {parts[0].shape} of {found[0]}"
                )
        ours[parameter.ours] = np.concatenate(parts, axis=1)
    if any(name.startswith("lambda_") for name in arrays):
        vector = np.concatenate([rows.ravel() for rows in read_lambdas(arrays, space)])
        for name, positions in lambda_parameters(architecture).items():
            ours[name] = vector[positions]
    return ours


def to_authors(
    arrays: Arrays, architecture: Architecture, full_layout: str = "vector"
) -> Dict[str, np.ndarray]:
    """The inverse of `to_ours`; scales of removed connections are zero.

    Parameters
    ----------
    arrays : mapping of name to array
        By our names; scales of all live connections, or none at all.
    full_layout : {'vector', 'layers'}
        How scales of the full scope are stored.
    """
    if full_layout not in FULL_LAYOUTS:
        raise ValueError(f"full_layout must be {' or '.join(FULL_LAYOUTS)}, got {full_layout!r}")
    space = architecture.space
    theirs: Dict[str, np.ndarray] = {}
    left = dict(arrays)
    for parameter in _parameters(architecture):
        if parameter.ours in left:
            array = np.asarray(left.pop(parameter.ours))
            parts = [array]
            if len(parameter.theirs) > 1:
                parts = np.split(array, len(parameter.theirs), axis=1)
            theirs.update(zip(parameter.theirs, parts))
    scales = lambda_parameters(architecture)
    if any(name in left for name in scales):
        dtype = np.asarray(next(left[name] for name in scales if name in left)).dtype
        vector, lambdas, reductions = _no_scales(space, dtype)
        for name, positions in scales.items():
            if name not in left:
                raise ValueError(f"{name} is missing, though other scales are there")
            vector[positions] = left.pop(name)
        for slot in _scales(space, full_layout):
            rows = reductions if slot.of_reduction else lambdas
            theirs[slot.name] = rows[slot.row, slot.part][np.newaxis]
    for name in left:
        raise ValueError(f"{shown(name)} is no parameter of this architecture")
    return theirs


def export_checkpoint(
    prefix: PathLike,
    epoch: int,
    arrays: Arrays,
    architecture: Architecture,
    full_layout: str = "vector",
) -> Path:
    """Write our network as a checkpoint of the authors, ``PREFIX-%04d.params``.

    Parameters
    ----------
    arrays : mapping of name to array
        By our names: of a supernet, whose λ make it one, or of a derived network.
    full_layout : {'vector', 'layers'}
        How scales of the full scope are stored.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        The arrays are not those of the architecture.
    """
    theirs = to_authors(arrays, architecture, full_layout)
    kinds = {name: "aux" if "_moving_" in name else "arg" for name in theirs}
    path = Path(f"{prefix}-{epoch:04d}.params")
    with atomic(path) as temporary:
        write_params(temporary, {f"{kinds[name]}:{name}": a for name, a in theirs.items()})
    return path


def read_lambdas(arrays: Arrays, space: SearchSpace) -> Tuple[np.ndarray, np.ndarray]:
    """The scales in the arrays of an authors' supernet, as `Architecture.from_lambdas` takes them.

    Returns
    -------
    lambdas : `space.num_structures` × `len(space.connections)`
    reduction_lambdas : `space.num_reductions` × 2

    Raises
    ------
    ValueError
        A name or a size does not fit the space, or scales are missing that cannot all be zero.
    """
    given = {name: array for name, array in arrays.items() if name.startswith("lambda_")}
    slots = _scales(space, _full_layout(given, space))
    dtype = np.result_type(*given.values()) if given else np.dtype(np.float32)
    _, lambdas, reductions = _no_scales(space, dtype)
    missing: List[_Scales] = []
    for slot in slots:
        if slot.name not in given:
            missing.append(slot)
            continue
        row = (reductions if slot.of_reduction else lambdas)[slot.row]
        values = np.asarray(given.pop(slot.name)).reshape(-1)
        if values.shape != row[slot.part].shape:
            raise ValueError(
                f"{slot.name} has {values.size} scales, but {_described(space)} has "
                f"{row[slot.part].size} there"
            )
        row[slot.part] = values
    for name in given:
        raise ValueError(f"{shown(name)} belongs to no supernet of {_described(space)}")
    for slot in missing:
        if not _may_be_missing(slot, arrays, space, lambdas):
            raise ValueError(f"{slot.name} is missing")
    return lambdas, reductions


def _parameters(architecture: Architecture) -> Iterator[_Parameter]:
    """All parameters of the network but λ; those of the auxiliary tower may not be there."""
    space = architecture.space
    stems = ["stem"] if space.stem == "cifar" else ["stem1", "stem2"]
    for position, stem in enumerate(stems):
        yield _Parameter(f"{stem}_conv_weight", (f"conv{position}_weight",))
        yield from _batch_norm(f"{stem}_bn", f"bn{position}")
    for index, (stage, block) in enumerate(space.block_positions):
        ours, theirs = f"stage{stage}_block{block}", f"stage{stage}_unit{block}"
        if block == 1:
            yield from _conv_bn(f"{ours}_shortcut", f"{theirs}_id_conv")
        structure = space.structure_of(index)
        for node in architecture.live_nodes(structure):
            level, operation = node.split(".")
            mine = f"{ours}_level{level}_{operation}"
            other = f"{theirs}_{level}_{THEIR_OPERATIONS[operation]}"
            if TABLE[operation].is_separable:
                yield _Parameter(f"{mine}_depthwise_weight", (f"{other}_sep_weight",))
                yield _Parameter(f"{mine}_pointwise_weight", (f"{other}_weight",))
            yield from _batch_norm(f"{mine}_bn", f"{other}_bn")
        outputs = architecture.live_sources(structure, OUTPUT)
        if outputs:
            numbers = [space.nodes.index(node) + 1 for node in outputs]
            names = tuple(f"{theirs}_output_conv_{k}_weight" for k in numbers)
            yield _Parameter(f"{ours}_output_weight", names)
            yield from _batch_norm(f"{ours}_output_bn", f"{theirs}_bn")
    for stage, branches in enumerate(architecture.reductions, 1):
        for kernel, lives in zip(("1x1", "3x3"), branches):
            if lives:
                unit = f"stage{stage}_unit{space.blocks[stage - 1] + 1}"
                yield from _conv_bn(f"reduction{stage}_{kernel}", f"{unit}_conv{kernel}")
    yield from _batch_norm("final_bn", "final_bn")
    yield from (_Parameter(f"fc_{part}", (f"fc1_{part}",)) for part in ("weight", "bias"))
    yield from _batch_norm("auxiliary_bn", "aux_bn")
    yield from _conv_bn("auxiliary_1x1", "aux_conv1")
    yield from _conv_bn("auxiliary_2x2", "aux_conv2")
    yield from (_Parameter(f"auxiliary_fc_{p}", (f"aux_fc_{p}",)) for p in ("weight", "bias"))


def _conv_bn(ours: str, theirs: str) -> Iterator[_Parameter]:
    yield _Parameter(f"{ours}_conv_weight", (f"{theirs}_weight",))
    yield from _batch_norm(f"{ours}_bn", f"{theirs}_bn")


def _batch_norm(ours: str, theirs: str) -> Iterator[_Parameter]:
    for mine, other in _BATCH_NORM:
        yield _Parameter(f"{ours}_{mine}", (f"{theirs}_{other}",))


def _scales(space: SearchSpace, full_layout: str) -> List[_Scales]:
    """All arrays of scales of an authors' supernet."""
    scales: List[_Scales] = []
    for row in range(space.num_structures):
        place = "" if space.scope == "share" else _place(space, row)
        if place and full_layout == "vector":
            scales.append(_Scales(f"lambda_{place}", False, row, slice(0, len(space.connections))))
            continue
        before = f"lambda_{place}_layer" if place else "lambda_layer"
        for level, (k, operation) in product(
            range(2, space.levels + 1), enumerate(space.operations, 1)
        ):
            part = space.inputs(f"{level}.{operation}")
            scales.append(_Scales(f"{before}_{level}_{k}", False, row, part))
        after = f"lambda_after_{place}" if place else "lambda_after"
        scales.append(_Scales(after, False, row, space.inputs(OUTPUT)))
    for row in range(space.num_reductions):
        name = f"lambda_stage{row + 1}_unit{space.blocks[row] + 1}"
        scales.append(_Scales(name, True, row, slice(0, 2)))
    return scales


def _place(space: SearchSpace, block_index: int) -> str:
    return "stage{}_unit{}".format(*space.block_positions[block_index])


def _no_scales(space: SearchSpace, dtype: Any) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A vector of zeros in the order of `space.scales`; those of connections and of reductions."""
    connections = space.num_connections
    vector = np.zeros(connections + 2 * space.num_reductions, dtype)
    lambdas, reductions = vector[:connections], vector[connections:]
    shape = space.num_structures, len(space.connections)
    return vector, lambdas.reshape(shape), reductions.reshape(-1, 2)


def _full_layout(names: Iterable[str], space: SearchSpace) -> str:
    """Which layout of the full scope these names of scales have."""
    blocks = {f"lambda_{_place(space, row)}" for row in range(space.num_blocks)}
    return "vector" if any(name in blocks for name in names) else "layers"


def _may_be_missing(slot: _Scales, arrays: Arrays, space: SearchSpace, lambdas: np.ndarray) -> bool:
    """Whether the authors' shrinking can have removed all that these scales belong to."""
    if slot.of_reduction or (space.scope == "share" and slot.name == "lambda_after"):
        return False
    if slot.name.startswith("lambda_after") or slot.part == slice(0, len(space.connections)):
        # Of a block: no other scale of it is above zero, and no operation of it is there.
        place = _place(space, slot.row)
        operation = re.compile(rf"{place}_\d+_")
        return not lambdas[slot.row].any() and not any(map(operation.match, arrays))
    # Of an operation: nothing takes what it gives.
    target = space.connections[slot.part.start].target
    sources = np.array([connection.source for connection in space.connections])
    return not lambdas[slot.row][sources == target].any()


def _described(space: SearchSpace) -> str:
    blocks = ",".join(map(str, space.blocks))
    return (
        f"{space.scope} scope, {space.levels} levels of {','.join(space.operations)} and "
        f"{blocks} blocks"
    )
