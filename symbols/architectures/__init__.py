"""Architectures that this project found: each with its origin, its result, and its symbol.

``NAME.json`` is an architecture; its origin has the options of the search, the result of the
training, and what they were run with. ``NAME-symbol.json`` is the symbol of its network, so that a
diff shows when that changes; ``python -m symbols.architectures`` writes it anew.
"""

from pathlib import Path
from typing import Tuple

from dsonas_mx.space.architecture import Architecture

FOLDER = Path(__file__).parent


def names() -> Tuple[str, ...]:
    """Names of the architectures."""
    files = FOLDER.glob("*.json")
    return tuple(sorted(path.stem for path in files if not path.stem.endswith("-symbol")))


def find(text: str) -> str:
    """The file of an architecture by name; else what is given, which is a file's path."""
    return str(FOLDER / f"{text}.json") if text in names() else text


def load(name: str) -> Architecture:
    """An architecture by name, in the network in which it was trained.

    Raises
    ------
    ValueError
        There is none of that name.
    """
    if name not in names():
        raise ValueError(f"no architecture {name!r}; known are {', '.join(names())}")
    return Architecture.load(FOLDER / f"{name}.json")
