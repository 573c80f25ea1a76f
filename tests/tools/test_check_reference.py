"""The tool that compares our network with reference vectors."""

import re

from dsonas_mx.space.normal import SearchSpace

import edge_by_edge
import numpy as np
import pytest


@pytest.fixture
def tool(script):
    """`tool(*words)` → exit status, stdout, stderr."""
    return lambda *words: script("tools/check_reference.py", *words)


@pytest.fixture(scope="module")
def small():
    """A small file of reference vectors, as a dict."""
    space = SearchSpace(
        levels=2, operations=("sep3", "max"), blocks=(1, 1, 1), width=4, image_size=12
    )
    return edge_by_edge.reference(space, 0)


def change(arrays, changes):
    changed = dict(arrays)
    for name, value in changes.items():
        if value is None:
            del changed[name]
        else:
            changed[name] = value(changed[name].copy()) if callable(value) else value
    return changed


def set_first(value):
    def change_first(array):
        array.flat[0] = value
        return array

    return change_first


def test_golden_file(golden, tool, plain):
    status, out, err = tool(golden / "cifar_share_supernet.npz")
    assert (status, err) == (0, "")
    assert "363 arrays compared, 0 failed" in out
    found = re.findall(r"^(\S.*?) +(\d+) compared, .* ([0-9.e+-]+) in ", out, re.M)
    assert [(group, int(count)) for group, count, _ in found] == [
        ("outputs", 2),
        ("statistics", 120),
        ("gradients", 226),
        ("λ gradients", 15),
    ]
    assert all(0 < float(difference) < 1e-4 for *_, difference in found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grad:fc1_bias": lambda a: a + 0.01 * abs(a).max()}, "^grad:fc1_bias: "),
        ({"grad:lambda_after": lambda a: -a}, "^grad:lambda_after: 2.00e"),
        ({"aux_after:bn0_moving_mean": lambda a: a + 2e-4 * abs(a).max()}, "^aux_after:bn0"),
        ({"out:eval": lambda a: a + 2e-4}, "^out:eval: "),
        ({"out:train": set_first(np.nan)}, "^out:train: nan"),
        ({"grad:fc1_bias": set_first(np.inf)}, "^grad:fc1_bias: nan"),
        ({"arg:conv0_weight": set_first(np.nan)}, "conv0_weight has a value that is not finite"),
        ({"grad:unheard_of": np.ones(3)}, "'grad:unheard_of' is nothing"),
        ({"grad:fc1_bias": None}, "grad:fc1_bias is not in the file"),
        ({"aux_after:bn0_moving_var": None}, "aux_after:bn0_moving_var is not in the file"),
        ({"arg:fc1_bias": None}, "no array for the parameter fc_bias"),
        ({"arg:stage2_unit1_output_conv_2_weight": None}, "conv_2_weight is missing"),
        ({"arg:lambda_after": None}, "lambda_after is missing"),
        ({"arg:unheard_of": np.ones(3)}, "'unheard_of' belongs to no network"),
        ({"grad:fc1_bias": lambda a: a[:3]}, r"grad:fc1_bias has the shape \(3,\), not \(10,\)"),
        ({"arg:fc1_bias": lambda a: a[:3]}, r"fc_bias has the shape \(3,\), not \(10,\)"),
        ({"meta": np.array('{"width": 8}')}, "width is 8, but the arrays are of 4"),
        ({"meta": np.array('{"operations": 3}')}, "meta says 3 operations"),
        ({"meta": np.array('{"fix_gamma": "some"}')}, "fix_gamma must be"),
    ],
)
def test_differences_and_unmatched_arrays_fail(changes, message, small, tool, tmp_path):
    np.savez(tmp_path / "file.npz", **change(small, changes))
    status, _, err = tool(tmp_path / "file.npz")
    assert status == 1
    assert re.search(message, err, re.M)


def test_tolerance(small, tool, tmp_path):
    wrong = {
        "grad:fc1_bias": lambda a: a + 0.005 * abs(a).max(),
        "out:eval": lambda a: a * 1.0005,
    }
    np.savez(tmp_path / "file.npz", **change(small, wrong))
    for tolerance, failed in ((1e-2, 0), (4e-3, 2), (1e-3, 2)):
        status, out, _ = tool(tmp_path / "file.npz", "--tolerance", tolerance)
        assert status == (1 if failed else 0)
        assert f"{failed} failed" in out


def test_imagenet(tool, tmp_path):
    space = SearchSpace.imagenet(
        levels=1, blocks=(1, 2, 1, 1), width=6, num_classes=12, image_size=48
    )
    np.savez(tmp_path / "file.npz", **edge_by_edge.reference(space, 0, batch=5))
    status, out, err = tool(tmp_path / "file.npz")
    assert status == 0, err
    assert "1,2,1,1 blocks, width 6, stem imagenet" in out


def test_bad_input_is_refused_in_one_line(tool, tmp_path):
    (tmp_path / "file.npz").write_bytes(b"hello")
    for arguments, message in (
        ([tmp_path / "nowhere.npz"], "No such file"),
        ([tmp_path / "file.npz"], "file.npz: not an .npz file"),
        ([tmp_path / "file.npz", "--tolerance", "0"], "--tolerance must be above 0"),
    ):
        status, out, err = tool(*arguments)
        assert status == 2 and out == ""
        assert message in err and err.count("\n") == 1
