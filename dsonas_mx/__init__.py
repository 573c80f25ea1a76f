"""DSO-NAS: direct sparse optimisation of network architectures, on MXNet Gluon."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _compat  # noqa: F401  must stay first: it makes mxnet importable

if TYPE_CHECKING:
    from .deploy.predictor import Guess, Predictor
    from .engine.setup import Setup
    from .notebook import train
    from .search.apg_nag import APGNAG
    from .search.options import SearchOptions
    from .search.search import Search
    from .space.architecture import Architecture
    from .space.mobile import MobileSpace
    from .space.mobile_architecture import MobileArchitecture, load_architecture
    from .space.normal import OPERATIONS, Connection, SearchSpace
    from .training.fit import Fit
    from .training.options import FitOptions, SegmentationOptions
    from .training.segmentation import SegmentationFit

__version__ = "0.1.0"

# Where they are: what needs MXNet, which takes seconds to load, is imported when it is used.
_PLACES = {
    "APGNAG": "search.apg_nag",
    "Architecture": "space.architecture",
    "Connection": "space.normal",
    "Fit": "training.fit",
    "FitOptions": "training.options",
    "Guess": "deploy.predictor",
    "MobileArchitecture": "space.mobile_architecture",
    "MobileSpace": "space.mobile",
    "OPERATIONS": "space.normal",
    "Predictor": "deploy.predictor",
    "Search": "search.search",
    "SearchOptions": "search.options",
    "SearchSpace": "space.normal",
    "SegmentationFit": "training.segmentation",
    "SegmentationOptions": "training.options",
    "Setup": "engine.setup",
    "load_architecture": "space.mobile_architecture",
    "train": "notebook",
}

__all__ = [
    "APGNAG",
    "Architecture",
    "Connection",
    "Fit",
    "FitOptions",
    "Guess",
    "MobileArchitecture",
    "MobileSpace",
    "OPERATIONS",
    "Predictor",
    "Search",
    "SearchOptions",
    "SearchSpace",
    "SegmentationFit",
    "SegmentationOptions",
    "Setup",
    "load_architecture",
    "search",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "search":  # a package that can be called
        return import_module(".search", __name__)
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)
