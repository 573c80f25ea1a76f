"""Reading the pickles of CIFAR's python version without trusting them.

A pickle is a program. Here it may only build dict, list, tuple, bytes, str, int and NumPy's whole
numbers and arrays of them: its operations are checked before any is run, and in place of NumPy's
classes it gets stand-ins that check what they are given.
"""

import io
import pickle
import pickletools
from typing import Any, Dict, Tuple, Type

import numpy as np

# Protocol 2, as Python 2 wrote the original files; the last line is Python 3's, up to protocol 5.
_OPERATIONS = """
    PROTO STOP MARK EMPTY_DICT EMPTY_LIST EMPTY_TUPLE SETITEM SETITEMS APPEND APPENDS
    TUPLE TUPLE1 TUPLE2 TUPLE3 NONE NEWTRUE NEWFALSE BININT BININT1 BININT2
    SHORT_BINSTRING BINSTRING BINUNICODE BINPUT LONG_BINPUT BINGET LONG_BINGET
    GLOBAL REDUCE BUILD
    FRAME MEMOIZE STACK_GLOBAL SHORT_BINUNICODE SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8
""".split()


def loads(data: bytes) -> Dict[str, Any]:
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
        if version != 1:
            raise _Refused(f"refused: an array of version {version}")
        self.array = _array(raw, dtype).reshape(shape, order="F" if fortran else "C")


class _Buffer(_Array):
    """In place of numpy's `_frombuffer`, with which protocol 5 has arrays."""

    def __init__(self, raw: Any, dtype: Any, shape: Any, order: Any) -> None:
        self.array = _array(raw, dtype).reshape(shape, order=order)

    # Without it the pickle could set attributes of this class; the others have one too.
    def __setstate__(self, state: Any) -> None:
        pass


class _Dtype:
    """In place of numpy's `dtype`; only of whole numbers."""

    def __init__(self, name: Any, *flags: Any) -> None:
        self._name = _text(name)
        if self._name not in _WHOLE_NUMBERS:
            raise _Refused(f"refused: an array of {self._name}, not of whole numbers")
        self.dtype = np.dtype(self._name)

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        order = _text(state[1])
        self.dtype = np.dtype((order if order in "<>" else "=") + self._name)


class _Scalar:
    """In place of numpy's `scalar`: the number itself."""

    def __new__(cls, dtype: Any, raw: Any) -> Any:
        (number,) = _array(raw, dtype).tolist()
        return number

    def __setstate__(self, state: Any) -> None:
        pass


class _Latin1:
    """In place of `_codecs.encode`, with which Python 3 writes bytes in protocol 2."""

    def __new__(cls, text: str, encoding: str) -> Any:
        if encoding != "latin1":
            raise _Refused(f"refused: the encoding {encoding}")
        return text.encode("latin1")

    def __setstate__(self, state: Any) -> None:
        pass


def _array(raw: Any, dtype: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, (bytes, bytearray)):
        raise _Refused("refused: an array that is not of whole numbers")
    return np.frombuffer(raw, dtype.dtype)


_WHOLE_NUMBERS = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8")
_OF_NUMPY = {
    "multiarray._reconstruct": _Array,
    "multiarray.scalar": _Scalar,
    "numeric._frombuffer": _Buffer,
}
STAND_INS: Dict[Tuple[str, str], Type[Any]] = {
    **{
        (f"numpy.{core}.{name.split('.')[0]}", name.split(".")[1]): stand_in
        for core in ("core", "_core")  # before and since NumPy 2
        for name, stand_in in _OF_NUMPY.items()
    },
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Latin1,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return STAND_INS[module, name]
        except KeyError:
            raise _Refused(f"refused: the pickle asks for {module}.{name}") from None


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _value(value: Any) -> Any:
    return value.array if isinstance(value, _Array) else value
