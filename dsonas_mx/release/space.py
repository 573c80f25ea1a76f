"""The search space of a supernet of the authors' release, from its arrays."""

import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from ..io.checks import shown
from ..space.normal import MOST_BLOCKS, MOST_STAGES, OPERATIONS, SearchSpace
from .names import THEIR_OPERATIONS, Arrays

_UNIT = re.compile(r"(lambda_|lambda_after_)?stage(\d{1,4})_unit(\d{1,4})(?:_(.+))?")
_BRANCH = re.compile(r"conv[13]x[13]_")
_OPERATION = re.compile(rf"(\d{{1,2}})_({'|'.join(THEIR_OPERATIONS.values())})_")
_OUTPUT_CONV = re.compile(r"output_conv_(\d{1,3})_weight")
_LAYER = re.compile(r"lambda_(?:stage\d+_unit\d+_)?layer_(\d{1,2})_(\d)")


class _Units(NamedTuple):
    """Blocks and reductions, by stage."""

    last: Dict[int, int]  # the highest unit that has an array
    reductions: Dict[int, int]  # the unit that is the reduction
    vectors: Set[int]  # sizes of the λ of whole blocks, where the layout is 'vector'


def read_space(
    arrays: Arrays,
    *,
    scope: Optional[str] = None,
    levels: Optional[int] = None,
    operations: Optional[Sequence[str]] = None,
    data_set: Optional[str] = None,
    blocks: Optional[Sequence[int]] = None,
    width: Optional[int] = None,
    num_classes: Optional[int] = None,
    image_size: Optional[int] = None,
) -> SearchSpace:
    """The search space of an authors' supernet, from the names and shapes of its arrays.

    Two reductions mean CIFAR, three ImageNet. What the arrays cannot tell is the default of that
    data set: the operations of the release, the paper's width and blocks.

    Parameters
    ----------
    arrays : mapping of name to array
        By their names, without `arg:` and `aux:`. The scales alone will do.
    scope, levels, operations, blocks, width, num_classes, image_size : optional
        As in `SearchSpace`, for what the arrays cannot tell; `blocks` may be one for all stages.
    data_set : {'cifar', 'imagenet'}, optional
        Whose defaults to take.

    Raises
    ------
    ValueError
        Something is missing without which this is no supernet of the authors, the arrays
        contradict each other or what is given, or more has to be given.
    """
    if not any(name.startswith("lambda") for name in arrays):
        raise ValueError("there are no scales (lambda_…), so this is no supernet of the authors")
    found_scope = _read_scope(arrays)
    _agreed("scope", found_scope, scope)
    units = _read_units(arrays, found_scope)
    stages = len(units.reductions) + 1
    stem = _read_stem(arrays, width)
    data_set = data_set or {3: "cifar", 4: "imagenet"}.get(stages) or stem
    if data_set is None:
        raise ValueError(
            f"there are {stages - 1} reductions (lambda_stage…_unit… of two scales): two mean "
            "CIFAR, three ImageNet"
        )
    defaults = SearchSpace.imagenet() if data_set == "imagenet" else SearchSpace.cifar10()
    levels, operations = _read_operations(arrays, units.vectors, levels, operations, defaults)
    width = _agreed("width", _read_width(arrays), width)
    num_classes = _agreed("num_classes", _size(arrays, "fc1_weight", 2, 0), num_classes)
    in_channels = _size(arrays, "conv0_weight", 4, 1)
    return SearchSpace(
        scope=found_scope,
        levels=levels,
        operations=tuple(operations),
        stem=stem or defaults.stem,
        blocks=_read_blocks(units, blocks, defaults.blocks),
        width=defaults.width if width is None else width,
        num_classes=defaults.num_classes if num_classes is None else num_classes,
        in_channels=defaults.in_channels if in_channels is None else in_channels,
        image_size=defaults.image_size if image_size is None else image_size,
    )


def _agreed(what: str, found: Any, given: Any) -> Any:
    """What was found, or else what was given; they must not contradict each other."""
    if found is not None and given is not None and found != given:
        raise ValueError(f"{what} is {shown(given)}, but the arrays are of {shown(found)}")
    return given if found is None else found


def _size(arrays: Arrays, name: str, dimensions: int, axis: int) -> Optional[int]:
    """The size of an array along `axis`, if it is there and has so many dimensions."""
    shape = np.shape(arrays[name]) if name in arrays else ()
    return shape[axis] if len(shape) == dimensions else None


def _read_scope(arrays: Arrays) -> str:
    if "lambda_after" in arrays:
        return "share"
    if any(name.startswith("lambda_layer_") for name in arrays):
        raise ValueError("lambda_after is missing")
    plain: List[str] = []
    for name, array in arrays.items():
        match = _UNIT.fullmatch(name)
        if match and match[1] == "lambda_after_" and match[4] is None:
            return "full"
        if match and match[1] == "lambda_" and match[4] is None:
            if np.size(array) > 2 or match[2] in plain:  # a reduction has one, of two scales
                return "full"
            plain.append(match[2])
    raise ValueError(
        "there are no scales of a block: lambda_after, or lambda_stage1_unit1 or "
        "lambda_after_stage1_unit1 and so on"
    )


def _read_units(arrays: Arrays, scope: str) -> _Units:
    last: Dict[int, int] = {}
    plain: Dict[Tuple[int, int], int] = {}
    reductions: Dict[int, int] = {}
    for name, array in arrays.items():
        match = _UNIT.fullmatch(name)
        if not match:
            continue
        stage, unit = int(match[2]), int(match[3])
        if not (1 <= stage <= MOST_STAGES and 1 <= unit <= MOST_BLOCKS):
            raise ValueError(f"{shown(name)} is of no network that can be built")
        last[stage] = max(unit, last.get(stage, 0))
        if match[1] == "lambda_" and match[4] is None:
            plain[stage, unit] = int(np.size(array))
        elif match[1] is None and _BRANCH.match(match[4] or ""):
            reductions[stage] = unit
    layered = scope == "share" or any(name.startswith("lambda_after") for name in arrays)
    for (stage, unit), size in plain.items():
        # In the layout 'vector' blocks have such an array too, even one of two scales.
        behind = unit == last[stage] and (stage < max(last) or max(plain.values()) > 2)
        if layered or (size == 2 and behind):
            reductions[stage] = unit
    for stage in range(1, max([*last, *reductions, 1])):
        if stage not in reductions:
            raise ValueError(f"there is no reduction behind stage {stage} (lambda_stage{stage}_…)")
    for stage, unit in reductions.items():
        if unit != last[stage]:
            raise ValueError(
                f"stage {stage} has a unit {last[stage]} behind its reduction, unit {unit}"
            )
    blocks = {size for place, size in plain.items() if reductions.get(place[0]) != place[1]}
    return _Units(last, reductions, blocks)


def _read_stem(arrays: Arrays, width: Optional[int]) -> Optional[str]:
    if "conv1_weight" in arrays:
        return "imagenet"
    outside = _size(arrays, "conv0_weight", 4, 0)
    inside = _size(arrays, "stage1_unit1_id_conv_weight", 4, 0) or width
    return None if outside is None or inside not in (None, outside) else "cifar"


def _read_width(arrays: Arrays) -> Optional[int]:
    for name in ("stage1_unit1_id_conv_weight", "conv1_weight", "conv0_weight"):
        if name in arrays:
            return _size(arrays, name, 4, 0)
    return None


def _read_blocks(
    units: _Units, given: Optional[Sequence[int]], defaults: Sequence[int]
) -> Tuple[int, ...]:
    """Blocks of each stage; without weights the share scope does not tell those of the last."""
    stages = len(units.reductions) + 1
    told: List[Optional[int]] = [units.reductions[stage] - 1 for stage in range(1, stages)]
    told.append(units.last.get(stages))
    if given is None:
        if told[-1] is None and len(defaults) != stages:
            raise ValueError(f"the arrays do not tell the blocks of stage {stages}: give blocks")
        return tuple(defaults[i] if count is None else count for i, count in enumerate(told))
    wanted = tuple(given) * stages if len(given) == 1 else tuple(given)
    if len(wanted) != stages:
        raise ValueError(f"blocks has {len(wanted)} stages, but the arrays are of {stages}")
    for stage, (count, want) in enumerate(zip(told, wanted), 1):
        _agreed(f"blocks of stage {stage}", count, want)
    return wanted


class _Levels(NamedTuple):
    """What the names of weights tell, and the sizes of scales."""

    levels: int
    operations: Tuple[str, ...]
    outputs: int
    layers: Dict[Tuple[int, int], int]  # scales of an operation, by level and place
    sizes: Set[int]  # of the scales of outputs


def _read_levels(arrays: Arrays) -> _Levels:
    levels, most_outputs = 0, 0
    names: Set[str] = set()
    layers: Dict[Tuple[int, int], int] = {}
    outputs: Set[int] = set()
    for name, array in arrays.items():
        unit, layer = _UNIT.fullmatch(name), _LAYER.fullmatch(name)
        rest = unit[4] or "" if unit and unit[1] is None else ""
        operation, output = _OPERATION.match(rest), _OUTPUT_CONV.fullmatch(rest)
        if operation:
            levels = max(levels, int(operation[1]))
            names.add(operation[2])
        elif output:
            most_outputs = max(most_outputs, int(output[1]))
        elif layer:
            layers[int(layer[1]), int(layer[2])] = int(np.size(array))
        elif name.startswith("lambda_after"):
            outputs.add(int(np.size(array)))
    seen = tuple(name for name in OPERATIONS if THEIR_OPERATIONS[name] in names)
    return _Levels(levels, seen, most_outputs, layers, outputs)


def _read_operations(
    arrays: Arrays,
    vectors: Set[int],
    levels: Optional[int],
    operations: Optional[Sequence[str]],
    defaults: SearchSpace,
) -> Tuple[int, Sequence[str]]:
    """M and the N operations.

    The output of a block has M·N scales, an operation of a level one from the block's input and N
    from each level before: they tell both. A vector of all of a block does not; there the names of
    the weights do, or else what is given, or the defaults.
    """
    least, seen, most_outputs, layers, outputs = _read_levels(arrays)
    count = None if operations is None else len(operations)
    if outputs:
        sizes = ((size - 1) // (level - 1) for (level, _), size in layers.items() if level > 1)
        n = next(sizes, max(outputs) // max(least, 1))
        m = max(outputs) // max(n, 1)
        _agreed("levels", m, levels)
        _agreed("the number of operations", n, count)
    else:
        m = levels or least or defaults.levels
        n = count or len(seen) or len(defaults.operations)
    if not (
        m >= least
        and n >= len(seen)
        and m * n >= most_outputs
        and outputs <= {m * n}
        and vectors <= {(m * m - m) * n * n // 2 + 2 * m * n - n}
        and all(
            2 <= level <= m and 1 <= k <= n and size == 1 + n * (level - 1)
            for (level, k), size in layers.items()
        )
    ):
        raise ValueError(
            f"the arrays are not those of {m} levels of {n} operations; if they are of others, "
            "give `levels` and `operations`"
        )
    if operations is None:
        operations = seen if len(seen) == n else OPERATIONS[:n]
    if not set(seen) <= set(operations):
        raise ValueError(
            f"operations are not {', '.join(operations)}, since the arrays have {', '.join(seen)}: "
            "give `operations`"
        )
    return m, operations
