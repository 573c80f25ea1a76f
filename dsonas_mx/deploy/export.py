"""Deployment: the hybridized symbol and its parameters, checked against Gluon."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List, Mapping, NamedTuple, Set

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, SymbolBlock

from ..io.files import PathLike, move, naming
from ..io.params_file import read_params, write_params
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
    with mx.name.NameManager():  # the same names of nodes, whatever this process built before
        expected = net(data).asnumpy()
    _, symbol = net._cached_graph
    known = net.collect_params()
    inputs = [name for name in symbol.list_inputs() if name in known]
    arrays = {name: known[name].list_data()[0].asnumpy() for name in inputs}
    statistics = set(symbol.list_auxiliary_states())
    # Into a folder of its own first, so that a full disk leaves no half of a pair.
    with naming(prefix), temporary_folder(prefix) as folder:
        made = write_pair(symbol, arrays, statistics, folder / prefix.name)
        actual = import_symbol(*made)(data).asnumpy()
        first, second = (prefix.parent / path.name for path in made)
        move(made[0], first)
        move(made[1], second)
    return Exported(first, second, float(np.abs(actual - expected).max()))


@contextmanager
def temporary_folder(prefix: Path) -> Iterator[Path]:
    """Beside the files of that prefix; a run that goes on removes what a killed process left."""
    with tempfile.TemporaryDirectory(prefix=f".{os.getpid()}.", dir=prefix.parent) as folder:
        yield Path(folder)


def write_pair(
    symbol: mx.sym.Symbol, arrays: Mapping[str, np.ndarray], statistics: Set[str], prefix: Path
) -> List[Path]:
    """Write PREFIX-symbol.json and PREFIX-0000.params, as MXNet reads them.

    With the bytes of `HybridBlock.export`, whose writers say nothing, or much, on a full disk.
    """
    paths = [prefix.with_name(f"{prefix.name}{end}") for end in ("-symbol.json", "-0000.params")]
    paths[0].write_text(symbol.tojson(), encoding="utf-8")
    kinds = {name: "aux" if name in statistics else "arg" for name in arrays}
    write_params(paths[1], {f"{kinds[name]}:{name}": array for name, array in arrays.items()})
    return paths


def import_symbol(symbol: PathLike, parameters: PathLike) -> SymbolBlock:
    """The exported network, once both files have been checked.

    Raises
    ------
    ValueError, OSError
        A file cannot be read, or is damaged; the message names it.
    """
    network = read_symbol(symbol)
    arrays = {  # without "arg:" and "aux:"; read here, for MXNet opens no name that is not UTF-8
        name[4:]: mx.nd.array(array, dtype=array.dtype)
        for name, array in read_params(parameters).items()
    }
    net = SymbolBlock(network, mx.sym.var("data", dtype="float32"))
    known = net.collect_params()
    known.load_dict(arrays, ctx=mx.cpu(), cast_dtype=True, dtype_source="saved")
    return net
