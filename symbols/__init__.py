"""The networks of DSO-NAS, by name."""

from functools import partial
from typing import Any, Callable, Dict, Optional

from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.mobile_architecture import AnyArchitecture
from dsonas_mx.space.normal import SearchSpace

import mxnet as mx
from mxnet.gluon import HybridBlock

from . import architectures
from .baselines import densenet_bc, resnet_preact
from .dsonas import DSONAS
from .mobile import Mobile

__all__ = ["DSONAS", "MODELS", "Mobile", "get_model", "get_symbol", "network_of"]


def _dsonas(
    architecture: Optional[Architecture] = None,
    space: Optional[SearchSpace] = None,
    width: Optional[int] = None,
    **options: Any,
) -> DSONAS:
    if architecture is None:
        architecture = Architecture.complete(space or SearchSpace.cifar10())
    elif space is not None and space != architecture.space:
        raise ValueError("give an architecture or a space: an architecture has its own space")
    if width is not None:
        architecture = architecture.with_space(width=width)
    return DSONAS(architecture, **options)


MODELS: Dict[str, Callable[..., HybridBlock]] = {
    "dsonas": _dsonas,
    "mobile": Mobile,
    "resnet_preact_1001": partial(resnet_preact, 1001),
    "densenet_bc_190_40": partial(densenet_bc, 190, 40),
}

_CHANGES = ("width", "blocks", "num_classes", "in_channels", "image_size")


def _found(name: str, **options: Any) -> DSONAS:
    """An architecture of `symbols.architectures`, in its network or one of another size."""
    changes = {key: options.pop(key) for key in _CHANGES if options.get(key) is not None}
    return DSONAS(architectures.load(name).with_space(**changes), **options)


MODELS.update((name, partial(_found, name)) for name in architectures.names())


def get_model(
    name: str, architecture: Optional[AnyArchitecture] = None, **options: Any
) -> HybridBlock:
    """A network by name.

    Parameters
    ----------
    name : str
        ``'dsonas'``: `space=` or an architecture, `width=`, and the options of `DSONAS`.
        ``'mobile'``: an architecture of the mobile setting, and the options of `Mobile`.
        ``'dsonas_share_cifar10'`` and all of `symbols.architectures.names()`: `width=`, `blocks=`,
        `num_classes=`, `in_channels=`, `image_size=`, and the options of `DSONAS`.
        ``'resnet_preact_1001'``, ``'densenet_bc_190_40'``: `num_classes=`, no architecture.
    architecture : Architecture, optional
        What was found; the complete architecture of `space` by default.

    Returns
    -------
    HybridBlock
        Not initialised.

    Examples
    --------
    >>> supernet = get_model('dsonas', space=SearchSpace.cifar10(), weighted=True)
    >>> found = get_model('dsonas', Architecture.load('architecture.json'), width=36)
    """
    if name not in MODELS:
        raise ValueError(f"no network {name!r}; known are {', '.join(sorted(MODELS))}")
    if name in ("dsonas", "mobile"):
        return MODELS[name](architecture, **options)
    if architecture is not None:
        raise ValueError(f"{name} takes no architecture")
    return MODELS[name](**options)


def get_symbol(
    name: str, architecture: Optional[AnyArchitecture] = None, **options: Any
) -> mx.sym.Symbol:
    """The symbol of `get_model` of the same arguments, with the input ``'data'``."""
    with mx.name.NameManager():  # the same names, whatever was built before
        outputs = get_model(name, architecture, **options)(mx.sym.Variable("data"))
    return mx.sym.Group(outputs) if isinstance(outputs, (list, tuple)) else outputs


def network_of(architecture: AnyArchitecture, **options: Any) -> HybridBlock:
    """The network of an architecture of either setting, with the options of its class."""
    return get_model(architecture.network, architecture, **options)
