"""Reading the pickles of CIFAR's python version without trusting them.

A pickle is a program. Here it may only build dict, list, tuple, bytes, str, int and arrays of
uint8: its operations are checked before any is run, and in place of numpy's classes it gets
stand-ins that check what they are given.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any, Dict, Tuple, Type

import numpy as np

# Protocol 2, as Python 2 wrote the original files; the last line is Python 3's, up to protocol 4.
_OPERATIONS = """
    PROTO STOP MARK EMPTY_DICT EMPTY_LIST EMPTY_TUPLE SETITEM SETITEMS APPEND APPENDS
    TUPLE TUPLE1 TUPLE2 TUPLE3 NONE NEWTRUE NEWFALSE BININT BININT1 BININT2
    SHORT_BINSTRING BINSTRING BINUNICODE BINPUT LONG_BINPUT BINGET LONG_BINGET
    GLOBAL REDUCE BUILD
    FRAME MEMOIZE STACK_GLOBAL SHORT_BINUNICODE SHORT_BINBYTES BINBYTES BINBYTES8
""".split()


def load(data: bytes) -> Dict[str, Any]:
    """The dict that a pickle holds, its keys as str.

    Raises
    ------
    ValueError
        The pickle is truncated or corrupt, does not hold a dict, or asks for anything else.
    """
    try:
        _check_operations(data)
        result = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(result, dict):
            raise ValueError(f"holds a {type(result).__name__}, not a dict")
        return {_text(key): _value(value) for key, value in result.items()}
    except _Refused as error:
        raise ValueError(str(error)) from None
    # Damage can end in almost any exception: EOFError, KeyError, TypeError, MemoryError ...
    except Exception as error:
        raise ValueError(f"truncated or corrupt ({error})") from None


class _Refused(Exception):
    pass


def _check_operations(data: bytes) -> None:
    for count, (operation, argument, position) in enumerate(pickletools.genops(data)):
        if operation.name not in _OPERATIONS:
            raise _Refused(f"refused: {operation.name} at byte {position} has no place here")
        # The unpickler allocates its memo up to the largest index.
        if operation.name == "LONG_BINPUT" and int(argument or 0) > count:
            raise _Refused(f"refused: memo index {argument} at byte {position} is too large")


class _Array:
    """In place of numpy's `_reconstruct` and `ndarray`; the state makes it an array."""

    array = None

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        version, shape, dtype, fortran, raw = state
        if version != 1 or not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
            raise _Refused("refused: an array that is not of uint8")
        array = np.frombuffer(raw, np.uint8)
        self.array = array.reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """In place of numpy's `dtype`; only uint8."""

    def __init__(self, name: Any, *flags: Any) -> None:
        if name not in ("u1", b"u1"):
            raise _Refused(f"refused: an array of {_text(name)}, not of uint8")

    def __setstate__(self, state: Any) -> None:
        pass


class _Latin1:
    """In place of `_codecs.encode`, with which Python 3 writes bytes in protocol 2."""

    def __new__(cls, text: str, encoding: str) -> Any:
        if encoding != "latin1":
            raise _Refused(f"refused: the encoding {encoding}")
        return text.encode("latin1")

    # Without it the pickle could set attributes of this class; the others have one too.
    def __setstate__(self, state: Any) -> None:
        pass


_STAND_INS: Dict[Tuple[str, str], Type[Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Latin1,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise _Refused(f"refused: the pickle asks for {module}.{name}") from None


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _value(value: Any) -> Any:
    return value.array if isinstance(value, _Array) else value
