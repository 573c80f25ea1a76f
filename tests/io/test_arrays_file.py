""".npz files that ask for more memory than they have are refused before it is taken."""

import io
import zipfile

from dsonas_mx.io.arrays_file import read_arrays

import numpy as np
import pytest


def test_reads_what_numpy_writes(tmp_path):
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "turned": np.arange(6).reshape(2, 3).T,
        "text": np.array("{}"),
        "none": np.zeros((0, 3), np.float32),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        read = read_arrays(tmp_path / "a.npz", 10_000)
        assert list(read) == list(arrays)
        for name, array in arrays.items():
            assert read[name].dtype == array.dtype
            np.testing.assert_array_equal(read[name], array)


def member(shape):
    content = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, header)
    return content.getvalue()


def test_bombs(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, a=np.zeros(2**24, np.uint8))  # 16 KB of it
    assert path.stat().st_size < 2**15
    with pytest.raises(ValueError, match="bomb.npz: its arrays have more than 1,048,576 bytes"):
        read_arrays(path, 2**20)
    for shape in ((2**40,), (-5, 2), (3,)):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", member(shape) + bytes(16))
        with pytest.raises(ValueError, match="bomb.npz: an array has more or fewer bytes"):
            read_arrays(path, 2**20)


def test_objects_are_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="a.npz: not an .npz file of plain arrays"):
        read_arrays(tmp_path / "a.npz", 2**20)
    (tmp_path / "a.npz").write_bytes(b"hello")
    with pytest.raises(ValueError, match="a.npz: not an .npz file, or damaged"):
        read_arrays(tmp_path / "a.npz", 2**20)
