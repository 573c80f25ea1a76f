"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple, Union

from .space import shown

PathLike = Union[str, "os.PathLike[str]"]


@contextmanager
def atomic(path: PathLike) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends well."""
    target = Path(path)
    temporary = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        if temporary.exists():
            temporary.unlink()


def write_json(path: PathLike, content: Any) -> None:
    """Write `content` as JSON, a field a line."""
    with atomic(path) as temporary:
        text = json.dumps(content, indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def parse_json(content: bytes) -> Any:
    """What a JSON file holds; ValueError for text that is none, NaN, and a field twice."""
    try:
        return json.loads(
            content.decode("utf-8"),
            parse_constant=_refuse_constant,
            object_pairs_hook=_without_duplicates,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("not a JSON file: not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not a JSON file: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON knows")


def _without_duplicates(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    data: Dict[str, Any] = {}
    for name, value in pairs:
        if name in data:
            raise ValueError(f"field {shown(name)} is there more than once")
        data[name] = value
    return data
