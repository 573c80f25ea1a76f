"""Run by path in a fresh process: load deployed files without this project, compare, and time them.

Arguments: an .npz with `data` and `expected`; JSON of form → files; rounds; the fixed batch of the
ONNX file or 0. Prints one line of JSON.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import numpy as np

Net = Callable[[np.ndarray], np.ndarray]

if sys.version_info >= (3, 12):  # where MXNet 1.9.1 does not import by itself
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import _compat  # noqa: F401

    sys.path.pop(0)


def with_mxnet(symbol: str, parameters: str, dtype: str) -> Net:
    """A callable over arrays, as any MXNet program makes it."""
    import mxnet as mx

    net = mx.gluon.SymbolBlock(mx.sym.load(symbol), mx.sym.var("data", dtype=dtype))
    net.load_parameters(parameters, cast_dtype=True, dtype_source="saved")
    net.hybridize(static_alloc=True, static_shape=True)
    return lambda data: net(mx.nd.array(data, dtype=data.dtype)).asnumpy()


def with_onnxruntime(path: str) -> Net:
    """The same, as any program with onnxruntime makes it."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda data: session.run(None, {"data": data})[0]


def batches(data: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Parts of `size` images; the last is filled up with its last image."""
    for start in range(0, len(data), size):
        part = data[start : start + size]
        yield np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])


def main() -> None:
    arrays = np.load(sys.argv[1])
    data, expected = arrays["data"], arrays["expected"]
    forms, rounds, fixed = json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    rows: List[Dict[str, Any]] = []
    nets: Dict[str, Net] = {}
    for form, files in forms.items():
        row = {"form": form, "error": None}
        rows.append(row)
        try:
            if form == "onnx":
                nets[form] = with_onnxruntime(*files)
            else:
                nets[form] = with_mxnet(files[0], files[1], str(data.dtype))
        except ImportError as error:
            row["error"] = str(error)
            continue
        size = fixed if fixed and form == "onnx" else len(data)
        outputs = np.concatenate([nets[form](part) for part in batches(data, size)])[: len(data)]
        difference = float(np.abs(outputs - expected).max())
        row["difference"] = difference
        row["relative"] = difference / float(np.abs(expected).max())
        row["agreement"] = float((outputs.argmax(1) == expected.argmax(1)).mean())
    for size in (1, 8):
        batch = next(batches(data[:size], size))
        runs: Dict[str, List[float]] = {
            form: [] for form in nets if not (form == "onnx" and fixed not in (0, size))
        }
        for turn in range(rounds + 2):
            for form in runs:
                start = time.perf_counter()
                nets[form](batch)
                if turn >= 2:
                    runs[form].append(1e3 * (time.perf_counter() - start))
        for row in rows:
            times = runs.get(row["form"])
            row[f"ms_{size}"] = statistics.median(times) if times else None
    ours = [name for name in sys.modules if name.partition(".")[0] == "dsonas_mx"]
    assert not ours, ours
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
