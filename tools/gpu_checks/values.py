"""Whether a GPU computes what the CPU does. Each check says `passes`, and by how much."""

from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.release import check as reference
from dsonas_mx.training.loss import cross_entropy

import mxnet as mx
import numpy as np

from symbols import DSONAS, get_model

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
CONSUMERS = (7, 8, 9, 17)
TOLERANCE = 1e-3  # as that of tools/check_reference.py: of gradients, a tenth of it for the others
SUMS = 1e-5
HALF = 0.05  # float16 has 11 bits; a gradient of a small network is a sum of thousands of products
BATCH = 16

Result = Dict[str, Any]


def reference_vectors(device: mx.Context) -> Result:
    """What the authors' code computed: outputs, moving statistics, gradients of both scopes."""
    result: Result = {"passes": True}
    weighted = partial(DSONAS, weighted=True)
    for scope in ("share", "full"):
        file = reference.read_reference(GOLDEN / f"cifar_{scope}_supernet.npz")
        architecture = reference.read_architecture(file)
        network = reference.Network(file, architecture, weighted, context=device)
        found = reference.compare(file.expected, network.compute())
        failed = reference.failures(found, TOLERANCE)
        result["passes"] &= bool(found) and not failed
        for group in reference.GROUPS:
            largest = max((d.relative for d in found if d.group == group), default=0.0)
            result[f"{scope}, {group}"] = largest
        result[f"{scope}, past the limit"] = [d.name for d in failed]
    return result


def sums_of_gradients(device: mx.Context) -> Result:
    """A map with 7, 8, 9 and 17 consumers, whose gradient is a sum of as many: MXNet can do it
    wrongly, see `dsonas_mx._compat`.
    """
    result: Result = {}
    for count in CONSUMERS:
        generator = np.random.RandomState(count)
        x = generator.randn(4, 8, 6, 6)
        weights = [generator.randn(8, 8) for _ in range(count)]
        heads = [generator.randn(*x.shape) for _ in range(count)]
        data = mx.sym.Variable("x")
        symbol = mx.sym.Group(
            [
                mx.sym.Convolution(data, num_filter=8, kernel=(1, 1), no_bias=True, name=f"c{k}")
                for k in range(count)
            ]
        )
        executor = symbol.simple_bind(device, "write", x=x.shape)
        executor.arg_dict["x"][:] = x
        for number, weight in enumerate(weights):
            executor.arg_dict[f"c{number}_weight"][:] = weight[..., None, None]
        executor.forward(is_train=True)
        executor.backward([mx.nd.array(head, ctx=device) for head in heads])
        expected = sum(np.einsum("oi,bohw->bihw", w, h) for w, h in zip(weights, heads))
        result[f"{count} consumers"] = _apart(executor.grad_dict["x"].asnumpy(), expected)
    return {"passes": all(value <= SUMS for value in result.values()), **result}


def float16(device: mx.Context) -> Result:
    """Loss and gradients of maps in float16, against those in float32."""
    net, data, label = _network([device])
    found = [_step(net, [device], data, label, dtype) for dtype in ("float32", "float16")]
    return compared(found[1], found[0], HALF)


def two_devices(first: mx.Context, second: mx.Context) -> Result:
    """Gradients of a batch on two devices, against its two halves on one of them."""
    net, data, label = _network([first, second])
    losses, gradients = _step(net, [first, second], data, label)
    parts = [
        _step(net, [first], data[half], label[half])
        for half in (slice(BATCH // 2), slice(BATCH // 2, BATCH))
    ]
    summed = {name: parts[0][1][name] + parts[1][1][name] for name in gradients}
    expected = np.concatenate([part[0] for part in parts]), summed
    return compared((losses, gradients), expected, TOLERANCE)


Found = Tuple[np.ndarray, Dict[str, np.ndarray]]  # the loss of each sample, gradients by name


def _network(devices: Sequence[mx.Context]) -> Tuple[Any, np.ndarray, np.ndarray]:
    """A small supernet of other values than it is initialised with, and a batch."""
    space = SearchSpace.cifar10(blocks=(1, 1, 1), width=8)
    net = get_model("dsonas", Architecture.complete(space), weighted=True)
    net.initialize(ctx=list(devices))
    generator = np.random.RandomState(0)
    for name, parameter in net.collect_params().items():
        if name.endswith("_weight"):
            values = generator.randn(*parameter.shape) / np.sqrt(np.prod(parameter.shape[1:]))
            parameter.set_data(mx.nd.array(values))
        elif name.endswith("_beta"):  # away from the kinks of ReLU, where rounding decides
            parameter.set_data(mx.nd.full(parameter.shape, 1.5))
    data = generator.randn(BATCH, 3, 32, 32).astype(np.float32)
    return net, data, generator.randint(0, 10, BATCH).astype(np.float32)


def _step(
    net: Any,
    devices: Sequence[mx.Context],
    data: np.ndarray,
    label: np.ndarray,
    dtype: str = "float32",
) -> Found:
    graph = TrainGraph(net, cross_entropy, data.shape, label.shape, devices, "off", dtype)
    outputs = graph.step("all", data, label)
    losses: List[np.ndarray] = [output.loss.asnumpy() for output in outputs]
    gradients = {
        name: sum(parameter.grad(device).asnumpy() for device in devices)
        for name, parameter in net.collect_params().items()
        if parameter.grad_req != "null"
    }
    return np.concatenate(losses), gradients


def compared(found: Found, expected: Found, limit: float) -> Result:
    """How far gradients are apart, relative to the largest of each array, and the loss."""
    apart = {name: _apart(found[1][name], array) for name, array in expected[1].items()}
    worst = max(apart, key=lambda name: apart[name])
    loss = _apart(found[0], expected[0])
    return {
        "passes": all(value <= limit for value in (loss, *apart.values())),
        "loss": loss,
        "gradients": apart[worst],
        "the furthest": worst,
    }


def _apart(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest value; infinite if there is nothing."""
    largest = float(np.abs(expected).max())
    difference = float(np.abs(found - expected).max()) / largest if largest else np.inf
    return difference if np.isfinite(difference) else float("inf")
