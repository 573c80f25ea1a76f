from __future__ import annotations

import struct

from dsonas_mx.data import recordio

import mxnet as mx
import pytest

MAGIC = struct.pack("<I", 0xCED7230A)
PAYLOADS = (b"abcd", b"", b"x" * 301, b"ab" + MAGIC + b"c", b"abcd" + MAGIC * 2 + b"efgh", MAGIC)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "train.rec"
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / "train.idx"), str(path), "w")
    for number, payload in enumerate(PAYLOADS):
        record = mx.recordio.pack(mx.recordio.IRHeader(0, float(number), number, 0), payload)
        if number == 2:  # two labels; mxnet's own pack fails on them with numpy 2.5
            record = struct.pack("<IfQQff", 2, 0, number, 0, 7, 8) + payload
        writer.write_idx(number, record)
    writer.close()
    return path


def test_reads_what_mxnet_wrote(file):
    records = list(recordio.read(file))
    assert tuple(record.image for record in records) == PAYLOADS
    assert [record.label for record in records] == [0, 1, 7, 3, 4, 5]
    assert recordio.read_index(file.with_suffix(".idx")) == [record.offset for record in records]


def test_writes_what_mxnet_would_have_written(file, tmp_path):
    """Byte for byte, payloads with the magic number too; the index as well."""
    entries = [
        recordio.Entry(number, number, payload, f"some/{number}.png")
        for number, payload in enumerate(PAYLOADS)
    ]
    path = tmp_path / "ours.rec"
    recordio.write(path, entries)
    theirs = tmp_path / "theirs.rec"
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / "theirs.idx"), str(theirs), "w")
    for number, payload in enumerate(PAYLOADS):
        header = mx.recordio.IRHeader(0, float(number), number, 0)
        writer.write_idx(number, mx.recordio.pack(header, payload))
    writer.close()
    assert path.read_bytes() == theirs.read_bytes()
    assert (tmp_path / "ours.idx").read_bytes() == (tmp_path / "theirs.idx").read_bytes()
    lines = (tmp_path / "ours.lst").read_text().splitlines()
    assert lines[3] == "3\t3.000000\tsome/3.png" and len(lines) == len(PAYLOADS)


@pytest.mark.parametrize("distance", range(9))
def test_the_magic_number_at_any_place(tmp_path, distance):
    payload = b"x" * distance + MAGIC + b"y" * (8 - distance) + MAGIC + MAGIC[:3]
    recordio.write(tmp_path / "a.rec", [recordio.Entry(0, 1, payload, "a")])
    (record,) = recordio.read(tmp_path / "a.rec")
    assert record.image == payload
    reader = mx.recordio.MXRecordIO(str(tmp_path / "a.rec"), "r")
    assert mx.recordio.unpack(reader.read())[1] == payload
    reader.close()


def test_truncation_at_any_byte_is_named(file):
    data = file.read_bytes()
    starts = [record.offset for record in recordio.read(file)]
    for length in range(len(data)):
        file.write_bytes(data[:length])
        if length in starts:
            assert len(list(recordio.read(file))) == starts.index(length)
            continue
        start = max(start for start in starts if start < length)
        message = rf"train\.rec: ends at byte {length} inside the record at byte {start};"
        with pytest.raises(ValueError, match=message):
            list(recordio.read(file))


def part(kind, payload):
    return MAGIC + struct.pack("<I", kind << 29 | len(payload)) + payload


@pytest.mark.parametrize(
    "data, message",
    [
        (b"PK\3\4" + bytes(28), "not a record at byte 0"),
        (part(0, bytes(8)), "too short for its header"),
        (part(0, struct.pack("<IfQQ", 9, 0, 0, 0)), "too short for its header"),
        (part(2, bytes(24)), "parts out of order"),
        (part(1, bytes(24)) + part(0, bytes(24)), "parts out of order"),
        (part(1, bytes(24)), "ends at byte 32 inside the record at byte 0"),
    ],
)
def test_damage_is_named(tmp_path, data, message):
    path = tmp_path / "val.rec"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"val\.rec.*{message}"):
        list(recordio.read(path))


@pytest.mark.parametrize("line", [b"0", b"0 1 2", b"0\tx", b"\xff\xfe 1x"])
def test_a_damaged_index_is_named(tmp_path, line):
    path = tmp_path / "val.idx"
    path.write_bytes(b"0\t0\n" + line + b"\n")
    with pytest.raises(ValueError, match=r"val\.idx: line 2"):
        recordio.read_index(path)
