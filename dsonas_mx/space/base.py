"""What the normal and the mobile setting have in common: stages of blocks, and files."""

import os
from dataclasses import asdict, fields
from functools import cached_property
from typing import Any, ClassVar, Dict, Mapping, Tuple, Type, TypeVar, Union

from ..io.checks import check_fields, check_format, check_json
from ..io.files import read_json, write_json

VERSION = 1  # of the files of architectures

S = TypeVar("S", bound="Space")
F = TypeVar("F", bound="Found")


class Space:
    """Base of the search spaces, which are dataclasses."""

    blocks: Tuple[int, ...]

    @property
    def connections(self) -> Tuple[Any, ...]:
        """Of a structure, in the order of λ."""
        raise NotImplementedError

    @property
    def num_blocks(self) -> int:
        """Blocks of the network."""
        return sum(self.blocks)

    @property
    def num_structures(self) -> int:
        """λ vectors: one a block."""
        return self.num_blocks

    @property
    def num_connections(self) -> int:
        """Connections of all structures together."""
        return self.num_structures * len(self.connections)

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

    FORMAT: ClassVar[str]
    FIELDS: ClassVar[Tuple[str, ...]]

    space: Any
    kept: Tuple[Tuple[bool, ...], ...]
    origin: Mapping[str, Any]

    @property
    def num_connections(self) -> int:
        """Surviving connections: of the one block (share scope), or summed over blocks."""
        return sum(map(sum, self.kept))

    def lists(self) -> Dict[str, Any]:
        """What is kept, by name, as its format has it."""
        raise NotImplementedError

    def to_json(self) -> Dict[str, Any]:
        """The format's fields; what is kept by name, in the order of the space."""
        return {
            "format": self.FORMAT,
            "version": VERSION,
            "space": self.space.to_json(),
            **self.lists(),
            "origin": check_json("origin", self.origin),  # a copy
        }

    @classmethod
    def from_json(cls: Type[F], data: Mapping[str, Any]) -> F:
        """The architecture that `to_json` wrote.

        Raises
        ------
        ValueError
            A field is unknown, missing or wrong; the message names it.
        """
        return cls.of_lists(check_format("an architecture", data, cls.FORMAT, VERSION, cls.FIELDS))

    @classmethod
    def of_lists(cls: Type[F], data: Mapping[str, Any]) -> F:
        """That of the fields of a file, which are all there."""
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
