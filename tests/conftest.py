"""Fixtures that several test files use."""

import importlib.util
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import dsonas_mx  # noqa: F401  before any test imports mxnet, which it makes importable
from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.cli import parser
from dsonas_mx.data import recordio
from dsonas_mx.data.augment import Augmentation
from dsonas_mx.data.images import Images
from dsonas_mx.data.loader import Loader
from dsonas_mx.engine import graph

import cv2
import mxnet as mx
import numpy as np
import pytest

from symbols import get_model

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory):
    """Tests run in an empty folder, whatever lies in that where they were started.

    Signals are as in a terminal, also in the background of a script, where SIGINT is ignored, and
    under nohup: processes that tests start inherit that.
    """
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    os.chdir(before)


def pytest_collection_modifyitems(items):
    """A report has what the mark of a fault says, also that of another process: the table of
    docs/reliability.md is made of it.
    """
    for number, item in enumerate(items):
        for mark in item.iter_markers("fault"):
            item.user_properties.append(("fault", (number, mark.args[0], mark.kwargs["lost"])))


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference vectors."""
    return Path(__file__).parent / "golden"


@pytest.fixture
def in_child(request):
    """`in_child(program, **variables)`: what a program prints in a process of its own.

    MXNet reads variables such as ``MXNET_MKLDNN_ENABLED`` once. The program may import test files.
    """

    def run(program: str, **variables: str) -> str:
        path = [
            *map(str, (request.path.parent, ROOT / "tests", ROOT)),
            os.environ.get("PYTHONPATH", ""),
        ]
        variables = {"MXNET_STORAGE_FALLBACK_LOG_VERBOSE": "0", **variables}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def plain(monkeypatch):
    """Without the project's own operators, whether or not they were built."""
    monkeypatch.setattr(graph.native, "load", lambda: False)


@pytest.fixture(params=["plain", "native"])
def operators(request, monkeypatch):
    """With MXNet's operators, and with the project's own, where they were built.

    How far a gradient may be from MXNet's, of its array's largest.
    """
    if request.param == "plain":
        monkeypatch.setattr(graph.native, "load", lambda: False)
    elif not graph.native.load():
        pytest.skip("the operators were not built: python -m dsonas_mx.engine.native")
    return 1e-5 if request.param == "plain" else 1e-4


@pytest.fixture(scope="session")
def striped_records():
    """`striped_records(folder, {"train": 60}, width)`: NAME.rec of stripes of three directions, a
    class each, on images 36 high; with `files` also files/NAME0.png and so on.
    """

    def write(folder, counts, width, files=False):
        generator = np.random.RandomState(0)
        rows, columns = np.mgrid[:36, :width] // 4
        patterns = [rows % 2, columns % 2, (rows + columns) % 2]
        if files:
            (folder / "files").mkdir()
        for name, count in counts.items():
            entries = []
            for key in range(count):
                noise = generator.randint(0, 60, (36, width, 3))
                pixels = (noise + 150 * patterns[key % 3][..., None]).astype(np.uint8)
                data = cv2.imencode(".png", pixels)[1].tobytes()
                entries.append(recordio.Entry(key, key % 3, data, f"{key}.png"))
                if files:
                    (folder / "files" / f"{name}{key}.png").write_bytes(data)
            recordio.write(folder / f"{name}.rec", entries)
        return folder

    return write


@pytest.fixture(scope="session")
def tiny_space():
    """`tiny_space(**changes)`: two levels of two operations, two stages, images of 8×8."""

    def space(**changes):
        options = {
            "levels": 2,
            "operations": ("sep3", "max"),
            "blocks": (1, 1),
            "width": 4,
            "num_classes": 3,
            "in_channels": 1,
            "image_size": 8,
        }
        return SearchSpace(**{**options, **changes})

    return space


@pytest.fixture(scope="session")
def randomised():
    """`randomised(architecture, contexts, seed, **options)`: a network of random parameters.

    λ and BN scales lie around one, everything differs from what initialisation gives, and the
    moving statistics differ by device.
    """

    def net(architecture, contexts=None, seed=0, **options):
        contexts = contexts or [mx.cpu()]
        network = get_model("dsonas", architecture, **options)
        network.initialize(ctx=contexts)
        generator = np.random.RandomState(seed)
        for name, parameter in network.collect_params().items():
            if "running" in name:
                for context in contexts:
                    bounds = (0.3, 1) if name.endswith("var") else (-0.1, 0.1)
                    parameter.data(context)[:] = generator.uniform(*bounds, parameter.shape)
            elif name.endswith(("lambdas", "gamma")):
                if parameter.grad_req != "null":
                    parameter.set_data(mx.nd.array(generator.uniform(0.5, 1.5, parameter.shape)))
            elif name.endswith(("beta", "bias")):
                parameter.set_data(mx.nd.array(generator.uniform(-0.2, 0.2, parameter.shape)))
            else:
                weight = generator.randn(*parameter.shape)
                parameter.set_data(mx.nd.array(weight / np.sqrt(weight[0].size)))
        return network

    return net


@pytest.fixture(scope="session")
def some_architecture():
    """`some_architecture(space)`: about half of the connections, one branch of the reduction."""

    def pruned(space, seed=3):
        generator = np.random.RandomState(seed)
        lambdas = generator.uniform(-1, 1, (space.num_structures, len(space.connections)))
        lambdas[:, -1] = lambdas[:, 1] = 1  # a way through the last operation is left
        branches = [[0, 1]] * space.num_reductions
        found = Architecture.from_lambdas(space, lambdas, branches)
        assert 0 < found.num_connections < space.num_connections
        return found

    return pruned


@pytest.fixture(scope="session")
def stripes():
    """`stripes(count, seed)`: images of 8×8 that a small network tells apart, in three classes."""

    def images(count, seed=0):
        generator = np.random.RandomState(seed)
        labels = np.arange(count, dtype=np.int32) % 3
        pixels = generator.randint(0, 100, (count, 8, 8, 1)).astype(np.uint8)
        rows, columns = np.mgrid[:8, :8]
        patterns = np.stack([rows % 2, columns % 2, (rows + columns) % 2])[..., None]
        return Images(pixels + 150 * patterns[labels].astype(np.uint8), labels, ("-", "|", "x"))

    return images


@pytest.fixture(scope="session")
def loader(stripes):
    """`loader(count, batch_size, **options)`: batches of `stripes`."""

    def batches(count, batch_size, seed=0, **options):
        augment = Augmentation((0.4,), (0.3,), pad=0, mirror=True)
        if not options.get("shuffle", True):
            augment = augment.plain()
        return Loader(stripes(count, seed), None, batch_size, augment, seed, **options)

    return batches


@pytest.fixture(scope="session")
def small_cifar(tmp_path_factory):
    """A folder like that of CIFAR-10 (python version): 5 × 24 images to train, 20 to test."""
    folder = tmp_path_factory.mktemp("cifar")
    generator = np.random.RandomState(0)
    for name, count in [(f"data_batch_{i}", 24) for i in range(1, 6)] + [("test_batch", 20)]:
        labels = [int(label) for label in np.arange(count) % 10]
        pixels = generator.randint(0, 256, (count, 3072)).astype(np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": labels}, protocol=2))
    return folder


@pytest.fixture
def script_module(monkeypatch):
    """`script_module(name)`: a script as a module."""

    def load(name):
        path = ROOT / name
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])
        monkeypatch.setitem(sys.modules, path.stem, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def script(script_module, monkeypatch, capsys):
    """`script(name, *words)`: run a script in this process → exit status, stdout, stderr."""

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [Path(name).name, *map(str, words)])
        module = script_module(name)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            parser.run(module.main, module.arguments(), getattr(module, "DEMO", None))
        output = capsys.readouterr()
        return int(stopped.value.code or 0), output.out, output.err

    return run


@pytest.fixture(scope="session")
def make_scenes():
    """`make_scenes(folder, train, val, seed)`: synthetic scenes in VOC layout.

    Three classes by colour, blocks of 16 pixels, a frame of ignored pixels, images of two sizes.
    """
    from PIL import Image

    def make(folder, train=8, val=3, seed=0):
        generator = np.random.RandomState(seed)
        for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (folder / name).mkdir(parents=True)
        (folder / "classes.txt").write_text("ground\nleaf\nberry\n")
        colours = np.array([[120, 90, 60], [30, 200, 40], [220, 20, 60]])
        for part, count in (("train", train), ("val", val)):
            names = [f"{part}{number}" for number in range(count)]
            (folder / f"ImageSets/Segmentation/{part}.txt").write_text("\n".join(names) + "\n")
            for number, name in enumerate(names):
                blocks = generator.randint(0, 3, (3, 2 + number % 2))
                mask = blocks.repeat(16, 0).repeat(16, 1).astype(np.uint8)
                image = colours[mask] + generator.randint(-20, 20, (*mask.shape, 3))
                mask[0] = mask[:, 0] = 255
                pixels = image.clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"JPEGImages/{name}.jpg", quality=95)
                masked = Image.fromarray(mask, "P")
                masked.putpalette(list(range(256)) * 3)
                masked.save(folder / f"SegmentationClass/{name}.png")
        return folder

    return make


@pytest.fixture
def voc_and_sbd(make_scenes, tmp_path):
    """A folder with voc, and sbd that has train0 to train4 and val0 to val2; VOC tests on val0 and
    val1, whose masks in SBD are not to be read.
    """
    from PIL import Image

    root = tmp_path / "data"
    make_scenes(root / "voc", train=2, val=2)
    lists = make_scenes(root / "sbd", train=5) / "ImageSets/Segmentation"
    (lists / "train.txt").write_text((lists / "train.txt").read_text() + "val0\nval1\nval2\n")
    (lists / "val.txt").unlink()
    for name in ("val0", "val1"):
        mask = root / f"sbd/SegmentationClass/{name}.png"
        Image.fromarray(np.full((48, 32), 99, np.uint8)).save(mask)
    return root


@pytest.fixture(scope="session")
def scenes_folder(tmp_path_factory, make_scenes):
    """A folder of `make_scenes`; not to be changed."""
    return make_scenes(tmp_path_factory.mktemp("scenes") / "garden")


@pytest.fixture(scope="session")
def pid_of_worker():
    """`pid_of_worker(1, run)`: of those of tools/launch.py that work in a run folder.

    It is neither the process that follows it, nor the server's.
    """

    def find(number, folder):
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = (path / "cmdline").read_text().split("\0")
                variables = (path / "environ").read_text(errors="replace").split("\0")
            except OSError:
                continue
            if str(folder) in words and "launching" not in words[1] and "launch.py" not in words[1]:
                if {"DMLC_ROLE=worker", f"DSONAS_WORKER={number}"} <= set(variables):
                    return int(path.name)
        raise AssertionError("no such worker")

    return find
