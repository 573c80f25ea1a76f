"""int8: weights and activations as bytes, calibrated on images (MXNet's MKLDNN quantization)."""

import json
from typing import Any, Dict, Iterable, List, Tuple

import mxnet as mx
import numpy as np
from mxnet.contrib import quantization

from .rewrite import Folded

BACKEND = "MKLDNN_QUANTIZE"


def quantize(network: Folded, batches: Iterable[np.ndarray]) -> Folded:
    """The network with convolutions, sums and pools in int8, where MKLDNN has them.

    Parameters
    ----------
    network : Folded
        In float, of `dsonas_mx.deploy.fold.fold`.
    batches : iterable of numpy.ndarray
        Images as the network takes them, all of one shape; what each layer gives for them sets its
        range.
    """
    arguments = {name: mx.nd.array(value) for name, value in network.arguments.items()}
    symbol = network.symbol.get_backend_symbol(BACKEND)
    quantized, _, _, collector = quantization.quantize_graph(
        symbol,
        arguments,
        {},
        ctx=mx.cpu(),
        excluded_sym_names=[],
        excluded_op_names=[],
        calib_mode="naive",
        quantized_dtype="auto",
        quantize_mode="full",
        quantize_granularity="channel-wise",
        logger=None,
    )
    collector.min_max_dict = ranges(symbol, arguments, collector.include_layer, batches)
    quantized, parameters, _ = quantization.calib_graph(
        quantized, arguments, {}, collector, calib_mode="naive", logger=None
    )
    quantized = quantized.get_backend_symbol(BACKEND)
    return Folded(quantized, {name: array.asnumpy() for name, array in parameters.items()}, {})


def ranges(
    symbol: mx.sym.Symbol,
    arguments: Dict[str, mx.nd.NDArray],
    layers: List[str],
    batches: Iterable[np.ndarray],
) -> Dict[str, Tuple[float, float]]:
    """The least and the largest value of each layer's output over all batches."""
    internals = symbol.get_internals()
    known = internals.list_outputs()
    names = [name for name in layers if name in known]
    outputs = mx.sym.Group([internals[name] for name in names])
    found: Dict[str, Tuple[float, float]] = {}
    executor: Any = None
    for batch in batches:
        data = mx.nd.array(batch)
        if executor is None:
            every = {**arguments, "data": data}
            needed = {name: every[name] for name in outputs.list_arguments()}
            executor = outputs.bind(mx.cpu(), needed, grad_req="null")
        for name, output in zip(names, executor.forward(is_train=False, data=data)):
            values = output.asnumpy()
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = min(low, float(values.min())), max(high, float(values.max()))
    if executor is None:
        raise ValueError("int8 needs at least one image to calibrate with")
    return found


def float_operators(symbol: mx.sym.Symbol) -> Dict[str, int]:
    """Operators of a quantized network that still compute in float, and how many of each."""
    counts: Dict[str, int] = {}
    for node in json.loads(symbol.tojson())["nodes"]:
        name = node["op"]
        attributes = node.get("attrs", {})
        is_quantized = "quantize" in name or attributes.get("quantized", "") in ("true", "True")
        if name != "null" and not is_quantized:
            counts[name] = counts.get(name, 0) + 1
    return counts
