"""Comparing a network with what the authors' release computed.

A file of reference arrays is an .npz as `tests/golden/README.md` describes it.

Outputs, moving statistics and gradients are compared under the authors' names, on the graphs that
a search runs on: one step for the weights, one for λ.
"""

import json
import math
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..engine.graph import TrainGraph
from ..io.arrays_file import read_arrays
from ..io.checks import shown
from ..io.files import PathLike, in_file
from ..space.architecture import Architecture
from ..training.loss import cross_entropy
from .names import INPUTS, to_authors, to_ours
from .space import read_space

Build = Callable[..., HybridBlock]

_MOST_BYTES = 2**32
KINDS = ("arg", "aux", "out", "aux_after", "grad")  # of arrays, before the colon of their names
GROUPS = ("outputs", "statistics", "gradients", "λ gradients")


class Reference(NamedTuple):
    """The content of a file.

    Attributes
    ----------
    meta : dict
        Data set, scope, levels, operations, width, blocks, num_classes, fix_gamma.
    data, label : array
        B×C×H×W and B.
    parameters : dict
        Parameters and moving statistics before the pass, by the authors' names.
    expected : dict
        What was computed, by the names of the file: `out:…`, `aux_after:…`, `grad:…`.
    """

    meta: Dict[str, Any]
    data: np.ndarray
    label: np.ndarray
    parameters: Dict[str, np.ndarray]
    expected: Dict[str, np.ndarray]


class Difference(NamedTuple):
    """How far an array is from the reference's, relative to its largest value."""

    name: str
    group: str
    relative: float  # not finite if a value of either is not


class Checked(NamedTuple):
    """What `check` has found.

    Attributes
    ----------
    differences : list of Difference
        Of every array.
    is_native : bool
        Whether the project's own operators computed them.
    of_native : tuple of Difference
        Gradients of these operators that were too far off, where MXNet's own were compared then.
    """

    differences: List[Difference]
    is_native: bool
    of_native: Tuple[Difference, ...]


class _PlainGraph(TrainGraph):
    """On MXNet's own operators, whether or not the project's are there."""

    @property
    def is_native(self) -> bool:
        return False


def read_reference(path: PathLike) -> Reference:
    """Read a file of reference arrays.

    Raises
    ------
    ValueError
        It is not one; the message names the file.
    OSError
        It cannot be read.
    """
    arrays = read_arrays(path, _MOST_BYTES)
    with in_file(path):
        return _sort(arrays)


def _sort(arrays: Mapping[str, np.ndarray]) -> Reference:
    for name in ("meta", "arg:data", "arg:softmax_label", "out:train", "out:eval"):
        if name not in arrays:
            raise ValueError(f"no array {name!r}: not a file of reference arrays")
    try:
        meta = json.loads(str(arrays["meta"]))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"meta is not JSON: {error}") from None
    if not isinstance(meta, dict):
        raise ValueError(f"meta must be a JSON object, got {shown(meta)}")
    data, label = arrays["arg:data"], arrays["arg:softmax_label"]
    if data.ndim != 4 or label.shape != data.shape[:1] or not data.size:
        raise ValueError(f"arg:data has the shape {data.shape}, arg:softmax_label {label.shape}")
    parameters: Dict[str, np.ndarray] = {}
    expected: Dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        kind, _, rest = name.partition(":")
        if kind in KINDS and array.dtype.kind not in "fiu":
            raise ValueError(f"{name} is not an array of numbers")
        if kind in ("arg", "aux") and rest not in INPUTS:
            parameters[rest] = array
        elif kind in ("out", "aux_after", "grad"):
            expected[name] = array
    return Reference(meta, data, label, parameters, expected)


def read_architecture(reference: Reference) -> Architecture:
    """The complete architecture of the space that `meta` describes."""
    meta = reference.meta
    operations = meta.get("operations")
    named = operations if isinstance(operations, list) else None
    data_set, blocks = meta.get("dataset"), meta.get("blocks")
    if data_set is not None:
        data_set = "imagenet" if "imagenet" in str(data_set).lower() else "cifar"
    space = read_space(
        reference.parameters,
        scope=meta.get("scope"),
        levels=meta.get("levels"),
        operations=named,
        data_set=data_set,
        blocks=[blocks] if isinstance(blocks, int) else blocks,
        width=meta.get("width"),
        num_classes=meta.get("num_classes"),
        image_size=reference.data.shape[2],
    )
    if space.in_channels != reference.data.shape[1]:
        raise ValueError(
            f"arg:data has {reference.data.shape[1]} channels, but the network takes "
            f"{space.in_channels}"
        )
    if named is None and operations not in (None, len(space.operations)):
        raise ValueError(
            f"meta says {shown(operations)} operations, but the arrays are of "
            f"{', '.join(space.operations)}"
        )
    return Architecture.complete(space)


class Network:
    """Our network with the parameters of a reference, on the graphs of a search.

    Parameters
    ----------
    build : callable
        `build(architecture, fix_gamma=…)` → a weighted network, not initialised.
    plain : bool
        Leave out the project's own operators, even where they could be used.
    context : mx.Context, optional
        The device that computes; the CPU by default.

    Raises
    ------
    ValueError
        A parameter of the network is not in the file, or not of its shape, or the other way round.
    """

    def __init__(
        self,
        reference: Reference,
        architecture: Architecture,
        build: Build,
        plain: bool = False,
        context: Optional[mx.Context] = None,
    ) -> None:
        self._reference = reference
        self._context = context or mx.cpu()
        self._architecture = architecture
        fixed = reference.meta.get("fix_gamma", "operations")
        self._net = build(architecture, fix_gamma=fixed)
        self._parameters = dict(self._net.collect_params().items())
        given = to_ours(reference.parameters, architecture)
        check_parameters(given, {name: p.shape for name, p in self._parameters.items()})
        self._net.initialize(ctx=self._context)
        self._set(given)
        self._statistics = {name: given[name] for name in given if "_running_" in name}
        shapes = reference.data.shape, reference.label.shape
        graph = _PlainGraph if plain else TrainGraph
        self._graph = graph(self._net, cross_entropy, *shapes, [self._context])
        self.is_native = self._graph.is_native  # it uses the project's own operators

    def compute(self) -> Dict[str, np.ndarray]:
        """What a training pass, and inference after it, give by the names of the file."""
        data = self._reference.data
        # A step for λ alone has no backward where no scale comes before, and MXNet's BN moves its
        # statistics there: a step for the weights comes last.
        for gradients in ("lambdas", "weights"):
            self._set(self._statistics)
            (outputs,) = self._graph.step(gradients, data, self._reference.label)
            self._graph.wait()
        computed = {"out:train": _softmax(outputs.answers)}
        moved = {name: self._parameters[name].data().asnumpy() for name in self._statistics}
        slopes = {
            # A fixed gamma has no gradient.
            name: np.zeros(p.shape) if p.grad_req == "null" else p.grad().asnumpy()
            for name, p in self._parameters.items()
            if name not in moved
        }
        layout = _layout(self._reference)
        for kind, arrays in (("aux_after", moved), ("grad", slopes)):
            theirs = to_authors(arrays, self._architecture, layout)
            computed.update((f"{kind}:{name}", array) for name, array in theirs.items())
        self._net.hybridize()
        computed["out:eval"] = _softmax(self._net(mx.nd.array(data, ctx=self._context)))
        return computed

    def _set(self, arrays: Mapping[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            self._parameters[name].set_data(mx.nd.array(array))


def check(
    reference: Reference, architecture: Architecture, build: Build, tolerance: float
) -> Checked:
    """Compare our network with a reference.

    Where a value lies within rounding of the kink of a ReLU or a maximum, two ways to round take
    two gradients, and not by little. So if nothing but gradients of the project's own operators is
    too far off, MXNet's are compared too, which round as the reference does.

    Raises
    ------
    ValueError
        An array of one has none in the other, or one of another shape; or an input is not finite.
    """
    inputs = {"data": reference.data, "softmax_label": reference.label, **reference.parameters}
    for name, array in inputs.items():
        if not np.isfinite(array).all():  # which a ReLU can hide
            raise ValueError(f"{name} has a value that is not finite")
    network = Network(reference, architecture, build)
    found = compare(reference.expected, network.compute())
    failed = failures(found, tolerance)
    if not (network.is_native and failed and all(map(_may_be_a_kink, failed))):
        return Checked(found, network.is_native, ())
    plain = Network(reference, architecture, build, plain=True)
    return Checked(compare(reference.expected, plain.compute()), False, tuple(failed))


def _may_be_a_kink(difference: Difference) -> bool:
    return "gradients" in difference.group and math.isfinite(difference.relative)


def limit(group: str, tolerance: float) -> float:
    """`tolerance` for gradients, a tenth of it for outputs and statistics."""
    return tolerance if "gradients" in group else tolerance / 10


def failures(differences: Sequence[Difference], tolerance: float) -> List[Difference]:
    """Those that are past their limit, or not finite."""
    return [d for d in differences if not d.relative <= limit(d.group, tolerance)]


def _layout(reference: Reference) -> str:
    layered = any(name.startswith("lambda_after") for name in reference.parameters)
    return "layers" if layered else "vector"


def _softmax(logits: mx.nd.NDArray) -> np.ndarray:
    values = logits.asnumpy().astype(np.float64)
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def check_parameters(
    given: Mapping[str, np.ndarray], shapes: Mapping[str, Tuple[int, ...]]
) -> None:
    """Raise ValueError unless `given` has exactly the arrays of a network, in these shapes."""
    for name, shape in shapes.items():
        if name not in given:
            raise ValueError(f"there is no array for the parameter {name}")
        if tuple(given[name].shape) != tuple(shape):
            raise ValueError(
                f"the array for the parameter {name} has the shape {given[name].shape}, not {shape}"
            )
    for name in given:
        if name not in shapes:
            raise ValueError(f"the network has no parameter {name}")


def compare(
    expected: Mapping[str, np.ndarray], computed: Mapping[str, np.ndarray]
) -> List[Difference]:
    """The differences of all arrays, each relative to the largest value of the reference.

    A reference that is all zero is measured against the largest value of its kind in the file.

    Raises
    ------
    ValueError
        An array is on one side alone, or of another shape. The gradient of a fixed gamma, which is
        zero, may be left out of the file.
    """
    for name in computed:
        if name not in expected and (not name.startswith("grad:") or computed[name].any()):
            raise ValueError(f"{name} is not in the file")
    largest: Dict[str, float] = {}
    for name, array in expected.items():
        kind = name.partition(":")[0]
        largest[kind] = max(largest.get(kind, 0.0), _largest(array))
    differences = []
    for name, array in expected.items():
        if name not in computed:
            raise ValueError(f"{shown(name)} is nothing that the network computes")
        if array.shape != computed[name].shape:
            raise ValueError(f"{name} has the shape {array.shape}, not {computed[name].shape}")
        kind = name.partition(":")[0]
        scale = _largest(array) or largest[kind] or 1.0
        relative = math.nan
        if np.isfinite(array).all() and np.isfinite(computed[name]).all():
            relative = _largest(computed[name] - array.astype(np.float64)) / scale
        differences.append(Difference(name, _group(name), relative))
    return differences


def _largest(array: np.ndarray) -> float:
    """The largest absolute value among those that are finite."""
    return float(np.abs(array, where=np.isfinite(array), out=np.zeros(array.shape)).max(initial=0))


def _group(name: str) -> str:
    kind, _, rest = name.partition(":")
    if kind == "grad":
        return "λ gradients" if rest.startswith("lambda_") else "gradients"
    return "outputs" if kind == "out" else "statistics"


def largest_of(differences: Sequence[Difference], group: str) -> Optional[Difference]:
    """The largest difference of a group, one that is not finite before all others."""
    of_group = [difference for difference in differences if difference.group == group]
    rank = partial(np.nan_to_num, nan=np.inf, posinf=np.inf)
    return max(of_group, key=lambda one: rank(one.relative)) if of_group else None
