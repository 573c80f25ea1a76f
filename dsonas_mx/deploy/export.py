"""Deployment: the hybridized symbol and its parameters, checked against Gluon."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Mapping, NamedTuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, SymbolBlock

from ..io.files import PathLike
from ..io.params_file import read_params
from ..io.symbol_file import read_symbol


class Exported(NamedTuple):
    """Files of an exported network, and how far it is from the Gluon one.

    Attributes
    ----------
    symbol, parameters : Path
    difference : float
        Largest absolute difference of the logits on a batch.
    """

    symbol: Path
    parameters: Path
    difference: float


def load_parameters(net: HybridBlock, arrays: Mapping[str, Any]) -> None:
    """Initialise `net` with arrays by parameter name; further arrays but λ are left alone.

    Raises
    ------
    ValueError
        An array is missing or has another shape.
    """
    known = net.collect_params()
    for name in arrays:
        if name.endswith("lambdas") and name not in known:
            raise ValueError(
                f"the parameters are those of a supernet in a search ({name} are λ): train what it "
                "found, with train/train_cifar.py, and give that run"
            )
    for name, parameter in known.items():
        if name not in arrays:
            raise ValueError(f"parameter {name} is missing")
        if arrays[name].shape != parameter.shape:
            raise ValueError(
                f"parameter {name} must have the shape {parameter.shape}, got {arrays[name].shape}"
            )
        parameter.initialize(ctx=mx.cpu(), force_reinit=True)
        parameter.set_data(mx.nd.array(arrays[name]))


def export(net: HybridBlock, prefix: PathLike, batch: np.ndarray) -> Exported:
    """Write PREFIX-symbol.json and PREFIX-0000.params, load them back, and compare on `batch`.

    Parameters
    ----------
    net : HybridBlock
        With parameters on the CPU.
    prefix : path
    batch : numpy.ndarray
        Input of the network, B×C×H×W; other batch sizes work as well.
    """
    prefix = Path(prefix)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    data = mx.nd.array(batch)
    net.hybridize()
    expected = net(data).asnumpy()
    names = f"{prefix.name}-symbol.json", f"{prefix.name}-0000.params"
    # Into a folder of its own first, so that a full disk leaves no half of a pair.
    with tempfile.TemporaryDirectory(prefix=f".{os.getpid()}.", dir=prefix.parent) as folder:
        net.export(os.path.join(folder, prefix.name), epoch=0)
        paths = os.path.join(folder, names[0]), os.path.join(folder, names[1])
        actual = import_symbol(*paths)(data).asnumpy()
        for name in names:
            os.replace(os.path.join(folder, name), prefix.parent / name)
    difference = float(np.abs(actual - expected).max())
    return Exported(prefix.parent / names[0], prefix.parent / names[1], difference)


def import_symbol(symbol: PathLike, parameters: PathLike) -> SymbolBlock:
    """The exported network, once both files have been checked.

    Raises
    ------
    ValueError, OSError
        A file cannot be read, or is damaged; the message names it.
    """
    network = read_symbol(symbol)
    read_params(parameters)
    net = SymbolBlock(network, mx.sym.var("data", dtype="float32"))
    net.load_parameters(str(parameters), ctx=mx.cpu(), cast_dtype=True, dtype_source="saved")
    return net
