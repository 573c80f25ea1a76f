"""MXNet's RecordIO, image records as im2rec writes them, without MXNet.

MXNet's own reader ends the process on some damaged files; this one names the file and the place.
Its packing of images fails with recent NumPy.
"""

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO, Iterable, Iterator, List, NamedTuple, Tuple

from ..io.files import atomic, open_regular, read_regular, write_lines

_MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", _MAGIC)
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_HEADER = struct.Struct("<IfQQ")
_MOST_OF_INDEX = 2**30  # bytes


class Record(NamedTuple):
    """Where a record starts in its file, its (first) label, the encoded image, and how many labels
    it has.
    """

    offset: int
    label: float
    image: bytes
    num_labels: int = 1


class Entry(NamedTuple):
    """What `write` takes: number, label, encoded image, and its name in the list."""

    key: int
    label: int
    image: bytes
    name: str


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write records, with their `.idx` (key, offset) and `.lst` (key, label, name) beside them."""
    index, listed = [], []
    with atomic(path) as temporary, open(temporary, "wb") as file:
        for key, label, image, name in entries:
            index.append(f"{key}\t{file.tell()}")
            listed.append(f"{key}\t{label:f}\t{name}")
            file.write(_framed(_HEADER.pack(0, label, key, 0) + image))
    write_lines(path.with_suffix(".idx"), index)
    write_lines(path.with_suffix(".lst"), listed)


def _framed(payload: bytes) -> bytes:
    # Divided, and without it, wherever the magic number itself is at a multiple of four bytes.
    parts, start = [], 0
    at = payload.find(_MAGIC_BYTES)
    while at >= 0:
        if at % 4 == 0:
            parts.append(payload[start:at])
            start = at + 4
        at = payload.find(_MAGIC_BYTES, at + (4 if at % 4 == 0 else 1))
    parts.append(payload[start:])
    last = len(parts) - 1
    framed = []
    for number, part in enumerate(parts):
        kind = (
            _WHOLE if not last else _FIRST if not number else _LAST if number == last else _MIDDLE
        )
        padding = b"\0" * (-len(part) % 4)
        framed.append(struct.pack("<II", _MAGIC, kind << 29 | len(part)) + part + padding)
    return b"".join(framed)


def read(path: Path) -> Iterator[Record]:
    """The records of a file, in its order.

    Raises
    ------
    ValueError
        The file is truncated or is not RecordIO.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        while file.tell() < size:
            offset = file.tell()
            payload = _payload(file, size, path)
            yield _unpack(payload, offset, path)


def read_index(path: Path) -> List[int]:
    """The offsets in an `.idx` file, in ascending order.

    Raises
    ------
    ValueError
        A line is not a key and an offset.
    """
    return sorted(offset for _, offset in _index(path, "make the records again"))


def _index(path: Path, advice: str) -> Iterator[Tuple[int, int]]:
    """Key and offset of each line of an `.idx` file."""
    for number, line in enumerate(read_regular(path, _MOST_OF_INDEX).splitlines(), 1):
        fields = line.split()
        if len(fields) != 2 or not (fields[0].isdigit() and fields[1].isdigit()):
            raise ValueError(f"{path}: line {number} is not a key and an offset; {advice}")
        yield int(fields[0]), int(fields[1])


def _payload(file: BinaryIO, size: int, path: Path) -> bytes:
    # A payload that holds the magic number itself is stored as several parts, split there.
    offset = file.tell()
    parts: List[bytes] = []
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise _truncated(path, size, offset)
        magic, word = struct.unpack("<II", head)
        if magic != _MAGIC:
            raise ValueError(
                f"{path}: not a record at byte {file.tell() - 8}; "
                "the file is corrupt, copy or make it again"
            )
        kind, length = word >> 29, word & (1 << 29) - 1
        padded = (length + 3) // 4 * 4
        if file.tell() + padded > size:
            raise _truncated(path, size, offset)
        if kind not in ((_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)):
            raise ValueError(
                f"{path}: record at byte {offset} has parts out of order; "
                "the file is corrupt, copy or make it again"
            )
        parts.append(file.read(padded)[:length])
        if kind in (_WHOLE, _LAST):
            return _MAGIC_BYTES.join(parts)


def _unpack(payload: bytes, offset: int, path: Path) -> Record:
    start = _HEADER.size
    if len(payload) >= start:
        flag, label, _, _ = _HEADER.unpack_from(payload)
        # A flag above 0 says that so many labels follow the header.
        start += 4 * flag
        if len(payload) >= start:
            if flag:
                (label,) = struct.unpack_from("<f", payload, _HEADER.size)
            return Record(offset, label, payload[start:], max(flag, 1))
    raise ValueError(
        f"{path}: record at byte {offset} is too short for its header; "
        "the file is corrupt, copy or make it again"
    )


def _truncated(path: Path, size: int, offset: int) -> ValueError:
    return ValueError(
        f"{path}: ends at byte {size} inside the record at byte {offset}; "
        "the file is truncated, copy it again"
    )


# Records by their place


class Place(NamedTuple):
    """A record's number in its header, where it starts and ends, its (first) label, how many it
    has, and whether there is an image behind them.
    """

    key: int
    offset: int
    end: int
    label: float
    num_labels: int = 1
    has_image: bool = True


def scan(path: Path, damaged: List[int]) -> Iterator[Place]:
    """The records of a file that can be read, in its order; what is damaged is passed over.

    Parts and records begin with the magic number at a multiple of four bytes, so behind damage the
    next one is found again. `damaged` gets the byte at which each damage begins.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        at, is_good = 0, True
        while at < size:
            file.seek(at)
            try:
                payload = _payload(file, size, path)
                record = _unpack(payload, at, path)
                key, end = _HEADER.unpack_from(payload)[2], file.tell()
                yield Place(key, at, end, record.label, record.num_labels, record.image != b"")
                at = end
                is_good = True
            except ValueError:
                if is_good:
                    damaged.append(at)
                is_good = False
                at = _next_magic(file, at + 4, size)


def read_places(path: Path) -> List[Place]:
    """Key, offset and label of every line of the `.idx` file beside a file, in its order.

    The label is NaN where no record starts.
    """
    places, advice = [], "remove the file, it is made again from the records"
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        for key, offset in _index(path.with_suffix(".idx"), advice):
            head = os.pread(file.fileno(), 36, offset) if offset < size else b""
            places.append(_place(key, offset, head, file))
    return places


def count_records(path: Path) -> int:
    """How many records a file has: by its `.idx`, or else by reading it."""
    index = path.with_suffix(".idx")
    if index.is_file():
        return len(read_regular(index, _MOST_OF_INDEX).splitlines())
    return sum(1 for _ in scan(path, [])) if path.is_file() else 0


def left_out(path: Path, places: Iterable[Place]) -> int:
    """How many bytes of a file are of none of the records at these places."""
    listed = {place.offset: place.end - place.offset for place in places}
    return max(0, os.stat(path).st_size - sum(listed.values()))


def write_places(path: Path, places: Iterable[Place]) -> None:
    """Write the `.idx` file beside a file."""
    write_lines(path.with_suffix(".idx"), (f"{place.key}\t{place.offset}" for place in places))


def read_image(file: BinaryIO, offset: int, path: Path) -> bytes:
    """The encoded image of the record that starts there.

    Raises
    ------
    ValueError
        The record is damaged.
    """
    file.seek(offset)
    return _unpack(_payload(file, os.fstat(file.fileno()).st_size, path), offset, path).image


def _place(key: int, offset: int, head: bytes, file: BinaryIO) -> Place:
    """The place of a record whose first bytes are known; the label is NaN if it is none."""
    start = 8
    if len(head) < start + _HEADER.size or head[:4] != _MAGIC_BYTES:
        return Place(key, offset, offset, math.nan)
    flag, label, _, _ = _HEADER.unpack_from(head, start)
    if flag and len(head) >= start + _HEADER.size + 4:
        (label,) = struct.unpack_from("<f", head, start + _HEADER.size)
    end, kind, length = offset, _FIRST, 0
    while kind not in (_WHOLE, _LAST):  # parts, if the magic number itself is in a record
        words = os.pread(file.fileno(), 8, end) if end > offset else head[:8]
        if len(words) < 8:
            break
        word = struct.unpack("<II", words)[1]
        kind, length = word >> 29, length + (word & (1 << 29) - 1)
        end += 8 + ((word & (1 << 29) - 1) + 3) // 4 * 4
    return Place(key, offset, end, label, max(flag, 1), length > _HEADER.size + 4 * flag)


def _next_magic(file: BinaryIO, at: int, size: int) -> int:
    """Where the next part of a record begins, or the end of the file."""
    block = 1 << 20
    while at < size:
        file.seek(at)
        data = file.read(block + 4)
        found = data.find(_MAGIC_BYTES)
        while found >= 0 and found % 4:
            found = data.find(_MAGIC_BYTES, found + 1)
        if found >= 0:
            return at + found
        at += block
    return size
