"""Options: values of a frozen dataclass, each defined once.

One definition of a value is its field, its default and its check, its `--option` with the help, and
whether it decides a result. A command line, the record of a run and what it must not change when it
goes on are all made of it.
"""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, Callable, Collection, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple

from .checks import check_int

Check = Callable[[str, Any], object]


class Option(NamedTuple):
    """What a field is to a command line and to a record.

    Attributes
    ----------
    help : str
    flag : str
        ``--option``; that of the field's name if it is empty.
    record : str
        The name in files; that of the flag if it is empty.
    parse, show : callable
        Of the text of a command line; and back.
    choices : sequence of str, optional
    metavar : str, optional
    check : callable, optional
        `check(name, value)` raises ValueError; None is never checked.
    one_of : str
        Of the options with the same word here only one may be given.
    required : bool
        With `one_of`: one of them must be given.
    decides : bool
        Whether it decides a result: then it is written beside it, and a run that goes on must have
        the same. What does not are places, devices, and how a run is watched.
    """

    help: str = ""
    flag: str = ""
    record: str = ""
    parse: Optional[Callable[[str], Any]] = None
    show: Callable[[Any], Any] = lambda value: value
    choices: Optional[Collection[str]] = None
    metavar: Optional[str] = None
    check: Optional[Check] = None
    one_of: str = ""
    required: bool = False
    decides: bool = True


def option(default: Any, help: str = "", flag: str = "", **more: Any) -> Any:
    """A field of `Options`; see `Option`."""
    return field(default=default, metadata={"option": Option(help, flag, **more)})


def place(default: Any, help: str = "", flag: str = "", **more: Any) -> Any:
    """An `option` that decides no result."""
    return option(default, help, flag, decides=False, **more)


@dataclass(frozen=True)
class Options:
    """Base of what belongs together: checks its values when it is built.

    Raises
    ------
    ValueError
        Names the value that is wrong.
    """

    def __post_init__(self) -> None:
        for name, one in options_of(self):
            if one.check is not None and getattr(self, name) is not None:
                one.check(f"`{name}`", getattr(self, name))


def options_of(group: Any) -> Iterator[Tuple[str, Option]]:
    """The options among the fields of `Options`, by field, with all their names."""
    for one in fields(group):
        if "option" in one.metadata:
            known: Option = one.metadata["option"]
            flag = known.flag or f"--{one.name.replace('_', '-')}"
            record = known.record or flag[2:].replace("-", "_")
            yield one.name, known._replace(flag=flag, record=record)


class Group(NamedTuple):
    """What a field that holds `Options` is to a command line.

    Attributes
    ----------
    title : str
        Of the part of the help; empty for none.
    without : collection of str
        Fields that are not for it.
    help : mapping
        Other helps, by field.
    """

    title: str = ""
    without: Collection[str] = ()
    help: Mapping[str, str] = {}


def group(default: Options, title: str = "", **more: Any) -> Any:
    """A field of `Groups`: the options of a group, with the defaults of `default`."""
    return field(default=default, metadata={"group": Group(title, **more)})


@dataclass(frozen=True)
class Groups:
    """Base of all options of a script: its fields are groups.

    Attributes
    ----------
    given : frozenset of str
        The names, as a record has them, of what stood on the command line.
    """

    given: Collection[str] = frozenset()

    @classmethod
    def of(cls, values: Mapping[str, Any], given: Collection[str] = ()) -> Any:
        """Those with these values, by their names in a record; the others have their defaults.

        Raises
        ------
        ValueError
            A value that cannot be.
        """
        complete = cls(frozenset(given))
        values = {**cls.implied(values), **values}
        changes: Dict[str, Dict[str, Any]] = {}
        for group, name, one in members(cls):
            if one.record in values:
                changes.setdefault(group, {})[name] = values[one.record]
        for group, some in changes.items():
            complete = complete.but(group, **some)
        return complete

    @classmethod
    def implied(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Other defaults than those of the groups, where these values are given."""
        return {}

    def but(self, group: str, **changes: Any) -> Any:
        """The same but for some values of a group."""
        return replace(self, **{group: replace(getattr(self, group), **changes)})

    def record(self, deciding: bool = False) -> Dict[str, Any]:
        """The values by name, as a command line has them; of all, or of what decides a result."""
        return {
            one.record: one.show(getattr(getattr(self, group), name))
            for group, name, one in members(self)
            if one.decides or not deciding
        }


def titles(groups: Any) -> Dict[str, str]:
    """The groups of `Groups`, or of such a class, by field: their titles."""
    return {one.name: one.metadata["group"].title for one in fields(groups) if one.metadata}


def members(groups: Any) -> Iterator[Tuple[str, str, Option]]:
    """All options of `Groups`, or of such a class: the group's field, its own, and what it is."""
    for holder in fields(groups):
        if holder.metadata:
            about: Group = holder.metadata["group"]
            for name, one in options_of(holder.default):
                if name not in about.without:
                    yield holder.name, name, one._replace(help=about.help.get(name, one.help))


# Checks


def at_least(least: int) -> Check:
    """A whole number from `least` on."""
    return lambda name, value: check_int(name, value, least)


def not_negative(name: str, value: float) -> None:
    """Refuse what is below 0, or not finite."""
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite, got {value}")


def positive(name: str, value: float) -> None:
    """Refuse what is not above 0, or not finite."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value}")


def fraction(name: str, value: float) -> None:
    """Refuse what is not in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}")


# Texts


def number(text: str) -> int:
    """'3.0M' → 3000000; K, M and G are known."""
    factor = {"K": 10**3, "M": 10**6, "G": 10**9}.get(text[-1:].upper(), 1)
    try:
        return round(float(text[:-1] if factor > 1 else text) * factor)
    except (ValueError, OverflowError):  # inf and nan too
        raise ValueError(f"must be a number such as 500000, 600K or 3.0M, got {text!r}") from None


def names(text: str) -> Tuple[str, ...]:
    """'sep3,max' → ('sep3', 'max')."""
    return tuple(text.split(","))
