"""Parameters for a backbone from a run that trained it for something else."""

from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..engine.flat import is_lambda
from ..io.files import PathLike, sha256
from ..io.params_file import read_params

PRETRAINED = "pretrained.params"  # in the folder of a search: its supernet before the search
_FIRST_DEVICE = "net.0/"  # of a parameter in a checkpoint
_MOST_NAMES = 5


class Taken(NamedTuple):
    """Names of the parameters that were taken over, and of those of a file that were not.

    Attributes
    ----------
    taken : list of str
    missing : list of str
        Of the network; they keep what they had.
    other : list of str
        In the file, of another shape than in the network.
    left : list of str
        In the file alone, as those of its classifier.
    """

    taken: List[str]
    missing: List[str]
    other: List[str]
    left: List[str]

    def __str__(self) -> str:
        kinds = {
            "not in the file": self.missing,
            "of another shape": self.other,
            "not used": self.left,
        }
        parts = [
            f"{len(names)} {kind} ({', '.join(names[:_MOST_NAMES])}"
            f"{', …' if len(names) > _MOST_NAMES else ''})"
            for kind, names in kinds.items()
            if names
        ]
        return "; ".join([f"{len(self.taken)} parameters taken over", *parts])


def parameters_file(run: PathLike, pretrained: bool = False) -> Path:
    """The file of parameters of a run folder or of a checkpoint, or the file itself.

    Of a search those at its end or, if `pretrained`, those from before it, where it has them.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    path = Path(run)
    names = [PRETRAINED] if pretrained else []
    for candidate in (path, *(path / name for name in (*names, "model.params", "arrays.params"))):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"{path}: neither model.params nor a checkpoint's arrays.params there")


def read_parameters(file: PathLike) -> Dict[str, np.ndarray]:
    """The parameters of a file of `parameters_file` by name."""
    arrays = read_params(file)
    prefixed = {
        n[len(_FIRST_DEVICE) :]: a for n, a in arrays.items() if n.startswith(_FIRST_DEVICE)
    }
    return prefixed or arrays


def digest(file: PathLike) -> str:
    """What tells one file of parameters from another."""
    return sha256(file)[:16]


def take_over(net: HybridBlock, arrays: Mapping[str, np.ndarray], backbone: HybridBlock) -> Taken:
    """Give the parameters of a network, initialised, the values of those of the same name.

    Scales λ stay as they are, and names that are not of the `backbone` are not said to be missing.

    Raises
    ------
    ValueError
        Nothing fits.
    """
    known = {n: p for n, p in net.collect_params().items() if not is_lambda(p)}
    wanted = [name for name in backbone.collect_params() if name in known]
    found = Taken([], [n for n in wanted if n not in arrays], [], [])
    for name, array in arrays.items():
        if name not in known:
            found.left.append(name)
        elif known[name].shape != array.shape:
            found.other.append(name)
        else:
            known[name].set_data(mx.nd.array(array))
            found.taken.append(name)
    if not set(found.taken) & set(wanted):
        raise ValueError(f"nothing fits this backbone: {found}")
    return found
