"""What all command lines share: one line an error, options that win over --demo, data."""

import argparse
import errno
import io
import re
import sys
import time

from dsonas_mx import cli
from dsonas_mx.data import cifar, fashion_mnist
from dsonas_mx.io.files import atomic

import mxnet as mx
import pytest


@pytest.fixture
def call(monkeypatch, capsys):
    """`call(main, *words, demo=…)`: what a script does → exit status, stdout, stderr."""

    def run(main, *words, demo=None):
        parser = cli.Parser(prog="script.py")
        parser.add_argument("--demo", action="store_true")
        parser.add_argument("--lr", type=float, default=0.1, help="rate")
        parser.add_argument("--epochs", type=int, default=120, help="number")
        monkeypatch.setattr("sys.argv", ["script.py", *words])
        with pytest.raises(SystemExit) as stopped:
            cli.run(main, parser, demo)
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
    assert (seen[0].lr, seen[0].epochs) == (lr, epochs)


def test_help_shows_defaults(capsys):
    parser = cli.Parser(prog="script.py")
    cli.add_data(parser)
    cli.add_devices(parser)
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "(default: 128)" in text
    for option in ("--data-dir", "--demo", "--batch-size", "--seed", "--gpus", "--cpus"):
        assert option in text


@pytest.mark.parametrize(
    "text, parts", [("4:1", (4, 1)), ("1:1", (1, 1)), ("none", None), ("0:1", (0, 1))]
)
def test_splits(text, parts):
    assert cli.parse_split(text) == parts  # 0:1 is refused by SearchOptions


@pytest.mark.parametrize("text", ["1", "1:x", "1:2:3", "", ":", "1.5:1"])
def test_refuses_splits(text):
    with pytest.raises(ValueError, match=f"^--split must be as 4:1, or none, got '{text}'$"):
        cli.parse_split(text)


def options(**changes):
    given = {"demo": False, "data_set": "cifar10", "data_dir": None, "normalize": "own"}
    return argparse.Namespace(**{**given, **changes})


def test_embedded_images():
    train, test, augmentation = cli.load_images(options(data_set="fashion_mnist"), cutout=4)
    assert (len(train), len(test)) == (6000, 2000)
    assert (augmentation.mean, augmentation.std) == (fashion_mnist.MEAN, fashion_mnist.STD)
    assert (augmentation.pad, augmentation.fill, augmentation.cutout) == (2, 0, 4)
    assert augmentation.mirror


def test_images_of_a_folder(small_cifar):
    train, test, augmentation = cli.load_images(options(data_dir=str(small_cifar)))
    assert (len(train), len(test)) == (120, 20)
    assert (augmentation.mean, augmentation.std) == (cifar.MEAN, cifar.STD)
    assert (augmentation.pad, augmentation.fill, augmentation.cutout) == (4, 127, 0)


@pytest.mark.parametrize(
    "data_set, how, mean",
    [
        ("cifar10", "own", cifar.MEAN),
        ("cifar10", "release", cifar.RELEASE_MEAN),
        ("cifar100", "own", cifar.MEAN_100),
        ("cifar100", "release", cifar.RELEASE_MEAN),
    ],
)
def test_normalisation(data_set, how, mean):
    augmentation = cli.augmentation(options(data_set=data_set, normalize=how), cutout=3)
    assert (augmentation.mean, augmentation.pad, augmentation.cutout) == (mean, 4, 3)


def test_what_does_not_fit_the_embedded_images(small_cifar):
    given = options(data_set="fashion_mnist", data_dir=str(small_cifar))
    with pytest.raises(ValueError, match="fashion_mnist is embedded: leave out --data-dir, or"):
        cli.load_images(given)
    with pytest.raises(ValueError, match="--normalize release is for CIFAR: leave it out"):
        cli.augmentation(options(data_set="fashion_mnist", normalize="release"))


def test_the_origin_names_neither_folders_nor_devices():
    given = options(
        data_set="fashion_mnist", save_dir="runs/a", gpus="0", cpus=2, seed=3, split="4:1"
    )
    assert cli.origin(given) == {
        "data": "fashion_mnist",
        "normalize": "own",
        "seed": 3,
        "split": "4:1",
    }
    assert cli.origin(options())["data"] == "cifar10"


def test_progress_shows_what_is_left_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    steps = iter(cli.progress(range(4), 4, "search 3 of 9", later=40_000))
    for _ in range(3):
        next(steps)
        time.sleep(0.15)
    shown = sys.stderr.getvalue().split("\r")[-1]
    # 40,002 steps of 0.15 s and a little more are left, 2 of them in this epoch.
    found = re.match(r"search 3 of 9: +50%.*2/4,.* left: 00:0\d, of the run (\d):(\d\d):", shown)
    assert found, shown
    assert 0.15 * 40_000 <= 3600 * int(found[1]) + 60 * int(found[2]) + 60 < 3 * 0.15 * 40_000


def test_progress_passes_everything_on(capsys):
    assert list(cli.progress(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""  # no bar where there is no terminal


def test_a_checkpoint_that_is_none_is_refused_before_there_is_a_folder(tmp_path):
    given = options(
        resume=False, resume_from=str(tmp_path), checkpoint_minutes=30, save_dir=str(tmp_path / "a")
    )
    given.tensorboard = given.dry_run = False
    with pytest.raises(ValueError, match=r"--resume-from .*: no checkpoint; they are RUN/checkpoi"):
        cli.check_run(given)
    assert not (tmp_path / "a").exists()


def test_a_full_disk_names_the_file(tmp_path, call):
    def main(options):
        with atomic(tmp_path / "model.params"):
            raise OSError(errno.ENOSPC, "No space left on device")

    expected = f"script.py: {tmp_path}/model.params: No space left on device\n"
    assert call(main) == (2, "", expected)
