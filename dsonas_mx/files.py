"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Union

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
