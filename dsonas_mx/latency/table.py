"""A latency table: what the parts of a block take on a device, measured once and kept in a file.

Connections are worth what dies with them: an operation, a term of a sum, a slice of the 1×1
convolution at the output. A table has the time of each at the shape of every stage, so that it
stays valid while an architecture shrinks, for both scopes and for any number of levels and blocks.
"""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..io.checks import (
    check_choice,
    check_fields,
    check_format,
    check_int,
    check_list,
    check_object,
    check_text,
    shown,
)
from ..io.files import PathLike, read_json, write_json
from ..space.architecture import Architecture
from ..space.masks import Mask
from ..space.normal import OUTPUT, SearchSpace
from .deductions import (
    COPIES,
    ROUNDS,
    Saving,
    StageShape,
    alike,
    blocks_by_shape,
    one_block,
    take_turns,
    without_each,
)
from .measure import Build, deploy, describe, input_shape

FORMAT = "dsonas-latency-table"
VERSION = 1
FIELDS = ("format", "version", "space", "batch_size", "device", "versions", "stages")
TERM = "term"  # of a sum, beyond the first, which is free
SLICE = "slice"  # of the output's convolution: one map that reaches the output
_DEVICE = ("kind", "name", "threads")
_LEVELS = 6  # of the blocks that are measured: each part is in them five times or more


@dataclass(frozen=True)
class Table:
    """The times of a block's parts.

    Parameters
    ----------
    space : SearchSpace
        For whose stages they were measured.
    batch_size : int
    device, versions : mapping
        Where they were measured.
    stages : sequence of mappings, one a stage
        `Saving` by part: each operation of the space, ``'term'`` and ``'slice'``.
    """

    space: SearchSpace
    batch_size: int
    device: Mapping[str, Any]
    versions: Mapping[str, str]
    stages: Tuple[Mapping[str, Saving], ...]

    def __call__(self, architecture: Architecture) -> np.ndarray:
        """Structures × connections: ms that the network saves without each (LAT of Eq. 19).

        0 for dead ones, and for what saves no more than the noise.

        Raises
        ------
        ValueError
            The architecture is of a space that the table is not for.
        """
        space = architecture.space
        self.check(space)
        times = {
            shape: np.array([stage[part].beyond_noise for part in parts(space)])
            for shape, stage in zip(space.stage_shapes, self.stages)
        }
        saved = np.zeros((space.num_structures, len(space.connections)))
        for structure, mask in enumerate(architecture.kept):
            blocks = blocks_by_shape(space, structure)
            of_parts = sum(count * times[shape] for shape, count in blocks.items())
            before = contents(space, mask)
            for position, fewer in without_each(space, mask).items():
                dead = before - contents(space, fewer)
                saved[structure, position] = max(0.0, dead @ of_parts)
        return saved

    def check(self, space: SearchSpace) -> None:
        """Refuse a space whose blocks were not measured.

        Raises
        ------
        ValueError
            Says what differs.
        """
        advice = "measure one with tools/measure_latency.py"
        for name in ("stem", "width", "image_size"):
            measured, wanted = getattr(self.space, name), getattr(space, name)
            if measured != wanted:
                raise ValueError(
                    f"the latency table is for {name} {measured}, not {wanted}: {advice}"
                )
        if len(self.space.blocks) != len(space.blocks):
            raise ValueError(
                f"the latency table is for {len(self.space.blocks)} stages, not "
                f"{len(space.blocks)}: {advice}"
            )
        for operation in space.operations:
            if operation not in self.space.operations:
                raise ValueError(
                    f"the latency table is for {', '.join(self.space.operations)}, without "
                    f"{operation}: {advice}"
                )

    # Files

    def to_json(self) -> Dict[str, Any]:
        """The format's fields; times in ms."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "space": self.space.to_json(),
            "batch_size": self.batch_size,
            "device": dict(self.device),
            "versions": dict(self.versions),
            "stages": [
                {part: {"ms": time.ms, "noise_ms": time.noise_ms} for part, time in stage.items()}
                for stage in self.stages
            ],
        }

    @classmethod
    def from_json(cls, data: Any) -> Table:
        """The table that `to_json` wrote.

        Raises
        ------
        ValueError
            A field is unknown, missing or wrong; the message names it.
        """
        check_format("a latency table", data, FORMAT, VERSION, FIELDS)
        space = SearchSpace.from_json(data["space"])
        stages = check_list("stages", data["stages"], len(space.blocks))
        return cls(
            space,
            check_int("batch_size", data["batch_size"], 1),
            _check_device(data["device"]),
            _check_versions(data["versions"]),
            tuple(_check_stage(f"stages[{i}]", s, parts(space)) for i, s in enumerate(stages)),
        )

    def save(self, path: PathLike) -> None:
        """Write the JSON file; nothing is left half-written."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: PathLike, space: Optional[SearchSpace] = None) -> Table:
        """Read the JSON file, for `space`.

        Raises
        ------
        ValueError
            The file is no latency table, or not one for this space; the message has its name.
        OSError
            It cannot be read.
        """

        def parse(data: Any) -> Table:
            table = cls.from_json(data)
            if space is not None:
                table.check(space)
            return table

        return read_json(path, parse)


def parts(space: SearchSpace) -> Tuple[str, ...]:
    """What a block of a space is made of."""
    return (*space.operations, TERM, SLICE)


def contents(space: SearchSpace, mask: Mask) -> np.ndarray:
    """How many of each of `parts` a block has."""
    counts = dict.fromkeys(parts(space), 0)
    live = {edge.source for edge, kept in zip(space.connections, mask) if kept}
    for node in space.nodes:
        if node in live:
            counts[node.split(".")[1]] += 1
            counts[TERM] += max(0, sum(mask[space.inputs(node)]) - 1)
    counts[SLICE] = sum(mask[space.inputs(OUTPUT)])
    return np.array(list(counts.values()))


# Measuring


def measure_table(
    build: Build,
    space: SearchSpace,
    device: Optional[mx.Context] = None,
    batch_size: int = 1,
    rounds: int = ROUNDS,
) -> Table:
    """Measure the parts of the blocks of a space.

    Parameters
    ----------
    build : callable
        The network of an architecture, as it is deployed: without λ.
    space : SearchSpace
    device : Context
        The CPU by default.
    batch_size : int
    rounds : int
        Turns of which the fastest counts.
    """
    device = device or mx.cpu()
    check_int("batch_size", batch_size, 1)
    check_int("rounds", rounds, 2)
    deep = replace(space, scope="share", levels=_LEVELS)

    def deployed(one: Architecture) -> Any:
        return deploy(build(one), input_shape(one, batch_size), device)

    versions = {"mxnet": mx.__version__, "python": platform.python_version()}
    stages = [_measure_stage(deployed, deep, shape, rounds) for shape in space.stage_shapes]
    return Table(space, batch_size, describe(device), versions, tuple(stages))


def _measure_stage(
    deployed: Callable[[Architecture], Any], deep: SearchSpace, shape: StageShape, rounds: int
) -> Dict[str, Saving]:
    """All blocks of a stage take turns; a part is a difference of two, by how often it is in it."""
    blocks = measured_blocks(deep)

    def bound(name: str) -> Any:
        return deployed(one_block(deep, shape, blocks[name]))

    chain = f"long {deep.operations[0]}"
    copies = {f"copy {i}": bound(chain) for i in range(1, COPIES)}
    fastest = take_turns({**{name: bound(name) for name in blocks}, **copies}, rounds)
    _, floor = alike([fastest[name] for name in (chain, *copies)])

    def part(position: int, more: str, less: str) -> Saving:
        slow, fast = fastest[more], fastest[less]
        times = contents(deep, blocks[more])[position] - contents(deep, blocks[less])[position]
        noise = max(floor, slow.gap_ms + fast.gap_ms)
        return Saving(float((slow.ms - fast.ms) / times), float(noise / times))

    pairs = [(f"long {name}", f"short {name}") for name in deep.operations]
    pairs += [("all terms", chain), ("all outputs", chain)]
    return {name: part(i, *pair) for i, (name, pair) in enumerate(zip(parts(deep), pairs))}


def measured_blocks(deep: SearchSpace) -> Dict[str, Mask]:
    """Pairs of blocks that differ in one kind of part alone.

    A long and a short chain of each operation, and the long chain of the first operation with all
    terms in its sums, or with all its maps at the output.
    """
    blocks = {}
    for name in deep.operations:
        nodes = [f"{level}.{name}" for level in range(1, deep.levels + 1)]
        blocks[f"short {name}"] = _with(deep, [(nodes[0], OUTPUT)])
        blocks[f"long {name}"] = _with(deep, list(zip(nodes, (*nodes[1:], OUTPUT))))
    nodes = [f"{level}.{deep.operations[0]}" for level in range(1, deep.levels + 1)]
    chain = list(zip(nodes, nodes[1:]))
    terms = [("input", node) for node in nodes[1:]]
    terms += [(first, node) for i, node in enumerate(nodes) for first in nodes[:i]]
    blocks["all terms"] = _with(deep, [*terms, (nodes[-1], OUTPUT)])
    blocks["all outputs"] = _with(deep, [*chain, *((node, OUTPUT) for node in nodes)])
    return blocks


def _with(space: SearchSpace, edges: Sequence[Tuple[str, str]]) -> Mask:
    return tuple(tuple(edge) in edges for edge in space.connections)


# Checks of a file


def _check_device(data: Any) -> Dict[str, Any]:
    device = check_fields("device", data, _DEVICE)
    check_choice("device kind", device["kind"], ("cpu", "gpu"))
    check_text("device name", device["name"])
    check_int("device threads", device["threads"], 1)
    return dict(device)


def _check_versions(data: Any) -> Dict[str, str]:
    for name, version in check_object("versions", data).items():
        check_text(f"versions[{shown(name)}]", version)
    return dict(data)


def _check_stage(where: str, data: Any, names: Sequence[str]) -> Dict[str, Saving]:
    stage = check_fields(where, data, names)
    times = {}
    for name in names:
        time = check_fields(f"{where}[{name!r}]", stage[name], ("ms", "noise_ms"))
        numbers: List[float] = []
        for field in ("ms", "noise_ms"):
            value = time[field]
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"{where}[{name!r}] {field} must be a number, got {shown(value)}")
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if not math.isfinite(number) or (field == "noise_ms" and number < 0):
                raise ValueError(
                    f"{where}[{name!r}] {field} must be finite and a noise not below 0, "
                    f"got {shown(value)}"
                )
            numbers.append(number)
        times[name] = Saving(*numbers)
    return times
