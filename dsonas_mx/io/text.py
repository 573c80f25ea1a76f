"""Text: what people write, lists of names, classes, hosts; and lines that programs read."""

import codecs
import json
import os
import time
from typing import Any, List, Tuple

from .files import PathLike, read_regular

_MOST_BYTES = 1 << 28


def read_text(path: PathLike) -> str:
    """The text of a file in UTF-8, in UTF-16 with its mark, or else in Latin-1.

    Raises
    ------
    ValueError
        It is no text; the message names the file.
    OSError
        It cannot be read.
    """
    content = read_regular(path, _MOST_BYTES)
    try:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text = content.decode("utf-16")
        else:
            text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    for character in text:
        if not (character.isprintable() or character.isspace()):
            raise ValueError(
                f"{os.fspath(path)}: no text, it has the character {character!r}: save it as UTF-8"
            )
    return text


def read_lines(path: PathLike) -> List[Tuple[int, str]]:
    """Number, from 1, and text of each line that is not empty, without space around it."""
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def json_line(message: str, **fields: Any) -> str:
    """A line of a log: an object of the time, the message, and what it tells of."""
    return json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "message": message, **fields})
