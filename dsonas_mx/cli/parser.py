"""Parsers made of options, and how scripts end: errors in one line, in the words of options."""

import argparse
import os
import re
import sys
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, NoReturn, Optional, Sequence, Type

from ..engine import process
from ..io.checks import printable
from ..io.options import Groups, Option, Options, members, options_of, titles
from ..io.text import json_line
from ..runs.interrupted import Interrupted
from . import streams

_UNSET = object()


class Parser(argparse.ArgumentParser):
    """Prints defaults in its help, and errors in one line.

    Parameters
    ----------
    options : class of Groups, optional
        What it reads; other arguments may be added to a parser that has none.
    """

    def __init__(self, options: Optional[Type[Groups]] = None, **kwargs: Any) -> None:
        super().__init__(formatter_class=argparse.ArgumentDefaultsHelpFormatter, **kwargs)
        self._options = options
        self._flags: Dict[str, str] = {}
        parts: Dict[str, Any] = {"": self}
        exclusive: Dict[str, Any] = {}
        for group, name, one in members(options) if options else ():
            holder = getattr(options, group)
            title = titles(options)[group]
            if title not in parts:
                parts[title] = self.add_argument_group(title)
            part = parts[title]
            if one.one_of:
                if one.one_of not in exclusive:
                    required = one.required
                    exclusive[one.one_of] = part.add_mutually_exclusive_group(required=required)
                part = exclusive[one.one_of]
            _add(part, one, getattr(holder, name))
            self._flags[name] = one.flag

    def read(
        self, words: Optional[Sequence[str]] = None, small: Optional[Mapping[str, Any]] = None
    ) -> Any:
        """The options of a command line; those of `small`, if it asks for it, are its defaults.

        Raises
        ------
        ValueError
            A value that cannot be.
        """
        if self._options is None:
            return self.parse_args(words)
        unset = dict.fromkeys((one.record for _, _, one in members(self._options)), _UNSET)
        found = vars(self.parse_args(words, argparse.Namespace(**unset)))
        given = {name: value for name, value in found.items() if value is not _UNSET}
        start = small if small and given.get("demo") else {}
        return self._options.of({**start, **given}, given)

    def named(self, message: str) -> str:
        """A message of the library: the names of values in backquotes become their options."""
        flags = self._all_flags()
        return re.sub(r"`(\w+)`", lambda found: flags.get(found[1], found[1]), message)

    def _all_flags(self) -> Dict[str, str]:
        """Options by the names of their values; of all commands of one that has commands."""
        flags: Dict[str, str] = {}
        for one in self._actions:
            if isinstance(one, argparse._SubParsersAction):
                for command in one.choices.values():
                    flags.update(command._all_flags())
            elif one.option_strings:
                flags[one.dest] = one.option_strings[-1]
        return {**flags, **self._flags}

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and one line, without the usage."""
        self.exit(2, f"{self.prog}: {self.named(message)}\n")

    def exit(self, status: int = 0, message: Optional[str] = None) -> NoReturn:
        """End the process; one of several workers at once, if it failed."""
        rank = process.rank()
        if message:  # it may quote files, which may hold what a terminal would obey
            message = "\n".join(map(printable, message.splitlines())) + "\n"
            message = f"worker {rank}: {message}" if rank else message
            if _logs_json(sys.argv):
                message = f"{json_line(message.rstrip(), status=status)}\n"
            sys.stderr.write(message)
        if status and process.is_connected():
            process.leave(status)
        sys.exit(status)


def load_script(path: Path) -> Any:
    """A script as a module."""
    spec = spec_from_file_location(f"dsonas_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their names
    spec.loader.exec_module(module)
    return module


def add_commands(
    parser: Parser, commands: Mapping[str, Callable[[argparse.ArgumentParser], None]]
) -> Any:
    """Commands whose arguments functions add, each with `--json`; returns what others go to."""
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, add in commands.items():
        one = names.add_parser(name, help=add.__doc__, description=add.__doc__)
        add(one)
        one.add_argument("--json", action="store_true", help="one line of JSON, the last printed")
    return names


def add_options(parser: argparse.ArgumentParser, group: Options, title: str) -> None:
    """A group of options, to a parser that has others, too; see `taken`."""
    part = parser.add_argument_group(title)
    for name, one in options_of(group):
        _add(part, one, getattr(group, name))


def taken(group: Any, found: argparse.Namespace) -> Any:
    """The options of a group out of what a parser has read."""
    return replace(group, **{name: getattr(found, one.record) for name, one in options_of(group)})


def _add(part: Any, one: Option, default: Any) -> None:
    """An option, to a parser or a part of one."""
    given: Dict[str, Any] = {"dest": one.record, "help": one.help}
    if isinstance(default, bool):
        part.add_argument(one.flag, action="store_true", **given)
        return
    kind = one.parse or (str if default is None else type(default))
    if kind not in (int, float, str):
        kind = _parsing(kind)
    given.update(type=kind, choices=one.choices, metavar=one.metavar)
    part.add_argument(one.flag, default=one.show(default), **given)


def _parsing(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def _logs_json(words: Sequence[str]) -> bool:
    """Whether lines shall be JSON, also those about options that cannot be read."""
    given = ("--log-format", "json") in zip(words, words[1:])
    return given or "--log-format=json" in words


def run(
    main: Callable[[Any], Optional[int]], parser: Parser, demo: Optional[Mapping[str, Any]] = None
) -> NoReturn:
    """Parse the command line, call `main`, and exit; what it raises becomes one line.

    Bad input exits with status 2, a run that failed with 1, an interrupt with 130, SIGTERM with
    143. With `--demo`, the options of `demo` that are not given have its values. Output that is
    lost is an error, but of a run, which has all of it in its folder.
    """
    streams.protect()
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")  # its notes about MKLDNN are no errors
    try:
        options = parser.read(small=demo)
        status = main(options) or 0
        lost = streams.lost()
        if lost and not isinstance(getattr(options, "run", None), Options):  # of a run folder
            raise OSError(lost.errno, lost.strerror, "standard output")
        sys.exit(status)
    except (ValueError, OSError) as error:
        parser.error(" ".join(line.strip() for line in _message(error).splitlines()))
    except ArithmeticError as error:
        parser.exit(1, f"{parser.prog}: {parser.named(str(error))}\n")
    except BrokenExecutor as error:
        parser.exit(1, f"{parser.prog}: a data worker died ({error}): go on with --resume\n")
    except Interrupted as error:
        parser.exit(error.status, f"{parser.prog}: {parser.named(str(error))}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"{parser.prog}: interrupted\n")
    except RuntimeError as error:
        if "MXNetError" not in [kind.__name__ for kind in type(error).__mro__]:
            raise
        said = f"MXNet: {first_line(error)}"
        if "out of memory" in str(error):
            said = parser.named(_out_of_memory(parser))
        parser.exit(1, f"{parser.prog}: {said}\n")


def _message(error: Exception) -> str:
    """What an error of a file, or a value, says."""
    if not isinstance(error, OSError) or not error.filename or not error.strerror:
        return str(error)
    path = os.fspath(error.filename)
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder: give a file"
    wrong_path = isinstance(error, (FileNotFoundError, NotADirectoryError))
    return f"{path}: {error.strerror}{'; check the path' if wrong_path else ''}"


def _out_of_memory(parser: Parser) -> str:
    """What to do where a device has not enough."""
    options = {one.dest for one in parser._actions}
    ways = ["recompute more (--mirror least)"] if "mirror" in options else []
    ways.append("use a smaller batch" + (" (`batch_size`)" if "batch_size" in options else ""))
    return f"a device is out of memory: {', '.join(ways)}, or end what else runs there"


def first_line(error: Exception) -> str:
    """What an MXNet error says, without its stack trace."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if "Check failed" in line or "Error" in line:
            return line.split(": ", 1)[-1].strip()
    return lines[-1] if lines else type(error).__name__
