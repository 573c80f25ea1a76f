"""Looking into ONNX files of unknown origin before ONNX Runtime reads them.

The values of a tensor may lie in another file, which the ONNX file names: any that its reader may
read. Here such tensors are found, and refused, without the package onnx: in protobuf, in which the
format is written, a message is a series of fields, each a number, a kind and a value.
"""

import os
from typing import Dict, Iterator, Tuple

from .files import PathLike, read_regular

_MOST_BYTES = 2**31  # of protobuf
_DEEPEST = 50

# The fields, by their numbers in onnx.proto, through which a message holds tensors.
_INSIDE: Dict[str, Dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL = (13, 14)  # of a tensor: where its values lie, and that they lie elsewhere


def check_onnx(path: PathLike) -> None:
    """Refuse an ONNX file that names other files.

    Raises
    ------
    ValueError
        It does, or is no ONNX file; the message names it.
    OSError
        It cannot be read.
    """
    try:
        _check(memoryview(read_regular(path, _MOST_BYTES)), "model")
    except _Damaged:
        raise ValueError(f"{os.fspath(path)}: not an ONNX file, or damaged") from None
    except _Elsewhere:
        raise ValueError(
            f"{os.fspath(path)}: it has values in other files, which are not read: save it as one"
        ) from None


class _Damaged(Exception):
    pass


class _Elsewhere(Exception):
    pass


def _check(message: memoryview, kind: str, depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise _Damaged
    known = _INSIDE[kind]
    for number, wire, value in _fields(message):
        if kind == "tensor" and number in _EXTERNAL and (wire == _BYTES or any(value)):
            raise _Elsewhere
        if number in known:
            if wire != _BYTES:
                raise _Damaged
            _check(value, known[number], depth + 1)


_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # kinds of values


def _fields(message: memoryview) -> Iterator[Tuple[int, int, memoryview]]:
    """Number, kind and value of each field of a message."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        wire = key & 7
        start = at
        if wire == _VARINT:
            _, at = _number(message, at)
        elif wire == _BYTES:
            size, start = _number(message, at)
            at = start + size
        elif wire in (_EIGHT, _FOUR):
            at += 8 if wire == _EIGHT else 4
        else:
            raise _Damaged
        if at > len(message):
            raise _Damaged
        yield key >> 3, wire, message[start:at]


def _number(message: memoryview, at: int) -> Tuple[int, int]:
    """A number of seven bits a byte, the last byte without the eighth; and where it ends."""
    value = 0
    for place in range(10):
        if at + place >= len(message):
            raise _Damaged
        byte = message[at + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, at + place + 1
    raise _Damaged
