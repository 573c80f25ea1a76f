"""Workers: the processes of one training, on one machine or several, and what they tell each other.

All of it is one operation of MXNet's parameter server (ps-lite): the sum of an array over all
workers, which waits for all of them. Each has the same parameters and takes the same steps; they
differ in the part of each batch that they compute.
"""

import hashlib
import json
import os
import sys
from collections import deque
from typing import Any, Deque, Dict, List, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from .graph import shares
from .process import RANK, leave, note_connection, rank

KINDS = ("device", "dist_sync")

_DELAY = 2  # steps after which a wish is heard: then nobody has to wait for it


class Workers:
    """All workers, seen from one of them. This class is one that is alone.

    Attributes
    ----------
    rank, size : int
        Its number, and how many there are. Number 0 writes all files.
    """

    rank = 0
    size = 1

    def sizes(self, samples: int, devices: int) -> Tuple[slice, Tuple[int, ...]]:
        """Which part of a batch is this worker's, and how many samples of it each device takes.

        As if the devices of all workers were those of one, in order; where there are fewer samples
        than devices, the last ones take none.
        """
        every = self.size * devices
        busy = shares(samples, min(samples, every))
        sizes = busy + (0,) * (every - len(busy))
        first = self.rank * devices
        own = sizes[first : first + devices]
        start = sum(sizes[:first])
        return slice(start, start + sum(own)), own

    def add_up(self, arrays: Sequence[Sequence[mx.nd.NDArray]]) -> None:
        """Replace arrays, of each the copies of all devices, by their sums over the workers.

        Nobody waits here for the sum.
        """

    def gather(self, array: np.ndarray) -> np.ndarray:
        """The arrays of all workers, float32, of the same shape, along a new axis, bit for bit."""
        return array[None]

    def broadcast(self, array: np.ndarray) -> np.ndarray:
        """That of worker 0, of the same shape and type in all, bit for bit."""
        return array

    def tell(self, value: Any) -> Any:
        """What worker 0 has to say, ready for JSON; what others say is not heard."""
        return value

    def check_same(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Whether all have the same arrays, to the last bit.

        Raises
        ------
        ArithmeticError
            They have not.
        """
        if self.size == 1:
            return
        digest = hashlib.sha256()
        for name, array in arrays.items():
            digest.update(name.encode())
            digest.update(array.tobytes())
        rows = self.gather(np.frombuffer(digest.digest(), np.uint8).astype(np.float32))
        if (rows != rows[0]).any():
            raise ArithmeticError("the workers have not the same parameters: restart with `resume`")

    def agree(self, *wishes: bool) -> List[bool]:
        """Which of the wishes any worker has, or had a few calls ago: the same in all of them."""
        return list(wishes)


class Connected(Workers):
    """One of several, all started by tools/launch.py.

    Parameters
    ----------
    store : mx.kvstore.KVStore
        Of kind dist_sync; of each process there can be one.
    rank : int
    """

    def __init__(self, store: Any, rank: int) -> None:
        self.rank = rank
        self.size = store.num_workers
        self._store = store
        self._buffers: Dict[str, mx.nd.NDArray] = {}
        self._wishes: Deque[mx.nd.NDArray] = deque()

    def _sum(self, array: mx.nd.NDArray, purpose: str) -> mx.nd.NDArray:
        """The sum of a vector over all workers: an array on its way."""
        key = f"{purpose}{array.size}"
        if key not in self._buffers:  # in the same order in all of them
            self._buffers[key] = mx.nd.zeros_like(array)
            self._store.init(key, self._buffers[key])
        # One buffer a key: the next sum waits until this one is read. The server would mix them up.
        buffer = self._buffers[key]
        array.copyto(buffer)
        self._store.pushpull(key, buffer, out=buffer)
        return buffer.copy()

    def add_up(self, arrays: Sequence[Sequence[mx.nd.NDArray]]) -> None:
        flat = mx.nd.concat(*[copies[0].reshape(-1) for copies in arrays], dim=0)
        flat = self._sum(flat, "gradients")
        start = 0
        for copies in arrays:
            part = flat[start : start + copies[0].size].reshape(copies[0].shape)
            start += copies[0].size
            for copy in copies:
                part.copyto(copy)

    def gather(self, array: np.ndarray) -> np.ndarray:
        rows = np.zeros((self.size, array.size * 2), np.float32)
        # Halves of the bits, for a sum keeps those of a number but not of a NaN, or of -0.
        rows[self.rank] = _as_numbers(np.ascontiguousarray(array, np.float32).tobytes())
        total = self._sum(mx.nd.array(rows.ravel()), "gather").asnumpy()
        return np.frombuffer(_as_bytes(total), np.float32).reshape((self.size, *array.shape))

    def broadcast(self, array: np.ndarray) -> np.ndarray:
        if not array.size:
            return array
        content = self._bytes_of_first(array.tobytes())
        return np.frombuffer(content, array.dtype).reshape(array.shape)

    def tell(self, value: Any) -> Any:
        text = json.dumps(value).encode() if self.rank == 0 else b""
        length = np.array([len(text)], np.int64)
        length = self.broadcast(length)
        text = text.ljust(int(length[0])) if self.rank == 0 else bytes(int(length[0]))
        return json.loads(self._bytes_of_first(text))

    def _bytes_of_first(self, content: bytes) -> bytes:
        padded = content + bytes(len(content) % 2)
        if not padded:
            return b""
        numbers = _as_numbers(padded) * (self.rank == 0)
        return _as_bytes(self._sum(mx.nd.array(numbers), "tell").asnumpy())[: len(content)]

    def agree(self, *wishes: bool) -> List[bool]:
        self._wishes.append(self._sum(mx.nd.array([float(wish) for wish in wishes]), "agree"))
        if len(self._wishes) <= _DELAY:
            return [False] * len(wishes)
        return [bool(total > 0) for total in self._wishes.popleft().asnumpy()]


def _as_numbers(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint16).astype(np.float32)


def _as_bytes(numbers: np.ndarray) -> bytes:
    return numbers.astype(np.uint16).tobytes()


def connect(kind: str) -> Workers:
    """The workers of `kv_store`: alone with device, with dist_sync all that were launched.

    Raises
    ------
    ValueError
        It is not what this process was started for.
    """
    launched = os.environ.get("DMLC_ROLE") == "worker"
    if kind == "device":
        if launched:
            raise ValueError("started by tools/launch.py: add `kv_store` dist_sync")
        return Workers()
    if not launched or RANK not in os.environ:
        raise ValueError("`kv_store` dist_sync: start it by tools/launch.py -n 2 python train/…")
    if not mx.runtime.Features().is_enabled("DIST_KVSTORE"):
        raise ValueError("`kv_store` dist_sync: this MXNet was built without it")
    note_connection()
    sys.excepthook = _end_with_traceback
    return Connected(mx.kv.create("dist_sync"), rank())


def _end_with_traceback(kind: Any, error: BaseException, trace: Optional[Any]) -> None:
    sys.__excepthook__(kind, error, trace)
    leave(1)
