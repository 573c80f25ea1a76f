"""Reading `.npz` files of unknown origin: named arrays, each compressed.

NumPy takes the memory that a file asks for before it sees whether the file has so much, and
kilobytes can unpack to gigabytes. Here the sizes are looked at first.
"""

import errno
import os
import zipfile
import zlib
from math import prod
from typing import BinaryIO, Dict, Tuple, cast

import numpy as np

from .files import PathLike, open_regular

_DAMAGED = (EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
_ENDING = ".npy"


def read_arrays(path: PathLike, most: int) -> Dict[str, np.ndarray]:
    """The arrays of an `.npz` file, of at most so many bytes in all.

    Raises
    ------
    ValueError
        It is none, is damaged, or larger; the message names the file.
    OSError
        It cannot be read.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > most:
                raise ValueError(f"its arrays have more than {most:,} bytes")
            arrays = {}
            for member in archive.infolist():
                with archive.open(member) as content:
                    name = member.filename[: -len(_ENDING)]
                    arrays[name] = _array(cast(BinaryIO, content), member.file_size)
            return arrays
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a place before its start
            raise
        raise ValueError(f"{os.fspath(path)}: not an .npz file, or damaged ({error})") from None
    except ValueError as error:
        prefix = "" if str(error).startswith(os.fspath(path)) else f"{os.fspath(path)}: "
        raise ValueError(f"{prefix}{error}") from None


def read_header(file: BinaryIO) -> Tuple[Tuple[int, ...], bool, np.dtype]:
    """Shape, order (whether Fortran's) and type of the array of a member, before its values.

    Raises
    ------
    ValueError
        It is of a version that no plain array needs.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError("not an .npz file of plain arrays")
    first = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    return read(file)


def _array(file: BinaryIO, size: int) -> np.ndarray:
    """An array of a member, whose bytes, known from the archive, are those of its shape."""
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject or dtype.itemsize == 0:
        raise ValueError("not an .npz file of plain arrays")
    expected = prod(shape) * dtype.itemsize
    content = file.read(expected) if 0 <= expected <= size else b""
    if len(content) != expected or file.read(1):
        raise ValueError("an array has more or fewer bytes than its shape says")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
