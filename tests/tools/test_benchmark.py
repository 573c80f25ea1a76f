"""The benchmarks at sizes at which they say nothing, for what they print and check."""

import json
import math
import os
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

from dsonas_mx import SearchSpace
from dsonas_mx.cost.count import count

import mxnet as mx
import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARK = "tools/benchmark.py"
TINY = ["--width", 4, "--batch-size", 2, "--rounds", 1]
OPTIONS = {"width": 4, "blocks": 1, "batch_size": 2}


@pytest.fixture
def bench(monkeypatch):
    """The modules of measurements; a tiny supernet wherever they take the paper's."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from bench import memory, profile, shrink, step

    for module, levels in ((memory, 1), (shrink, 2)):

        def tiny(levels=levels, **changes):
            options = {"levels": levels, "blocks": (2, 2), "width": 8, "image_size": 16, **changes}
            return SearchSpace.cifar10(**options)

        monkeypatch.setattr(module, "SearchSpace", SimpleNamespace(cifar10=tiny, imagenet=tiny))
    monkeypatch.setattr(memory, "SMALL", {"width": 8, "blocks": 1, "batch_size": 64})
    return SimpleNamespace(memory=memory, profile=profile, shrink=shrink, step=step)


def test_step_compares_with_the_original(script):
    status, out, error = script(BENCHMARK, "step", *TINY, "--json")
    assert (status, error) == (0, "")
    result = json.loads(out.splitlines()[-1])
    native = result.pop("native")
    assert {name: result.pop(name) for name in OPTIONS} == OPTIONS
    assert result.keys() == {
        "ratio",
        "ours_s",
        "plain_s",
        "ours_nodes",
        "plain_nodes",
        "max_difference",
    }
    assert result["ratio"] == result["ours_s"] / result["plain_s"] < 1
    assert result["plain_nodes"] == 1048
    assert result["ours_nodes"] < (262 if native else 1048)
    assert 0 < result["max_difference"] < 1e-3


def test_step_sees_a_difference(bench, tiny_space, monkeypatch, operators):
    """One scale, one weight, or one shift of the original that differs a little."""
    bind = bench.step.bind_original
    space = tiny_space(image_size=16)
    assert bench.step.largest_difference(space) < 1e-4
    for name in ("lambda_layer_2_1", "stage2_unit1_1_conv3x3_weight", "fc1_bias"):

        def changed(*arguments, name=name):
            executor = bind(*arguments)
            values = executor.arg_dict[name].asnumpy()
            values.flat[0] += 0.05
            executor.arg_dict[name][:] = values
            return executor

        monkeypatch.setattr(bench.step, "bind_original", changed)
        assert bench.step.largest_difference(space) > 1e-3


def test_nodes_are_operators(bench):
    x = mx.sym.Variable("x")
    assert bench.step.count_nodes(mx.sym.relu(x + mx.sym.Variable("y")) * 2.0) == 3


def test_shrink_measures_smaller_supernets(bench, script, monkeypatch):
    built = []
    supernet = bench.shrink.supernet

    def recorded(*arguments, architecture):
        built.append(architecture)
        return supernet(*arguments, architecture=architecture)

    monkeypatch.setattr(bench.shrink, "supernet", recorded)
    status, out, error = script(BENCHMARK, "shrink", *TINY, "--json")
    assert (status, error) == (0, "")
    result = json.loads(out.splitlines()[-1])
    assert {name: result.pop(name) for name in OPTIONS} == OPTIONS
    assert set(result) == {"seconds", "ratio", "operations", "multiply_adds"}
    assert list(result["seconds"]) == list(result["ratio"]) == ["100", "75", "50", "25", "10"]
    for share, seconds in result["seconds"].items():
        assert result["ratio"][share] == seconds / result["seconds"]["100"] > 0
    total = len(bench.shrink.SearchSpace.cifar10().connections)
    counts = [round(total * share / 100) for share in (100, 75, 50, 25, 10)]
    assert [architecture.num_connections for architecture in built] == counts
    for architecture, (share, left) in zip(built, result["operations"].items()):
        assert left == len(architecture.live_nodes(0)) / 8  # two levels of four
        ours, complete = (count(one).multiply_adds for one in (architecture, built[0]))
        assert result["multiply_adds"][share] == ours / complete
    assert result["operations"]["10"] < result["operations"]["100"] == 1


def test_memory_measures_three_plans(bench, script, monkeypatch):
    child = {"rss_mb": 30.0, "rss_report_mb": 29.0}
    monkeypatch.setattr(bench.memory, "in_child", lambda: child)
    words = ["memory", "--batch-size", 128, "--rounds", 1]
    status, out, error = script(BENCHMARK, *words, "--json")
    assert (status, error) == (0, "")
    result = json.loads(out.splitlines()[-1])
    assert (result["dataset"], result["batch_size"]) == ("cifar10", 128)
    assert {name: result[name] for name in child} == child
    least = result["least_mb"]
    assert least < 0.7 * result["plain_mb"]
    space = bench.memory.SearchSpace.cifar10()
    graph = bench.memory.prepared(space, 128, "least")
    assert least == graph.footprint.total
    assert 0.5 < result["time_overhead"] < 4
    assert len(result) == 8


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_says_what_is_resident():
    """In a child without MKLDNN, as the benchmark runs it; a size of about 100 MB."""
    program = (
        "import json; from bench import memory;"
        "memory.SMALL = {'width': 16, 'blocks': 2, 'batch_size': 32};"
        "print(json.dumps(memory.resident()))"
    )
    path = os.pathsep.join([str(ROOT / "tools"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path, "MXNET_MKLDNN_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["rss_report_mb"] > 80
    assert 0.9 < figures["rss_mb"] / figures["rss_report_mb"] < 1.25


def test_profile_knows_the_work_of_operators(bench):
    """Multiply-adds and bytes of 5×5 images: 3 → 4 channels by 3×3, then depthwise, then relu."""
    x = mx.sym.Variable("data")
    x = mx.sym.Convolution(x, num_filter=4, kernel=(3, 3), no_bias=True)
    x = mx.sym.Convolution(x, num_filter=4, kernel=(2, 2), num_group=4, no_bias=True)
    done = bench.profile.work(mx.sym.relu(x), {"data": (2, 3, 5, 5)})
    first, second = 2 * 9, 2 * 4  # pixels: 3×3 and 2×2, of both images
    convolution = first * 4 * 3 * 9 + second * 4 * 4
    read = 2 * 75 + 4 * 27 + 4 * first + 4 * 4
    assert done["Convolution"] == (convolution, 4 * (read + 4 * first + 4 * second))
    assert done["relu"] == (0, 4 * 2 * 4 * second)


def test_profile_times_operators_longest_first(bench):
    a = mx.nd.ones((400, 400))
    rows = bench.profile.times(lambda: (mx.nd.dot(a, a), mx.nd.relu(mx.nd.ones(4))))
    milliseconds = dict(rows)
    assert milliseconds["dot"] > milliseconds["relu"] > 0
    assert [value for _, value in rows] == sorted(milliseconds.values(), reverse=True)
    assert all(math.isfinite(value) for value in milliseconds.values())
    assert Path(os.devnull).is_char_device()  # MXNet replaces the file that it writes


def test_profile_leaves_no_file_where_none_was(bench, monkeypatch):
    """And what was there: MXNet removes it, though it be the null device of the machine."""
    files, configure = [], mx.profiler.set_config

    def noted(filename, **options):
        files.append(Path(filename))
        assert filename != os.devnull
        configure(filename=filename, **options)

    monkeypatch.setattr(mx.profiler, "set_config", noted)
    bench.profile.times(lambda: mx.nd.relu(mx.nd.ones(4)))
    assert len(files) == 1 and not files[0].parent.exists()


def test_the_table_of_a_document_is_renewed(script, tmp_path, monkeypatch):
    """By `all --into`, from the results of every benchmark, leaving what is around it."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from bench import data, memory, shrink, step

    sizes = {"plain_mb": 4000.0, "least_mb": 700.0}
    overheads = {"time_overhead": 1.5}
    results = {
        step: {"ratio": 0.1, "ours_nodes": 153, "plain_nodes": 1048, "max_difference": 3e-5},
        memory: {**sizes, **overheads},
        shrink: {
            "ratio": {"100": 1.0, "10": 0.2},
            "operations": {"100": 1.0, "10": 0.31},
            "multiply_adds": {"100": 1.0, "10": 0.29},
        },
        data: {"samples_s": 4321.0, "step_samples_s": 100.0, "width": 16},
    }
    asked = []
    for module, result in results.items():

        def measure(options, result=result):
            asked.append((options.name, getattr(options, "dataset", None)))
            return {**result, "batch_size": 64} if "least_mb" in result else result

        monkeypatch.setattr(module, "measure", measure)
    document = tmp_path / "performance.md"
    document.write_text(
        "before\n<!-- performance -->\nold\n<!-- /performance -->\nbehind\n", encoding="utf-8"
    )
    status, _, error = script(BENCHMARK, "all", "--into", document)
    assert (status, error) == (0, "")
    assert asked == [
        ("step", None),
        ("memory", "cifar10"),
        ("memory", "imagenet"),
        ("shrink", None),
        ("data", None),
    ]
    text = document.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- performance -->\n| ")
    assert text.endswith(" |\n<!-- /performance -->\nbehind\n")
    for figure in (
        "0.100",
        "153 instead of 1048",
        "3.0e-05",
        "4000 MB; at least 700 MB",
        "10 %: 0.31",
        "10 %: 0.29",
        "4,321; 100 (width 16)",
    ):
        assert figure in text
    assert "old" not in text
    assert list(tmp_path.iterdir()) == [document]


def test_data_beside_a_step(script, bench):
    status, out, _ = script(BENCHMARK, "data", *TINY, "--json")
    assert status == 0
    result = json.loads(out.splitlines()[-1])
    assert {name: result.pop(name) for name in OPTIONS} == OPTIONS
    assert result["ratio"] == pytest.approx(result["step_samples_s"] / result["samples_s"])
    assert 0 < result["ratio"] < 1


def test_busy_is_over_the_fair_share(script, bench, monkeypatch):
    """Two threads on two cores have 2/3 of them beside one process, and 1/3 beside four."""
    from bench import busy

    beside = []

    @contextmanager
    def counted(count):
        beside.append(count)
        yield

    rates = {
        "ours": {0: 9.0, 1: 5.4, 4: 2.7},
        "bounded": {0: 9.5, 1: 3.8, 4: 1.9},
        "spinning": {0: 10.0, 1: 2.0},
    }
    kinds = iter(rates)
    monkeypatch.setattr(busy, "busy", counted)
    monkeypatch.setattr(busy, "steps_of", lambda policy: nullcontext(next(kinds)))
    monkeypatch.setattr(busy, "rate", lambda process, steps: rates[process][beside[-1]])
    monkeypatch.setattr(busy, "usable_cpus", lambda: 2.0)
    status, out, _ = script(BENCHMARK, "busy", "--rounds", 2, "--json")
    result = json.loads(out.splitlines()[-1])
    assert status == 0 and beside == [0, 1, 4] * 2
    assert result["share"] == pytest.approx({"1": 0.9, "4": 0.9})
    assert result["share_spinning"] == pytest.approx({"1": 0.3})
    assert result["share_bounded"] == pytest.approx({"1": 0.6, "4": 0.6})
    assert (result["idle"], result["idle_bounded"]) == (0.9, 0.95)
    assert (result["cpus"], result["steps_s"]) == (2, 9.0)


def test_a_process_steps_when_it_is_told(bench):
    from bench import busy

    with busy.steps_of({}) as process:
        with busy.busy(1):
            assert busy.rate(process, 1) > 0
    assert process.returncode == 0
