"""Networks as ONNX files."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional, Tuple

import mxnet as mx
import numpy as np

from .files import PathLike
from .fold import Folded

OPSET = 13  # what MXNet 1.9.1 writes, whatever opset the installed onnx has
ADVICE = "needs the package onnx: pip install 'dsonas-mx[deploy]'"


def write_onnx(
    network: Folded,
    path: PathLike,
    shape: Tuple[int, int, int],
    dtype: str = "float32",
    batch: Optional[int] = None,
) -> None:
    """Write a network, of opset 13, with input ``'data'``.

    Parameters
    ----------
    shape : C, H, W
    batch : int, optional
        Fixed number of images; any if not given.

    Raises
    ------
    ValueError
        The package onnx is not there, or MXNet cannot write an operator of this network.
    """
    try:
        import onnx
    except ImportError:
        raise ValueError(f"ONNX {ADVICE}") from None
    arrays = {**network.arguments, **network.auxiliary}
    parameters = {name: mx.nd.array(array, dtype=array.dtype) for name, array in arrays.items()}
    options: Dict[str, Any] = {}
    if batch is None:
        options = {"dynamic": True, "dynamic_input_shapes": [("batch", *shape)]}
    with _opset(onnx):
        try:
            mx.onnx.export_model(
                network.symbol,
                parameters,
                [(batch or 1, *shape)],
                np.dtype(dtype).type,
                str(path),
                **options,
            )
        except (AttributeError, NotImplementedError, KeyError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(f"MXNet cannot write this network as ONNX: {reason}") from None
    _make_constant(onnx, str(path))


def _make_constant(onnx: Any, path: str) -> None:
    """Parameters are not inputs as well, which would keep them from being folded."""
    model = onnx.load(path)
    constants = {initializer.name for initializer in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    onnx.save(model, path)


@contextmanager
def _opset(onnx: Any) -> Iterator[None]:
    """MXNet stamps a file with the newest opset that onnx knows; here with what it has written."""
    newest, checked = onnx.defs.onnx_opset_version, onnx.checker.DEFAULT_CONTEXT.opset_imports
    level = logging.getLogger().level
    onnx.defs.onnx_opset_version = lambda: OPSET
    onnx.checker.DEFAULT_CONTEXT.opset_imports = {"": OPSET}
    logging.getLogger().setLevel(logging.WARNING)
    try:
        yield
    finally:
        onnx.defs.onnx_opset_version = newest
        onnx.checker.DEFAULT_CONTEXT.opset_imports = checked
        logging.getLogger().setLevel(level)
