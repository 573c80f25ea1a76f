"""Networks as ONNX files."""

import logging
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Tuple

import mxnet as mx
import numpy as np

from ..io.files import PathLike
from .rewrite import Folded

OPSET = 13  # what MXNet 1.9.1 writes, whatever opset the installed onnx has
ADVICE = "needs the package onnx: pip install 'dsonas-mx[deploy]'"


def require_onnx() -> Any:
    """The package onnx, or a ValueError that says how to get it."""
    try:
        import onnx
    except ImportError:
        raise ValueError(f"ONNX {ADVICE}") from None
    return onnx


def write_onnx(
    network: Folded,
    path: PathLike,
    shape: Tuple[int, int, int],
    dtype: str = "float32",
    batch: Optional[int] = None,
    any_size: bool = False,
) -> None:
    """Write a network, of opset 13, with input ``'data'``.

    Parameters
    ----------
    shape : C, H, W
    batch : int, optional
        Fixed number of images; any if not given.
    any_size : bool
        Images of any height and width; `shape` is an example.

    Raises
    ------
    ValueError
        The package onnx is not there, or MXNet cannot write an operator of this network.
    """
    onnx = require_onnx()
    arrays = {**network.arguments, **network.auxiliary}
    parameters = {name: mx.nd.array(array, dtype=array.dtype) for name, array in arrays.items()}
    options: Dict[str, Any] = {}
    if batch is None or any_size:
        sides = ("height", "width") if any_size else shape[1:]
        free = (batch or "batch", shape[0], *sides)
        options = {"dynamic": True, "dynamic_input_shapes": [free]}
    with _opset(onnx), _converters():
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


def _resize_like(node: Dict[str, Any], **known: Any) -> List[Any]:
    """Bilinear resizing to the height and width of another map, which MXNet does not write."""
    import onnx
    from mxnet.onnx.mx2onnx._op_translations import _op_translations_opset12 as translations

    name, (source, like), attributes = translations.get_inputs(node, known)
    if attributes.get("mode") != "like" or attributes.get("align_corners", "True") != "True":
        raise NotImplementedError(f"{name}: only bilinear resizing like another map")
    for number in (0, 2, 4):
        translations.create_tensor([number], f"{name}_{number}", known["initializer"])
    for empty in ("roi", "scales"):
        translations.create_tensor([], f"{name}_{empty}", known["initializer"], "float32")

    def part(of: str, first: int, end: int) -> List[Any]:
        """Numbers `first` to `end` of the shape of a map."""
        shape, out = f"{name}_{first}_shape", f"{name}_{first}_part"
        ends = [f"{name}_{first}", f"{name}_{end}"]
        return [
            onnx.helper.make_node("Shape", [of], [shape]),
            onnx.helper.make_node("Slice", [shape, *ends], [out]),
        ]

    parts, sizes = [f"{name}_0_part", f"{name}_2_part"], f"{name}_sizes"
    return [
        *part(source, 0, 2),
        *part(like, 2, 4),
        onnx.helper.make_node("Concat", parts, [sizes], axis=0),
        onnx.helper.make_node(
            "Resize",
            [source, f"{name}_roi", f"{name}_scales", sizes],
            [name],
            mode="linear",
            coordinate_transformation_mode="align_corners",
            name=name,
        ),
    ]


@contextmanager
def _converters() -> Iterator[None]:
    """MXNet's, and ours of what it does not write."""
    from mxnet.onnx.mx2onnx._export_onnx import MXNetGraph

    known, name = MXNetGraph.registry_.setdefault(OPSET, {}), "_contrib_BilinearResize2D"
    before = known.get(name)
    known[name] = _resize_like
    try:
        yield
    finally:
        del known[name]
        if before is not None:
            known[name] = before


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
