"""Make MXNet 1.9.1 importable on Python 3.8 to 3.13, and the gradients of its executors right.

Importing this module does everything, so it must come before anything that imports mxnet.
It has to parse on older Pythons too: they should see a message, not a SyntaxError.
"""

import importlib
import importlib.abc
import importlib.util
import math
import os
import sys
import warnings
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, Tuple

MXNET_VERSION = "1.9.1"

# With fewer allowed, an executor that sums 8 or more gradients of one tensor can do it wrongly,
# without a word; the input of a block has 17 consumers.
GRADIENT_SUM_CAP = "MXNET_EXEC_INPLACE_GRAD_SUM_CAP"
_SAFE_CAP = 100

# Lets executors try several ways to fit arrays into memory, and take the smallest: a recomputed
# supernet takes a third less. MXNet tries one unless told.
MEMORY_SEARCH = "NNVM_AUTO_SEARCH_MATCH_RANGE"

# On a GPU, pointwise operators that are fused into one take more memory than one after the other,
# since none of them works in place: a fifth of a supernet.
FUSION = "MXNET_USE_FUSION"

# Operators on the CPU run one after the other, so they can share one workspace instead of four.
WORKSPACES = "MXNET_CPU_TEMP_COPY"

# What OpenCV's wheel, which MXNet imports, sets for its own windows: other libraries of Qt in the
# process then fail, and child processes look for libraries in the working directory, too.
_OF_WINDOWS = ("QT_QPA_PLATFORM_PLUGIN_PATH", "QT_QPA_FONTDIR", "LD_LIBRARY_PATH")

# How OpenMP's threads wait for each other.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
sleeps_by_default = False  # whether it is this module that lets them sleep

# How many workers of a job are on this machine, as tools/launch.py says; they share its cores.
WORKERS_HERE = "DSONAS_WORKERS_HERE"

# MXNet says at its import that cuDNN is newer than the one it was compiled against, which any cuDNN
# on PyPI is: 8.9 keeps what 8.1 has.
CUDNN_CHECK = "MXNET_CUDNN_LIB_CHECKING"


class CannotRun(ImportError):
    """This Python, or what is installed in it, cannot run the project; the message says more."""


def print_one_line(kind: Any, error: BaseException, trace: Any) -> None:
    """In place of sys.excepthook: something to be installed, or Ctrl-C, needs no traceback."""
    if isinstance(error, (CannotRun, KeyboardInterrupt)):
        name = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "dsonas_mx"
        what = error if isinstance(error, CannotRun) else "interrupted"
        sys.stderr.write("{}: {}\n".format(name, what))
    else:
        sys.__excepthook__(kind, error, trace)


def check_python(version: Tuple[int, int]) -> None:
    """Raise ImportError unless mxnet 1.9.1 is known to run on this (major, minor)."""
    if not (3, 8) <= version <= (3, 13):
        raise CannotRun(
            "dsonas_mx needs Python 3.8 to 3.13, this is {}.{}: install one, such as "
            "python3.11, and run make setup PYTHON=python3.11".format(*version)
        )


def missing_numpy_names(numpy: Any) -> Dict[str, Any]:
    """What mxnet takes from numpy when it is imported and this numpy no longer has."""

    def placeholder(name: str) -> Callable[..., Any]:
        def removed(*args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError("numpy.{} was removed from numpy".format(name))

        return removed

    names: Dict[str, Any] = {
        "bool": bool,
        "PZERO": 0.0,
        "NZERO": -0.0,
        "NINF": -numpy.inf,
        "PINF": numpy.inf,
        "Inf": numpy.inf,
        "NAN": numpy.nan,
        "NaN": numpy.nan,
        "alltrue": numpy.all,
        "sometrue": numpy.any,
        "product": numpy.prod,
        "in1d": lambda a, b, **kwargs: numpy.isin(numpy.ravel(a), b, **kwargs),
        "msort": lambda a: numpy.sort(a, axis=0),
        "round_": numpy.round,
        "trapz": getattr(numpy, "trapezoid", None),
    }
    for name in ("mirr", "npv", "pmt", "ppmt", "pv", "rate"):
        names[name] = placeholder(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy 1.23 still has numpy.bool, but scolds
        return {name: value for name, value in names.items() if not hasattr(numpy, name)}


def provide_distutils() -> None:
    """Import setuptools, which brings the distutils that Python 3.12 dropped."""
    if importlib.util.find_spec("distutils") is not None:
        return
    try:
        import setuptools  # noqa: F401
    except ImportError:
        raise CannotRun(
            "mxnet needs setuptools on Python 3.12 and later: pip install setuptools"
        ) from None


def has_gpu_wheel() -> bool:
    """Whether the installed mxnet is mxnet-cu112."""
    from importlib.metadata import PackageNotFoundError, version  # not in Python 3.7

    try:
        version("mxnet-cu112")
    except PackageNotFoundError:
        return False
    return True


def set_gradient_sum_cap() -> None:
    """Set the cap in the environment; a larger one that is already there stays."""
    given = os.environ.get(GRADIENT_SUM_CAP, "")
    if given.isdigit() and int(given) >= _SAFE_CAP:
        return
    if given:
        warnings.warn(
            "{}={} can make gradients wrong: using {}".format(GRADIENT_SUM_CAP, given, _SAFE_CAP),
            RuntimeWarning,
            stacklevel=2,
        )
    os.environ[GRADIENT_SUM_CAP] = str(_SAFE_CAP)


def quota(folder: str) -> float:
    """CPUs that a cgroup of version 1 or 2 may use; infinite without a bound."""
    try:
        with open(os.path.join(folder, "cpu.max")) as file:
            most, period = file.read().split()
    except (OSError, ValueError):
        try:
            with open(os.path.join(folder, "cpu.cfs_quota_us")) as file:
                most = file.read()
            with open(os.path.join(folder, "cpu.cfs_period_us")) as file:
                period = file.read()
        except OSError:
            return math.inf
    try:
        return int(most) / int(period) if int(most) > 0 else math.inf
    except (ValueError, ZeroDivisionError):  # max
        return math.inf


def usable_cpus(mount: str = "/sys/fs/cgroup", groups: str = "/proc/self/cgroup") -> float:
    """CPUs that this process may use: its affinity, and the quota of a container or job."""
    try:
        least = float(len(os.sched_getaffinity(0)))
    except AttributeError:  # not on Linux
        return float(os.cpu_count() or 1)
    try:
        with open(groups) as file:
            lines = [line.strip().split(":", 2) for line in file]
    except OSError:
        return least
    for _, controllers, path in lines:
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Inside a container the path may be that of the host, and only its end be there.
        parts = path.strip("/").split("/")
        for folder in (controllers, "cpu") if controllers else ("", "unified"):
            for depth in range(len(parts) + 1):
                least = min(least, quota(os.path.join(mount, folder, *parts[:depth])))
    return least


def use_all_cores() -> None:
    """Let operators use every core: MXNet takes half of them, as if each ran two threads."""
    try:
        with open("/sys/devices/system/cpu/smt/active") as file:
            threads = 2 if file.read().strip() == "1" else 1
    except OSError:
        return
    workers = os.environ.get(WORKERS_HERE, "")
    cores = math.ceil(usable_cpus() / threads) // max(1, int(workers) if workers.isdigit() else 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores)))


def wait_asleep() -> None:
    """Let threads that wait for each other sleep, unless the environment says otherwise.

    OpenMP's spin, and keep from the cores the very threads that they wait for, if there are other
    processes.
    """
    global sleeps_by_default
    if not any(name in os.environ for name in WAITING):
        os.environ[WAITING[0]] = "PASSIVE"
        sleeps_by_default = True


def spare_memory() -> None:
    """Ask for what takes the least memory, unless the environment says otherwise."""
    os.environ.setdefault(MEMORY_SEARCH, "1")
    os.environ.setdefault(FUSION, "0")
    os.environ.setdefault(WORKSPACES, "1")


def check_gradient_sum_cap(mxnet: Any) -> None:
    """Raise ImportError if mxnet read the cap before it was set.

    It does so once, at the first gradient it computes, and from then on an executor shows how it
    sums nine of them.
    """
    x = mxnet.sym.Variable("x")
    consumers = mxnet.sym.Group([x * float(k) for k in range(2, 11)])
    executor = consumers.simple_bind(mxnet.cpu(), x=(1,))
    if "Op:_grad_add" in executor.debug_str():
        raise ImportError(
            "mxnet has already computed gradients without {}={}: import dsonas_mx before mxnet, "
            "or set it in the environment".format(GRADIENT_SUM_CAP, _SAFE_CAP)
        )


@contextmanager
def left_alone() -> Iterator[None]:
    """Undo what imports in the block change for the whole process: OpenCV's environment variables,
    and Pillow's refusal of truncated files, which GluonCV switches off.
    """
    before = {name: os.environ.get(name) for name in _OF_WINDOWS}
    pillow = sys.modules.get("PIL.ImageFile")
    accepts = getattr(pillow, "LOAD_TRUNCATED_IMAGES", False)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        pillow = sys.modules.get("PIL.ImageFile")
        if pillow is not None:
            pillow.LOAD_TRUNCATED_IMAGES = accepts  # type: ignore[attr-defined]


def how_to_install() -> str:
    """For who has not what is needed."""
    no_deps = "--no-deps " if sys.version_info >= (3, 13) else ""  # its metadata refuses numpy 2
    return "make setup, then . .venv/bin/activate; or pip install {}mxnet=={}".format(
        no_deps, MXNET_VERSION
    )


def check_installed() -> None:
    """Raise ImportError, with one line that says what to install, unless the packages are there."""
    for name in ("numpy", "mxnet"):
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            raise CannotRun(
                "dsonas_mx needs {}, which is not installed: {}".format(name, how_to_install())
            )


def import_mxnet() -> Any:
    """Import mxnet, or raise ImportError with one line that says what to install."""
    gpu = has_gpu_wheel()
    import numpy

    for name, value in missing_numpy_names(numpy).items():
        setattr(numpy, name, value)
    provide_distutils()
    try:
        with left_alone(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mxnet's own, about distutils and numpy
            import mxnet
    except OSError as error:
        if not gpu:
            raise
        raise CannotRun(
            "mxnet-cu112 could not be loaded ({}): it needs NVIDIA's driver, and the CUDA "
            "libraries beside it: make setup GPU=1; without a GPU, make setup GPU=0".format(error)
        ) from None
    if not mxnet.__version__.startswith("1.9."):
        raise CannotRun(
            "dsonas_mx needs mxnet {}, found {}: {}".format(
                MXNET_VERSION, mxnet.__version__, how_to_install()
            )
        )
    return mxnet


class Finder:
    """Has the first import of mxnet, whoever wants it, done by `import_mxnet`."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """What gives the module, once it has been imported."""
        if name != "mxnet":
            return None
        sys.meta_path.remove(self)
        try:
            with in_one_line():
                loader = Imported(import_mxnet())
        except BaseException:
            sys.meta_path.insert(0, self)
            raise
        # Of a module that is there by now, its own is taken, which would import it again.
        loader.module.__spec__ = importlib.util.spec_from_loader(name, loader)
        return loader.module.__spec__


class Imported(importlib.abc.Loader):
    """Gives a module that has been imported."""

    def __init__(self, module: Any) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: Any) -> Any:
        """The module."""
        return self.module

    def exec_module(self, module: Any) -> None:
        """Leave it as it was, but for an optimizer that it knows from now on."""
        module.__spec__ = self.spec
        register()


def register() -> None:
    """Have `mxnet.optimizer.create("apgnag")` find λ's optimizer."""
    importlib.import_module("dsonas_mx.search.apg_nag")


@contextmanager
def in_one_line() -> Iterator[None]:
    """If something is to be installed, or Ctrl-C comes, that is one line."""
    try:
        yield
    except (CannotRun, KeyboardInterrupt):  # loading MXNet takes seconds
        if sys.excepthook is sys.__excepthook__:
            sys.excepthook = print_one_line
        raise


def prepare() -> None:
    """Set the environment at once; see to the rest when mxnet is imported, which takes seconds."""
    with in_one_line():
        check_python(sys.version_info[:2])
        check_installed()
        set_gradient_sum_cap()
        spare_memory()
        use_all_cores()
        wait_asleep()
        os.environ.setdefault(CUDNN_CHECK, "0")
        if "mxnet" in sys.modules:
            check_gradient_sum_cap(import_mxnet())
            register()
        else:
            sys.meta_path.insert(0, Finder())  # type: ignore[arg-type]


prepare()
