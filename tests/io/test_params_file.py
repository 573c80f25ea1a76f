"""Reading `.params` files that may be anything."""

import random
import struct

from dsonas_mx.io.params_file import read_params, write_params

import mxnet as mx
import numpy as np
import pytest

SHAPES = {
    "float32": (2, 3, 1, 4),
    "float64": (5,),
    "float16": (1, 1),
    "uint8": (3, 2),
    "int8": (7,),
    "int32": (2, 2, 2),
    "int64": (1,),
}


def save(path, arrays):
    mx.nd.save(str(path), arrays)
    return path.read_bytes()


def test_reads_what_mxnet_writes(tmp_path):
    generator = np.random.RandomState(0)
    arrays = {
        f"arg:{dtype}": mx.nd.array(generator.randint(0, 100, shape), dtype=dtype)
        for dtype, shape in SHAPES.items()
    }
    save(tmp_path / "a.params", arrays)
    read = read_params(tmp_path / "a.params")
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array.asnumpy())
    save(tmp_path / "empty.params", {"é": mx.nd.zeros((1,))})
    assert list(read_params(tmp_path / "empty.params")) == ["é"]


def test_writes_what_mxnet_would_write(tmp_path):
    generator = np.random.RandomState(0)
    arrays = {
        f"é/{dtype}": generator.randint(0, 100, shape).astype(dtype)
        for dtype, shape in SHAPES.items()
    }
    arrays["turned"] = arrays["é/float32"].T
    write_params(tmp_path / "ours.params", arrays)
    expected = {n: mx.nd.array(a, dtype=a.dtype) for n, a in arrays.items()}
    written = save(tmp_path / "mxnet.params", expected)
    assert (tmp_path / "ours.params").read_bytes() == written
    write_params(tmp_path / "empty.params", {"none": np.zeros((0, 3), np.float32)})
    assert read_params(tmp_path / "empty.params")["none"].shape == (0, 3)


def test_a_full_disk_is_an_error():
    """Even for so little that it fits into a buffer, where MXNet says nothing."""
    with pytest.raises(OSError, match="No space left"):
        write_params("/dev/full", {"a": np.ones((3,), np.float32)})


def test_every_cut_is_noticed(tmp_path):
    path = tmp_path / "a.params"
    content = save(path, {"arg:a": mx.nd.ones((2, 2)), "aux:b": mx.nd.ones((3,))})
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"a\.params: ") as caught:
            read_params(path)
        assert "\n" not in str(caught.value)


def test_damage_is_noticed_or_read_as_it_stands(tmp_path):
    """Never another error, and nothing allocated that the file has no room for."""
    path = tmp_path / "a.params"
    content = save(path, {"arg:a": mx.nd.ones((2, 2)), "aux:b": mx.nd.ones((3,))})
    generator = random.Random(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(content)
        for _ in range(generator.randrange(1, 4)):
            damaged[generator.randrange(len(content))] = generator.choice((0, 1, 127, 128, 255))
        path.write_bytes(damaged)
        try:
            arrays = read_params(path)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error)
        else:
            assert len(arrays) == 2 and sum(array.nbytes for array in arrays.values()) < 100
    assert refused > 150


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: b"", "not a .params file"),
        (lambda c: b"PK\x03\x04" * 20, "not a .params file"),
        (lambda c: c + b"\0", "something follows"),
        (lambda c: c[:16] + struct.pack("<Q", 2**62) + c[24:], "cut off, or damaged"),
        (lambda c: c[:24] + struct.pack("<I", 0xF993FAC8) + c[28:], "not a dense array"),
        (lambda c: c[:28] + struct.pack("<i", 1) + c[32:], "not a dense array"),
        (lambda c: c[:32] + struct.pack("<I", 2**31) + c[36:], "2147483648 dimensions"),
        (lambda c: c[:36] + struct.pack("<q", 2**60) + c[44:], "cut off, or damaged"),
        (lambda c: c[:36] + struct.pack("<q", -1) + c[44:], "unknown type, or damaged"),
        (lambda c: c[:52] + struct.pack("<i", 99) + c[56:], "unknown type, or damaged"),
        (lambda c: c[:-1] + b"\xff", "a name is not text"),
    ],
)
def test_what_is_refused(change, message, tmp_path):
    path = tmp_path / "a.params"
    content = save(path, {"a": mx.nd.ones((1,))})
    path.write_bytes(change(content))
    with pytest.raises(ValueError, match=message):
        read_params(path)


def test_names_are_needed_and_differ(tmp_path):
    save(tmp_path / "list.params", [mx.nd.ones((1,))])
    with pytest.raises(ValueError, match="0 names for 1 arrays"):
        read_params(tmp_path / "list.params")
    content = save(tmp_path / "twice.params", {"a": mx.nd.ones((1,)), "b": mx.nd.ones((1,))})
    (tmp_path / "twice.params").write_bytes(content[:-1] + b"a")
    with pytest.raises(ValueError, match="two arrays have the same name"):
        read_params(tmp_path / "twice.params")


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_params(tmp_path / "nowhere.params")
    with pytest.raises(IsADirectoryError):
        read_params(tmp_path)
    with pytest.raises(ValueError, match="/dev/zero: no regular file"):
        read_params("/dev/zero")
