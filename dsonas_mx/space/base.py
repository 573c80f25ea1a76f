"""What the normal and the mobile setting have in common: stages of blocks, and files."""

from __future__ import annotations

import os
from dataclasses import asdict, fields
from functools import cached_property
from typing import Any, Dict, Mapping, Tuple, Type, TypeVar, Union

from ..io.checks import check_fields
from ..io.files import read_json, write_json

S = TypeVar("S", bound="Space")
F = TypeVar("F", bound="Found")


class Space:
    """Base of the search spaces, which are dataclasses."""

    blocks: Tuple[int, ...]

    @cached_property
    def block_positions(self) -> Tuple[Tuple[int, int], ...]:
        """(stage, block), both from 1, of every block in the order of the network."""
        return tuple(
            (stage, block)
            for stage, count in enumerate(self.blocks, 1)
            for block in range(1, count + 1)
        )

    def to_json(self) -> Dict[str, Any]:
        """The fields, as JSON has them."""
        values: Dict[str, Any] = asdict(self)  # type: ignore[call-overload]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_json(cls: Type[S], data: Mapping[str, Any]) -> S:
        """The space that `to_json` wrote.

        Raises
        ------
        ValueError
            A field is unknown, missing, or of a wrong value; the message names it.
        """
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        return cls(**check_fields("space", data, names))


class Found:
    """Base of the architectures: a file, and in a notebook a picture."""

    kept: Tuple[Tuple[bool, ...], ...]

    @property
    def num_connections(self) -> int:
        """Surviving connections: of the one block (share scope), or summed over blocks."""
        return sum(map(sum, self.kept))

    def to_json(self) -> Dict[str, Any]:
        """The fields of its format."""
        raise NotImplementedError

    @classmethod
    def from_json(cls: Type[F], data: Mapping[str, Any]) -> F:
        """The inverse of `to_json`."""
        raise NotImplementedError

    def save(self, path: Union[str, os.PathLike]) -> None:
        """Write the JSON file; nothing is left half-written."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls: Type[F], path: Union[str, os.PathLike]) -> F:
        """Read the JSON file.

        Raises
        ------
        ValueError
            The file is not an architecture; the message has its name and the field.
        OSError
            It cannot be read.
        """
        return read_json(path, cls.from_json)

    def _repr_png_(self) -> bytes:
        from ..plots import draw_architecture, png  # which are made of architectures

        return png(draw_architecture(self))
