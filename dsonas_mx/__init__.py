"""DSO-NAS: direct sparse optimisation of network architectures, on MXNet Gluon."""

from . import _compat  # noqa: F401  must stay first: it makes mxnet importable
from .deploy.predictor import Guess, Predictor
from .search.apg_nag import APGNAG
from .space.architecture import Architecture
from .space.normal import OPERATIONS, Connection, SearchSpace

__version__ = "0.1.0"

__all__ = [
    "APGNAG",
    "Architecture",
    "Connection",
    "Guess",
    "OPERATIONS",
    "Predictor",
    "SearchSpace",
]
