"""Files and folders that are written whole or not at all, whenever the process or machine ends."""

import errno
import filecmp
import hashlib
import json
import os
import re
import shutil
import stat
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Callable, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from .checks import shown

_MOST_BYTES = 2**26  # of JSON

PathLike = Union[str, "os.PathLike[str]"]


@contextmanager
def naming(path: PathLike) -> Iterator[None]:
    """Give an error of the system that names no file, as that of a full disk, this name."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = os.fspath(path)
        raise


@contextmanager
def in_file(path: PathLike) -> Iterator[None]:
    """Put the name of a file before what is wrong with its content, a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


@contextmanager
def atomic(path: PathLike) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends well.

    It takes that of a link's target, not the link's; devices and pipes are written to.
    """
    target = Path(os.path.realpath(path))
    aside = TemporaryDirectory() if _is_stream(path) else None
    temporary = _beside(target) if aside is None else Path(aside.name) / target.name
    try:
        with naming(path):
            yield temporary
            if aside is None:
                _to_disk(temporary)
                os.replace(temporary, target)
                _to_disk(target.parent)
            else:
                with open(path, "ab", opener=without_waiting) as stream:
                    stream.write(temporary.read_bytes())
    finally:
        if aside is not None:
            aside.cleanup()
        elif temporary.exists():
            temporary.unlink()


def refuse_existing(*paths: PathLike) -> None:
    """Refuse to take the place of what is there already.

    Raises
    ------
    ValueError
        Something is.
    """
    for path in paths:
        if os.path.lexists(path):
            raise ValueError(
                f"{os.fspath(path)} is there already: remove it, or give another place"
            )


@contextmanager
def adding(folder: PathLike) -> Iterator[Path]:
    """A temporary folder; its files go into `folder`, where what is there has to be the same."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{os.getpid()}.", dir=folder) as place:
        yield Path(place)
        made = sorted(Path(place).iterdir())
        for path in made:
            there = folder / path.name
            if not (there.is_file() and filecmp.cmp(path, there, shallow=False)):
                refuse_existing(there)
        for path in made:
            move(path, folder / path.name)


def move(source: PathLike, target: PathLike) -> None:
    """Put a file that is finished in its place, as `atomic` does."""
    with atomic(target) as temporary:
        shutil.move(os.fspath(source), os.fspath(temporary))


def _is_stream(path: PathLike) -> bool:
    """Whether it is a device, a pipe, or another thing that takes what is written, in order.

    /dev/stdout is, also where it is a file: that is open, and more may be written to it.
    """
    folder = os.path.realpath(Path(path).parent)
    if folder == "/dev" or folder.startswith("/proc/"):
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:  # not there yet
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def atomic_folder(path: PathLike) -> Iterator[Path]:
    """A temporary folder beside `path`, which must not exist, renamed when the block ends well."""
    target = Path(path)
    temporary = _beside(target)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            _to_disk(file)
        _to_disk(temporary)
        os.rename(temporary, target)
        _to_disk(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def without_waiting(path: PathLike, flags: int) -> int:
    """An opener for `open` that does not wait for a pipe's other side.

    Raises
    ------
    OSError
        Nobody reads what would be written into the pipe.
    """
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:
            error.strerror = "a pipe that nobody reads"
        raise
    os.set_blocking(descriptor, True)
    return descriptor


def is_pipe(path: PathLike) -> bool:
    """Whether it is a pipe or a socket, which give and take nothing while nobody is behind."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # not there
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def open_regular(path: PathLike, most: Optional[int] = None) -> BinaryIO:
    """A regular file of at most so many bytes, open for reading.

    Everything that may come from others is opened here.

    Raises
    ------
    ValueError
        It is a pipe or a device, on which a reader may wait for ever, or larger; the message names
        the file.
    OSError
        It cannot be opened.
    """
    descriptor = without_waiting(path, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{os.fspath(path)}: no regular file, but a pipe or a device")
        if most is not None and status.st_size > most:
            raise ValueError(f"{os.fspath(path)}: has more than {most:,} bytes")
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: PathLike, most: int) -> bytes:
    """The content of a regular file of at most so many bytes; raises as `open_regular`."""
    with open_regular(path, most) as file:
        return file.read()


def sha256(path: PathLike) -> str:
    """The checksum of a regular file."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            digest.update(part)
    return digest.hexdigest()


def remove_temporary(folder: PathLike) -> None:
    """Remove what `atomic` and `atomic_folder` left in a folder when their process was killed."""
    for path in Path(folder).iterdir():
        if re.match(r"\.\d+\..", path.name):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def write_text(path: PathLike, text: str, errors: str = "strict") -> None:
    """Write a text in UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


def write_lines(path: PathLike, lines: Iterable[str], errors: str = "strict") -> None:
    """Write lines, which do not end themselves."""
    write_text(path, "".join(f"{line}\n" for line in lines), errors)


def write_json(path: PathLike, content: Any) -> None:
    """Write `content` as JSON, a field a line."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: PathLike, parse: Callable[[Any], Any] = lambda data: data) -> Any:
    """What a JSON file has, or what `parse` makes of it.

    Raises
    ------
    ValueError
        The file is not JSON, or `parse` raises one; the message has the file's name.
    OSError
        It cannot be read.
    """
    content = read_regular(path, _MOST_BYTES)
    with in_file(path):
        return parse(parse_json(content))


def parse_json(content: bytes) -> Any:
    """What a JSON file has; no field twice, no NaN.

    Raises
    ------
    ValueError
        It is not JSON.
    """
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


def _beside(target: Path) -> Path:
    return target.with_name(f".{os.getpid()}.{target.name}")


def _to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's names, would survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unique_names(folders: Iterable[Path]) -> List[str]:
    """The last parts of the paths, as many as tell them apart."""
    parts = [folder.absolute().parts for folder in folders]
    for count in range(1, 20):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise ValueError("a run is given twice")
