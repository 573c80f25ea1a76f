"""Checks of values that come from files and options; each says in one line what is wrong."""

import math
import numbers
import operator
import reprlib
import unicodedata
from typing import Any, Dict, List, Mapping, Optional, Sequence

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60

_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # the direction of writing
_DEEPEST = 8  # nesting of free content of a file


def shown(value: Any) -> str:
    """`value` for a message: on one line and not long, whatever it is."""
    return _short.repr(value)


def check_int(field: str, value: Any, least: int, most: int = 2**31 - 1) -> int:
    """`value` as a Python int within bounds; NumPy's integers pass, bool and floats do not."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{field} must be a whole number, got {shown(value)}") from None
    if number < least:
        raise ValueError(f"{field} must be at least {least}, got {shown(number)}")
    if number > most:
        raise ValueError(f"{field} must be at most {most}, got {shown(number)}")
    return number


def check_number(field: str, value: Any, least: float, most: float) -> float:
    """`value` as a float within bounds, which NaN is not; bool does not pass."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{field} must be a number, got {shown(value)}")
    if not least <= value <= most:
        raise ValueError(f"{field} must be from {least:g} to {most:g}, got {shown(value)}")
    return float(value)


def check_printable(field: str, value: Any) -> str:
    """Refuse what is no text, or would do more on a terminal than show."""
    if printable(check_text(field, value)) != value:
        raise ValueError(f"{field} must be text without control characters, got {shown(value)}")
    return str(value)


def printable(text: str) -> str:
    """`text` with escapes in place of what a terminal would obey, or could not show."""
    return "".join(ascii(char)[1:-1] if _is_control(char) else char for char in text)


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _TURNING


def check_text(field: str, value: Any) -> str:
    """Refuse what is no text."""
    if not isinstance(value, str):
        raise ValueError(f"{field} must be text, got {shown(value)}")
    return value


def check_choice(field: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse what is none of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{field} must be {' or '.join(choices)}, got {shown(value)}")


def check_list(field: str, value: Any, length: Optional[int] = None) -> List[Any]:
    """A list, tuple or array, of `length` entries, as a list."""
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise ValueError(f"{field} must be a list, got {shown(value)}")
    if length is not None and len(value) != length:
        raise ValueError(f"{field} must have {length} entries, got {len(value)}")
    return list(value)


def check_object(field: str, data: Any) -> Mapping[str, Any]:
    """Refuse what is no JSON object."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{field} must be an object, got {shown(data)}")
    return data


def check_fields(
    where: str, data: Any, fields: Sequence[str], optional: Sequence[str] = ()
) -> Mapping[str, Any]:
    """A JSON object of these fields and no others; `where` is '' for that of a whole file."""
    check_object(where, data)
    for name in data:
        if name not in fields and name not in optional:
            raise ValueError(
                f"{where} has an unknown field {shown(name)}"
                if where
                else f"unknown field {shown(name)}"
            )
    for name in fields:
        if name not in data:
            raise ValueError(f"{where} has no field {name!r}" if where else f"no field {name!r}")
    return data


def check_format(
    what: str, data: Any, name: str, version: int, fields: Sequence[str]
) -> Mapping[str, Any]:
    """The content of a file that says its `format` and `version`; `what` is 'an architecture'."""
    check_object(what, data)
    if data.get("format") != name:
        raise ValueError(f"format must be {name!r}, got {shown(data.get('format'))}")
    given = data.get("version")
    if type(given) is not int or given != version:
        raise ValueError(f"version must be {version}, got {shown(given)}")
    return check_fields("", data, fields)


def check_json(where: str, value: Any, depth: int = 0) -> Any:
    """A copy of `value` as JSON gives it back, or a ValueError that says where it cannot."""
    if depth > _DEEPEST:
        raise ValueError(f"{where} is nested too deeply")
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} must be finite, got {value}")
        return value
    if isinstance(value, (list, tuple)):
        return [check_json(f"{where}[{i}]", entry, depth + 1) for i, entry in enumerate(value)]
    if isinstance(value, Mapping):
        copy: Dict[str, Any] = {}
        for name, entry in value.items():
            if not isinstance(name, str):
                raise ValueError(f"{where} must have text for names, got {shown(name)}")
            copy[name] = check_json(f"{where}[{shown(name)}]", entry, depth + 1)
        return copy
    raise ValueError(f"{where} cannot be written as JSON: {shown(value)}")
