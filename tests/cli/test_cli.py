"""What all command lines share: one line an error, options that win over --demo, data."""

import errno
import io
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from dsonas_mx.cli import data, parser
from dsonas_mx.cli.devices import progress
from dsonas_mx.cli.options import ImageOptions
from dsonas_mx.cli.run import origin
from dsonas_mx.data import DATA_SETS
from dsonas_mx.data.registry import RELEASE_MEAN
from dsonas_mx.io.files import atomic
from dsonas_mx.io.options import Groups, Options, group, option, positive
from dsonas_mx.search.options import parse_split

import mxnet as mx
import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Few(Options):
    demo: bool = option(False, decides=False)
    learning_rate: float = option(0.1, "rate", "--lr", check=positive)
    epochs: int = option(120, "number")


@dataclass(frozen=True)
class Some(Groups):
    few: Few = group(Few(), "few")


@pytest.fixture
def call(monkeypatch, capsys):
    """`call(main, *words, demo=…)`: what a script does → exit status, stdout, stderr."""

    def run(main, *words, demo=None):
        monkeypatch.setattr("sys.argv", ["script.py", *words])
        with pytest.raises(SystemExit) as stopped:
            parser.run(main, parser.Parser(Some, prog="script.py"), demo)
        output = capsys.readouterr()
        return stopped.value.code, output.out, output.err

    return run


def raising(error):
    def main(options):
        raise error

    return main


@pytest.mark.parametrize(
    "error, status, line",
    [
        (ValueError("levels must be at least 1, got 0"), 2, "levels must be at least 1, got 0"),
        (FileNotFoundError("no such file"), 2, "no such file"),
        (FileNotFoundError(2, "No such file", "a"), 2, "a: No such file; check the path"),
        (OSError(28, "No space left on device", "a"), 2, "a: No space left on device"),
        (ArithmeticError("the loss is nan"), 1, "the loss is nan"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (mx.MXNetError("Check failed: a == b"), 1, "MXNet: a == b"),
    ],
)
def test_errors_are_one_line(call, error, status, line):
    assert call(raising(error)) == (status, "", f"script.py: {line}\n")


def test_names_become_options_of_commands_too():
    whole = parser.Parser(prog="tool.py")
    step = whole.add_subparsers(dest="name").add_parser("step")
    step.add_argument("-b", "--batch-size")
    assert whole.named("`batch_size` and `other`") == "--batch-size and other"


def test_errors_of_mxnet_lose_their_stack(call):
    def multiply(options):
        mx.nd.dot(mx.nd.ones((2, 3)), mx.nd.ones((2, 3))).asnumpy()

    status, _, err = call(multiply)
    assert status == 1
    assert err.startswith("script.py: MXNet: ")
    assert "dot shape error: [2,3] X [2,3]" in err
    assert len(err.splitlines()) == 1


def test_a_bug_keeps_its_traceback(call):
    with pytest.raises(TypeError, match="a bug"):
        call(raising(TypeError("a bug")))


def test_an_error_of_several_lines_is_put_on_one(call):
    _, _, err = call(raising(ValueError("first\n  second\n")))
    assert err == "script.py: first second\n"


@pytest.mark.parametrize(
    "words, message",
    [
        (["--unknown", "1"], "unrecognized arguments: --unknown 1"),
        (["--lr", "fast"], "argument --lr: invalid float value: 'fast'"),
        (["--epochs", "1.5"], "argument --epochs: invalid int value: '1.5'"),
    ],
)
def test_bad_options(call, words, message):
    called = []
    assert call(called.append, *words) == (2, "", f"script.py: {message}\n")
    assert not called


def test_the_status_of_main(call):
    assert call(lambda options: None)[0] == 0
    assert call(lambda options: 3)[0] == 3


def test_lost_output_is_an_error(monkeypatch, capsys):
    """Also of a tool that is given a run; a run itself has all of it in its folder."""
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(parser.streams, "lost", lambda: full)
    monkeypatch.setattr("sys.argv", ["export.py", "RUN"])
    tool = parser.Parser(prog="export.py")
    tool.add_argument("run")
    with pytest.raises(SystemExit) as stopped:
        parser.run(lambda options: None, tool)
    expected = "export.py: standard output: No space left on device\n"
    assert (stopped.value.code, capsys.readouterr().err) == (2, expected)


@pytest.mark.parametrize(
    "words, lr, epochs",
    [
        ([], 0.1, 120),
        (["--lr", "1"], 1.0, 120),
        (["--demo"], 0.1, 2),
        (["--demo", "--epochs", "5"], 0.1, 5),
        (["--epochs", "120", "--demo"], 0.1, 120),  # the default, but it was asked for
    ],
)
def test_options_that_are_given_win_over_the_demo(call, words, lr, epochs):
    seen = []
    call(seen.append, *words, demo={"epochs": 2})
    assert (seen[0].few.learning_rate, seen[0].few.epochs) == (lr, epochs)
    assert seen[0].record() == {"demo": "--demo" in words, "lr": lr, "epochs": epochs}
    assert seen[0].given == {word[2:] for word in words if word.startswith("--")}


def test_help_shows_defaults(capsys):
    with pytest.raises(SystemExit) as stopped:
        parser.Parser(Some, prog="script.py").read(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "--lr LR" in text and "rate (default: 0.1)" in text


def test_the_library_s_names_become_options(call):
    """Of a value that is checked when the options are built, and of any other message."""
    expected = "script.py: --lr must be above 0 and finite, got 0.0\n"
    assert call(lambda options: None, "--lr", "0") == (2, "", expected)
    error = ValueError("give a smaller `lr`, `learning_rate` or `width`")
    assert call(raising(error))[2] == "script.py: give a smaller --lr, --lr or width\n"


@pytest.mark.parametrize(
    "text, parts", [("4:1", (4, 1)), ("1:1", (1, 1)), ("none", None), ("0:1", (0, 1))]
)
def test_splits(text, parts):
    assert parse_split(text) == parts  # 0:1 is refused by SearchOptions


@pytest.mark.parametrize("text", ["1", "1:x", "1:2:3", "", ":", "1.5:1"])
def test_refuses_splits(text):
    with pytest.raises(ValueError, match=f"^`split` must be as 4:1, or none, got '{text}'$"):
        parse_split(text)


def statistics(name):
    return DATA_SETS[name].mean, DATA_SETS[name].std


def test_known_images_get_the_side_that_is_asked_for(small_cifar):
    options = ImageOptions(data_set="cifar10", data_dir=str(small_cifar), image_size=16)
    train, test, augmentation = data.load_images(options)
    assert train.image_shape == test.image_shape == (16, 16, 3)
    assert augmentation.pad == 2
    assert options.about.images()["image_size"] == 16


def test_embedded_images():
    train, test, augmentation = data.load_images(ImageOptions(data_set="fashion_mnist"), cutout=4)
    assert (len(train), len(test)) == (6000, 2000)
    assert (augmentation.mean, augmentation.std) == statistics("fashion_mnist")
    assert (augmentation.pad, augmentation.fill, augmentation.cutout) == (2, 0, 4)
    assert augmentation.mirror


def test_images_of_a_folder(small_cifar):
    train, test, augmentation = data.load_images(ImageOptions(data_dir=str(small_cifar)))
    assert (len(train), len(test)) == (120, 20)
    assert (augmentation.mean, augmentation.std) == statistics("cifar10")
    assert (augmentation.pad, augmentation.fill, augmentation.cutout) == (4, 127, 0)


@pytest.mark.parametrize(
    "data_set, how, mean",
    [
        ("cifar10", "own", DATA_SETS["cifar10"].mean),
        ("cifar10", "release", RELEASE_MEAN),
        ("cifar100", "own", DATA_SETS["cifar100"].mean),
        ("cifar100", "release", RELEASE_MEAN),
    ],
)
def test_normalisation(data_set, how, mean):
    augmentation = data.augmentation(ImageOptions(data_set=data_set, normalize=how), cutout=3)
    assert (augmentation.mean, augmentation.pad, augmentation.cutout) == (mean, 4, 3)


def test_what_does_not_fit_the_embedded_images(small_cifar):
    with pytest.raises(ValueError, match="fashion_mnist is embedded: leave out"):
        ImageOptions(data_set="fashion_mnist", data_dir=str(small_cifar))
    with pytest.raises(ValueError, match="`normalize` release is for CIFAR: leave it out"):
        ImageOptions(data_set="fashion_mnist", normalize="release")


def test_the_origin_names_neither_folders_nor_devices(script_module):
    options = script_module("train/search_cifar.py").Options.of(
        {"save_dir": "runs/a", "gpus": "0", "cpus": 2, "seed": 3, "split": (4, 1), "lr": 0.3}
    )
    found = origin(options, "fashion_mnist")
    assert list(found)[:3] == ["data", "normalize", "batch_size"]
    assert (found["data"], found["seed"], found["split"]) == ("fashion_mnist", 3, "4:1")
    assert found["lr"] == 0.3 and not {"save_dir", "data_dir", "gpus", "cpus"} & set(found)


def test_progress_shows_what_is_left_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    steps = iter(progress(range(4), 4, "search 3 of 9", later=40_000))
    for _ in range(3):
        next(steps)
        time.sleep(0.15)
    shown = sys.stderr.getvalue().split("\r")[-1]
    # 40,002 steps of 0.15 s and a little more are left, 2 of them in this epoch.
    found = re.match(r"search 3 of 9: +50%.*2/4,.* left: 00:0\d, of the run (\d):(\d\d):", shown)
    assert found, shown
    assert 0.15 * 40_000 <= 3600 * int(found[1]) + 60 * int(found[2]) + 60 < 3 * 0.15 * 40_000


def test_progress_passes_everything_on(capsys):
    assert list(progress(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""  # no bar where there is no terminal


def test_a_full_disk_names_the_file(tmp_path, call):
    def main(options):
        with atomic(tmp_path / "model.params"):
            raise OSError(errno.ENOSPC, "No space left on device")

    expected = f"script.py: {tmp_path}/model.params: No space left on device\n"
    assert call(main) == (2, "", expected)


HELPS = """
import contextlib, io, runpy, sys
for name in sys.argv[1:]:
    sys.argv, sys.path[0] = [name, "--help"], name.rsplit("/", 1)[0]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        runpy.run_path(name, run_name="__main__")
    for heavy in {"mxnet", "matplotlib"} & set(sys.modules):
        sys.exit(f"{name} --help loads {heavy}")
"""


def test_help_waits_for_no_heavy_imports():
    """MXNet takes three seconds of processor time, Matplotlib one."""
    scripts = [str(path) for folder in ("train", "tools") for path in (ROOT / folder).glob("*.py")]
    command = [sys.executable, "-c", HELPS, *sorted(scripts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [(), ("--log-format", "json")])
def test_an_error_shows_what_a_terminal_would_obey(monkeypatch, capsys, words):
    """Names of parameters and files are quoted, and a damaged file may have any."""
    monkeypatch.setattr(sys, "argv", ["x.py", *words])
    with pytest.raises(SystemExit):
        parser.Parser(prog="x.py").error("the parameter a\x1b[2Jb\x08 is missing")
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "\x1b" not in said and "\x08" not in said
    assert "a\\x1b[2Jb\\x08 is missing" in (json.loads(said)["message"] if words else said)
