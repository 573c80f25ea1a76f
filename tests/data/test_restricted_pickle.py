from __future__ import annotations

import os
import pickle
import struct

from dsonas_mx.data import restricted_pickle

import numpy as np
import pytest


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


PIXELS = np.arange(24, dtype=np.uint8).reshape(4, 6)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("pixels", [PIXELS, np.asfortranarray(PIXELS)])
def test_reads_what_pickle_wrote(protocol, pixels):
    batch = {b"data": pixels, b"labels": [0, 1, 200, 70000], "name": b"\xe9", "none": (None, True)}
    result = restricted_pickle.loads(pickle.dumps(batch, protocol))
    np.testing.assert_array_equal(result.pop("data"), PIXELS)
    assert result == {"labels": [0, 1, 200, 70000], "name": b"\xe9", "none": (None, True)}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "attack",
    [
        lambda path: Call(os.system, f"touch {path}"),
        lambda path: Call(os.mkdir, path),
        lambda path: Call(eval, f"open({path!r}, 'w')"),
        lambda path: Call(getattr, path, "mkdir"),
        lambda path: np.array([Call(os.mkdir, path)], dtype=object),
    ],
)
def test_calls_are_refused_and_not_made(tmp_path, attack, protocol):
    path = str(tmp_path / "made")
    data = pickle.dumps({b"data": attack(path), b"labels": []}, protocol)
    with pytest.raises(ValueError, match="refused"):
        restricted_pickle.loads(data)
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"cos\nsystem\n(S'true'\ntR.", "refused: STRING"),
        (b"cos\nsystem\n.", r"refused: the pickle asks for os\.system"),
        # Dotted names walk into attributes where the unpickler resolves them itself.
        (b"\x80\x04\x8c\x05numpy\x8c\x11dtype.__class__.x\x93.", "asks for numpy.dtype.__class__"),
        (b"\x80\x02cnumpy\nload\n.", "asks for numpy.load"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.", "encoding hex"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "memo index 2147483647"),
        (b"\x80\x02]}b.", "corrupt"),
        (b"\x80\x02c_codecs\nencode\nN}X\x01\x00\x00\x00aNs\x86b.", "corrupt"),
        (b"\x80\x02N.", "holds a NoneType, not a dict"),
        (b"\x80\x02}(]Ku.", "corrupt"),
        (b"", "corrupt"),
        (b"not a pickle", "corrupt|refused"),
    ],
)
def test_other_programs_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        restricted_pickle.loads(data)


def test_stand_ins_cannot_be_changed_by_a_pickle():
    # BUILD with (None, {name: value}) sets attributes of what is on the stack.
    for stand_in in restricted_pickle.STAND_INS:
        before = dict(vars(restricted_pickle.STAND_INS[stand_in]))
        name = "\n".join(stand_in).encode()
        data = b"\x80\x02c" + name + b"\nN}X\x05\x00\x00\x00arrayK\x01s\x86b."
        with pytest.raises(ValueError):
            restricted_pickle.loads(data)
        assert dict(vars(restricted_pickle.STAND_INS[stand_in])) == before


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("array", [PIXELS.astype("float64"), PIXELS > 3, PIXELS.astype("U1")])
def test_only_arrays_of_whole_numbers(array, protocol):
    with pytest.raises(ValueError, match="not of whole numbers"):
        restricted_pickle.loads(pickle.dumps({"data": array}, protocol))


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("dtype", ["<i8", ">i8", "<u2", "i1"])
def test_whole_numbers_of_numpy(dtype, protocol):
    values = np.array([1, 0, 100], dtype)
    result = restricted_pickle.loads(
        pickle.dumps({"array": values, "list": list(values)}, protocol)
    )
    assert result["array"].tolist() == result["list"] == [1, 0, 100]
    assert [type(number) for number in result["list"]] == [int] * 3


def test_an_array_that_is_too_short_is_refused():
    data = pickle.dumps({"data": PIXELS}, 4)
    shape = b"K\x04K\x06"
    assert shape in data
    for other in (b"K\x04K\x07", b"K\xffK\xff", b"NK\x06"):
        with pytest.raises(ValueError, match="corrupt"):
            restricted_pickle.loads(data.replace(shape, other))


def test_truncation_at_any_byte_is_an_error_of_ours():
    for protocol in (2, 4, 5):
        data = pickle.dumps({b"data": PIXELS, b"labels": [1, 2]}, protocol)
        restricted_pickle.loads(data)
        for length in range(len(data)):
            with pytest.raises(ValueError):
                restricted_pickle.loads(data[:length])


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_random_damage_is_an_error_of_ours_or_harmless():
    good = pickle.dumps({b"data": PIXELS, b"labels": [1, 2], b"name": "x"}, 2)
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(3000):
        data = bytearray(good)
        for place in generator.integers(2, len(data), 2):
            data[place] = generator.integers(0, 256)
        try:
            assert isinstance(restricted_pickle.loads(bytes(data)), dict)
        except ValueError:
            refused += 1
    assert refused > 1000


def test_a_large_declared_length_allocates_nothing():
    for head in (b"\x8e" + struct.pack("<Q", 1 << 60), b"B" + struct.pack("<I", 1 << 31)):
        with pytest.raises(ValueError, match="corrupt"):
            restricted_pickle.loads(b"\x80\x04" + head + b"abc.")
