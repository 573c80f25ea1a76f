"""Build and load the operators of operators.cc, which replace the block's graph on the CPU.

    python -m dsonas_mx.engine.native

builds them with g++ for the processor of this machine. Without them the plain MXNet graph is
used: the same function, slower. ``DSONAS_MX_NATIVE=0`` in the environment leaves them out.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import List, Optional

from ..io.files import atomic

SOURCE = Path(__file__).parents[1] / "native" / "operators.cc"
FLAGS = ("-O3", "-march=native", "-fopenmp", "-std=c++17", "-fPIC", "-shared")
SWITCH = "DSONAS_MX_NATIVE"

_loaded: Optional[bool] = None


def build(verbose: bool = False) -> Optional[Path]:
    """Compile the operators for this machine, unless that was done before.

    Parameters
    ----------
    verbose : bool
        Print the compiler's command and messages.

    Returns
    -------
    Path or None
        The library; None without g++.

    Raises
    ------
    RuntimeError
        If the compiler fails.
    """
    built = _find()
    compiler = shutil.which("g++")
    if built is not None or compiler is None:
        return built
    target = _writable_folder() / _file_name()
    with atomic(target) as temporary:
        _compile(compiler, temporary, verbose)
        os.chmod(temporary, 0o755)  # for all who have this folder, who else compute other bits
    return target


def load() -> bool:
    """Register the built operators with MXNet, once per process.

    Returns
    -------
    bool
        Whether ``mx.sym.dsonas_level`` and its fellows are there. False without a library that
        was built for this source, MXNet and processor. Never raises, never builds.
    """
    global _loaded
    if _loaded is None and available():
        _loaded = _load()
    elif _loaded is None and _is_wanted():
        _say_what_cannot_be_read()
    return bool(_loaded)


def available() -> bool:
    """Whether `load` would find (or has found) the operators."""
    return _loaded if _loaded is not None else _is_wanted() and _find() is not None


def workspace_megabytes() -> float:
    """The largest piece of memory that one operator worked in so far; no executor reports it."""
    path = _find() if load() else None
    if path is None:
        return 0.0
    count = ctypes.CDLL(str(path)).dsonas_workspace_bytes
    count.restype = ctypes.c_longlong
    return count() / 2**20


def _load() -> bool:
    import mxnet as mx

    path = _find()
    try:
        mx.library.load(str(path), False)
    except Exception as error:  # whatever is wrong with it, the plain graph works
        print(f"{path} could not be loaded ({error}): using the plain MXNet graph", file=sys.stderr)
        return False
    return True


@lru_cache(maxsize=None)
def _say_what_cannot_be_read() -> None:
    """The library of another user: without it bits are others."""
    for folder in _folders():
        if (folder / _file_name()).exists():
            print(
                f"{folder / _file_name()} cannot be read: using the plain MXNet graph, which has "
                "other bits; python -m dsonas_mx.engine.native builds a library of your own",
                file=sys.stderr,
            )


def _is_wanted() -> bool:
    return os.environ.get(SWITCH, "1") != "0"


def _folders() -> List[Path]:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    known = os.path.isabs(cache)  # not of a user whom the machine does not know, without HOME
    return [SOURCE.parent, *([Path(cache) / "dsonas_mx"] if known else [])]


def _writable_folder() -> Path:
    folders = _folders()
    if not os.access(folders[0], os.W_OK):
        folders[-1].mkdir(parents=True, exist_ok=True)
        return folders[-1]
    return folders[0]


def _find() -> Optional[Path]:
    try:
        name = _file_name()
        return next((f / name for f in _folders() if os.access(f / name, os.R_OK)), None)
    except OSError:
        return None


def _file_name() -> str:
    """A name that changes with everything the library depends on."""
    import mxnet as mx

    key = hashlib.sha256(SOURCE.read_bytes())
    for header in sorted(SOURCE.parent.glob("*.h")):
        key.update(header.read_bytes())
    for part in (mx.__version__, _processor(), *FLAGS):
        key.update(b"\0" + part.encode())
    return f"native-{key.hexdigest()[:16]}.so"


def _processor() -> str:
    """Model and instruction sets, since the code is compiled for exactly these."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _compile(compiler: str, target: Path, verbose: bool) -> None:
    import mxnet as mx

    root = Path(mx.__file__).parent
    command = [
        compiler,
        *FLAGS,
        f"-I{root / 'include'}",
        str(SOURCE),
        str(root / "src" / "lib_api.cc"),
        "-o",
        str(target),
    ]
    if verbose:
        print(" ".join(command))
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if verbose and result.stdout:
        print(result.stdout)
    if result.returncode:
        errors = [line for line in result.stdout.splitlines() if "error" in line]
        reason = (errors or result.stdout.splitlines() or ["no message"])[0]
        raise RuntimeError(f"g++ could not build {SOURCE.name}: {reason}")


def main() -> int:
    existed = _find() is not None
    try:
        path = build()
    except (RuntimeError, OSError) as error:
        print(f"{error}: the plain MXNet graph will be used")
        return 1
    if path is None:
        print("no g++: the plain MXNet graph will be used")
    else:
        print(f"{path} {'was there already' if existed else 'built'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
