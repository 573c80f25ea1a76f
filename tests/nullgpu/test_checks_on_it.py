"""tools/check_gpu.py, whose checks must fail here: nothing computes."""

import json

CHECKS = {"reference_vectors", "sums_of_gradients", "float16", "two_devices", "memory", "times"}


def test_what_computes_nothing_does_not_pass(script, tmp_path):
    status, out, err = script("tools/check_gpu.py", "--gpus", "0,1", "--out", tmp_path / "gpu.json")
    assert (status, err) == (1, "")
    result = json.loads((tmp_path / "gpu.json").read_text())
    checks = result["checks"]
    assert not result["passes"] and set(checks) == CHECKS
    for name in ("reference_vectors", "sums_of_gradients", "float16", "two_devices"):
        assert not checks[name]["passes"]
    assert not [check["error"] for check in checks.values() if "error" in check]
    assert result["machine"]["compute capability"] == "8.6"
    assert f"please send {tmp_path / 'gpu.json'}, in an issue of" in out
