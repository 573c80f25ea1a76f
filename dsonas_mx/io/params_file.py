"""Reading `.params` files of unknown origin, and writing them.

MXNet's own reader can end the process on a damaged file, or try to allocate what its header says.
This one believes nothing that the length of the file does not bear out, and never calls MXNet.
MXNet's own writer says nothing when the disk is full and the arrays are small: the file is empty.
"""

import struct
from typing import Dict, List, Mapping, Tuple

import numpy as np

from .files import PathLike, in_file, read_regular

# The list: magic, reserved, arrays, names. An array: magic, storage, shape, device, type, values.
_LIST_MAGIC = 0x112
_ARRAY_MAGIC = 0xF993FAC9
_DENSE = 0
_TYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8"}
_ON_CPU = (1, 0)  # device type and number
_MOST_DIMENSIONS = 32
_MOST_BYTES = 2**32


class _Reader:
    """Takes a file's content from front to back."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def take(self, size: int) -> memoryview:
        if size > len(self._content) - self._position:
            raise ValueError("the file is cut off, or damaged")
        part = memoryview(self._content)[self._position : self._position + size]
        self._position += size
        return part

    def numbers(self, form: str) -> Tuple[int, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))

    def count(self, least_bytes: int) -> int:
        """A number of things of at least so many bytes each, for which there must be room."""
        (number,) = self.numbers("Q")
        if number * least_bytes > len(self._content) - self._position:
            raise ValueError("the file is cut off, or damaged")
        return number

    def array(self, name: str) -> np.ndarray:
        magic, storage = self.numbers("Ii")
        if magic != _ARRAY_MAGIC or storage != _DENSE:
            raise ValueError(f"{name} is not a dense array as MXNet 1.0 and later write them")
        (dimensions,) = self.numbers("I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise ValueError(f"{name} has {dimensions} dimensions")
        shape = self.numbers(f"{dimensions}q")
        _, _, kind = self.numbers("iii")  # device type and number, then what the values are
        if kind not in _TYPES or min(shape) < 0:
            raise ValueError(f"{name} is of an unknown type, or damaged")
        dtype = np.dtype(_TYPES[kind])
        size = dtype.itemsize
        for side in shape:
            size *= side
        return np.frombuffer(self.take(size), dtype).reshape(shape)

    def is_at_end(self) -> bool:
        return self._position == len(self._content)


def read_params(path: PathLike) -> Dict[str, np.ndarray]:
    """The named arrays of a `.params` file, as `mx.nd.save` writes them of a dict.

    Returns
    -------
    dict of name to array
        The arrays are read-only.

    Raises
    ------
    ValueError
        The file is not one, is damaged, or has arrays without names; the message names the file.
    OSError
        It cannot be read.
    """
    content = read_regular(path, _MOST_BYTES)
    with in_file(path):
        return _parse(content)


def write_params(path: PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays of at least one dimension, with the bytes that `mx.nd.save` would write.

    Raises
    ------
    OSError
        It cannot be written; no part of it is taken for the whole.
    """
    kinds = {np.dtype(form): kind for kind, form in _TYPES.items()}
    with open(path, "wb") as file:
        file.write(struct.pack("<QQQ", _LIST_MAGIC, 0, len(arrays)))
        for array in arrays.values():
            shape = struct.pack(f"<I{array.ndim}q", array.ndim, *array.shape)
            file.write(struct.pack("<Ii", _ARRAY_MAGIC, _DENSE) + shape)
            file.write(struct.pack("<iii", *_ON_CPU, kinds[array.dtype]))
            file.write(np.ascontiguousarray(array).data)
        file.write(struct.pack("<Q", len(arrays)))
        for name in arrays:
            text = name.encode()
            file.write(struct.pack("<Q", len(text)) + text)


def _parse(content: bytes) -> Dict[str, np.ndarray]:
    reader = _Reader(content)
    if len(content) < 16 or reader.numbers("QQ") != (_LIST_MAGIC, 0):
        raise ValueError("not a .params file of MXNet")
    arrays: List[np.ndarray] = []
    for index in range(reader.count(least_bytes=12)):
        arrays.append(reader.array(f"array {index}"))
    names: List[str] = []
    for _ in range(reader.count(least_bytes=8)):
        try:
            names.append(bytes(reader.take(reader.count(least_bytes=1))).decode())
        except UnicodeDecodeError:
            raise ValueError("a name is not text") from None
    if len(names) != len(arrays):
        raise ValueError(f"{len(names)} names for {len(arrays)} arrays")
    if len(set(names)) != len(names):
        raise ValueError("two arrays have the same name")
    if not reader.is_at_end():
        raise ValueError("something follows the arrays")
    return dict(zip(names, arrays))
