"""Run by path in a fresh process: a deployed network, without this project, and of MXNet only its
library, which takes a tenth of the time to load and asks nothing of Python and NumPy.

On standard input comes a line of JSON with the form, its files, the type of the input, and shapes
of the parameters; then arrays, each a line of JSON and its bytes. On standard output goes what the
network gives for each, in the same way.
"""

import ctypes
import importlib.util
import json
import os
import resource
import sys
import time
from typing import Any, BinaryIO, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

Net = Callable[[np.ndarray], np.ndarray]

_CPU = 1
_TYPES = {"float32": 0, "uint8": 3}  # in MXNet's numbers
_MOST_SHAPES = 4  # of batches whose memory is planned


def send(stream: BinaryIO, array: Optional[np.ndarray], **fields: Any) -> None:
    """Write an array, or none, and what is said with it."""
    if array is not None:
        fields.update(dtype=str(array.dtype), shape=array.shape)
    stream.write(json.dumps(fields).encode() + b"\n")
    if array is not None:
        stream.write(np.ascontiguousarray(array).tobytes())
    stream.flush()


def receive(stream: BinaryIO) -> Tuple[Dict[str, Any], Optional[np.ndarray]]:
    """What `send` wrote; EOFError if nothing more comes."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    fields = json.loads(line)
    if "dtype" not in fields:
        return fields, None
    dtype, shape = np.dtype(fields["dtype"]), tuple(fields["shape"])
    content = stream.read(dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
    return fields, np.frombuffer(content, dtype).reshape(shape)


class WithMXNet:
    """A network over arrays, by the predict API of MXNet's library (`c_predict_api.h`)."""

    def __init__(
        self, files: Sequence[str], type_of_input: str, shapes: Mapping[str, Sequence[int]]
    ) -> None:
        spec = importlib.util.find_spec("mxnet")
        if spec is None or not spec.submodule_search_locations:
            raise ImportError("MXNet is not installed")
        path = os.path.join(spec.submodule_search_locations[0], "libmxnet.so")
        self._library = ctypes.CDLL(path)
        self._library.MXGetLastError.restype = ctypes.c_char_p
        self._type = _TYPES[type_of_input]
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self._files: List[bytes] = []
        for name in files:
            with open(name, "rb") as file:
                self._files.append(file.read())
        self._planned: Dict[Tuple[int, ...], ctypes.c_void_p] = {}

    def __call__(self, data: np.ndarray) -> np.ndarray:
        net = self._planned.get(data.shape) or self._plan(data.shape)
        size = ctypes.c_uint32(data.size)
        self._call("SetInput", net, b"data", data.ctypes.data_as(ctypes.c_void_p), size)
        self._call("Forward", net)
        shape, count = ctypes.POINTER(ctypes.c_uint32)(), ctypes.c_uint32()
        first = ctypes.c_uint32(0)
        self._call("GetOutputShape", net, first, ctypes.byref(shape), ctypes.byref(count))
        outputs = np.empty([shape[index] for index in range(count.value)], np.float32)
        size = ctypes.c_uint32(outputs.size)
        self._call("GetOutput", net, first, outputs.ctypes.data_as(ctypes.c_void_p), size)
        return outputs

    def _plan(self, shape: Tuple[int, ...]) -> ctypes.c_void_p:
        """The network for batches of a shape; those that were used last are kept."""
        while len(self._planned) >= _MOST_SHAPES:
            self._call("Free", self._planned.pop(next(iter(self._planned))))
        shapes = {"data": shape, **self._shapes}
        sides = [side for each in shapes.values() for side in each]
        ends = np.cumsum([0, *map(len, shapes.values())]).tolist()
        inputs = (
            ctypes.c_uint32(len(shapes)),
            (ctypes.c_char_p * len(shapes))(*map(str.encode, shapes)),
            (ctypes.c_uint32 * len(ends))(*ends),
            (ctypes.c_uint32 * len(sides))(*sides),
        )
        net = ctypes.c_void_p()
        if self._planned:  # parameters are shared
            known = next(iter(self._planned.values()))
            self._call("Reshape", *inputs, known, ctypes.byref(net))
        else:
            symbol, parameters = self._files
            place = ctypes.c_int(len(parameters)), ctypes.c_int(_CPU), ctypes.c_int(0)
            types = (ctypes.c_int * 1)(self._type)
            typed = ctypes.c_uint32(1), (ctypes.c_char_p * 1)(b"data"), types
            self._call("CreateEx", symbol, parameters, *place, *inputs, *typed, ctypes.byref(net))
        self._planned[shape] = net
        return net

    def _call(self, name: str, *arguments: Any) -> None:
        if getattr(self._library, f"MXPred{name}")(*arguments):
            raise ValueError(self._library.MXGetLastError().decode(errors="replace"))


def _onnx(path: str) -> Net:
    """The same, by ONNX Runtime."""
    import onnxruntime

    threads, settings = os.environ.get("OMP_NUM_THREADS", ""), onnxruntime.SessionOptions()
    if threads.isdecimal():  # as many as MXNet has
        settings.intra_op_num_threads = int(threads)
    with open(path, "rb") as file:  # ONNX Runtime opens no name that is not UTF-8
        content = file.read()
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    return lambda data: session.run(None, {"data": data})[0]


def spare_memory() -> None:
    """End this process, and not others, on a network that takes more memory than there is."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or hard > most:
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def reason(error: Exception) -> str:
    """An error in one line, without the stack trace of MXNet's."""
    said = str(error).partition("Stack trace:")[0]
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    failed = [line.split("Check failed: ", 1)[1] for line in lines if "Check failed: " in line]
    return (failed or lines[-1:] or [type(error).__name__])[0]


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the other side goes."""
    try:
        asked, _ = receive(requests)
        net: Net = WithMXNet(**asked) if asked.pop("form") != "onnx" else _onnx(*asked["files"])
    except Exception as error:
        send(answers, None, error=reason(error), missing=isinstance(error, (ImportError, OSError)))
        return
    send(answers, None)
    while True:
        try:
            _, data = receive(requests)
        except EOFError:
            return
        assert data is not None
        try:
            start = time.perf_counter()
            outputs = net(data)
            seconds = time.perf_counter() - start
        except Exception as error:
            send(answers, None, error=reason(error))
        else:
            send(answers, outputs, seconds=seconds)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose names would hide others
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    spare_memory()
    serve(sys.stdin.buffer, channel)
