"""A deployed network in a process of its own.

MXNet reads how it runs operators from the environment, once: its naive engine, one operator after
the other in the calling thread, answers almost twice as fast as the one for training, but a program
that has loaded MXNet cannot change to it. And a network that kills MXNet takes only that process
with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from threading import Lock
from typing import Any, Callable, Dict, Optional, Sequence

import numpy as np

from .. import _compat
from ..io.files import PathLike
from ..io.onnx_file import check_onnx
from ..io.params_file import read_params
from ..io.symbol_file import check_symbol
from .server import receive, send

ENGINE = "MXNET_ENGINE_TYPE"
# MXNet 1.9.1 copies tables of some kB (`nnvm::OpMap`) where it calls operators: the C library shall
# keep pieces of that size at hand. It has 4 % of a profile of single images then, and 8 % without.
_MALLOC = "glibc.malloc.tcache_max=65536:glibc.malloc.tcache_count=127"
# The network of an image has a thousand small operators: threads that sleep after each take almost
# twice its time. So they spin for some microseconds, which is short of being in others' way.
_SPINS = "2000"
_SERVER = Path(__file__).with_name("server.py")


class NotInstalled(ValueError):
    """What runs a form is not installed."""


class Serving:
    """The files of a form, loaded in a fresh process; call it with arrays.

    Parameters
    ----------
    form : {'mxnet', 'fused', 'int8', 'onnx'}
    files : sequence of path
        As `Card.files` has them.
    dtype : {'float32', 'uint8'}
        Of the input.

    Attributes
    ----------
    seconds : float
        What the network took for the last batch, without the way there and back.

    Raises
    ------
    NotInstalled
        There is no MXNet or ONNX Runtime.
    ValueError
        A file is damaged, or holds what no network for inference does; or the process cannot load
        it, or ends on it.
    """

    def __init__(self, form: str, files: Sequence[PathLike], dtype: str) -> None:
        self._asked = {
            "form": form,
            "files": [os.path.abspath(path) for path in files],
            "type_of_input": dtype,
            "shapes": check_files(form, files),
        }
        self._name = os.fspath(files[0])
        self._lock = Lock()
        self._process: Any = None
        self._owner = 0
        self.seconds = 0.0
        self._start()

    def __call__(self, data: np.ndarray) -> np.ndarray:
        """What the network gives for a batch."""
        with self._lock:
            if self._process is None or self._owner != os.getpid():
                self._start()  # a fork must not share it
            return self._ask(data)

    def close(self) -> None:
        """End the process; another call starts it again."""
        if self._process is not None:
            self._end()
        self._process = None

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def _start(self) -> None:
        self._errors = os.fdopen(os.memfd_create("errors"), "w+b")  # also where no disk has room
        environment = dict(os.environ)
        environment.setdefault(ENGINE, "NaiveEngine")
        environment.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")
        environment.setdefault("GLIBC_TUNABLES", _MALLOC)
        if _compat.sleeps_by_default:
            environment[_compat.WAITING[1]] = _SPINS
        self._process = subprocess.Popen(
            [sys.executable, str(_SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,  # Ctrl-C is for this process, which ends the other
        )
        self._owner = os.getpid()
        self._end = weakref.finalize(self, _end, self._process, self._owner)
        self._ask(None, **self._asked)

    def _ask(self, data: Optional[np.ndarray], **asked: Any) -> Any:
        try:
            send(self._process.stdin, data, **asked)
            fields, outputs = receive(self._process.stdout)
        except (EOFError, BrokenPipeError, ValueError):  # in the middle of an array, too
            raise ValueError(f"{self._name}: {self._last_words()}") from None
        except BaseException:  # the answer to this would be taken for that to the next
            self.close()
            raise
        if "error" in fields:
            if fields.get("missing"):
                raise NotInstalled(fields["error"])
            raise ValueError(f"{self._name}: {fields['error']}")
        self.seconds = fields.get("seconds", 0.0)
        return outputs

    def _last_words(self) -> str:
        status = self._process.wait()
        self.close()
        if status < 0:
            name = signal.Signals(-status).name
            return (
                f"the network ended the process that ran it ({name}): it is damaged, or too large"
            )
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"the process that ran it ended: {lines[-1] if lines else 'no message'}"


def check_files(form: str, files: Sequence[PathLike]) -> Dict[str, Sequence[int]]:
    """Refuse what is not to reach MXNet or ONNX Runtime; returns the shapes of the parameters."""
    if form == "onnx":
        check_onnx(files[0])
        return {}
    graph, arrays = check_symbol(files[0]), read_params(files[1])
    variables = {graph["nodes"][index]["name"] for index in graph["arg_nodes"]}
    if "data" not in variables or len(graph["heads"]) != 1:
        raise ValueError(f"{files[0]}: a deployed network has an input 'data' and one output")
    missing = variables - {"data"} - {name[4:] for name in arrays}
    if missing:
        raise ValueError(f"{files[1]}: the parameter {min(missing)} is missing")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{files[1]}: {name} has a value that is not finite")
    return {name[4:]: array.shape for name, array in arrays.items() if name[4:] in variables}


def in_batches(
    run: Callable[[np.ndarray], np.ndarray], data: np.ndarray, size: Optional[int]
) -> np.ndarray:
    """What `run` gives, which takes `size` images at a time if that is given: the last of them is
    repeated to fill them up.
    """
    if size is None:
        return run(data)
    parts = []
    for start in range(0, len(data), size):
        part = data[start : start + size]
        filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        parts.append(run(filled)[: len(part)])
    return np.concatenate(parts)


def _end(process: Any, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork that ends
        process.kill()
        process.wait()
    process.stdin.close()
    process.stdout.close()
