"""What the command lines of all scripts share: errors in one line, groups of options, bars."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Callable, Iterable, Mapping, NoReturn, Optional, Tuple

import mxnet as mx
from tqdm import tqdm

from .data import cifar, fashion_mnist, load
from .data.augment import Augmentation
from .data.images import Images


class Parser(argparse.ArgumentParser):
    """Prints defaults in its help, and errors in one line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(formatter_class=argparse.ArgumentDefaultsHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and one line, without the usage."""
        self.exit(2, f"{self.prog}: {message}\n")


def run(
    main: Callable[[argparse.Namespace], Optional[int]],
    parser: Parser,
    demo: Optional[Mapping[str, Any]] = None,
) -> NoReturn:
    """Parse the command line, call `main`, and exit; what it raises becomes one line.

    Bad input exits with status 2, a run that failed with 1, an interrupt with 130. With `--demo`,
    the options of `demo` that are not given have its values.
    """
    options = parser.parse_args()
    if demo and options.demo:
        parser.set_defaults(**demo)
        options = parser.parse_args()
    try:
        sys.exit(main(options) or 0)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except ArithmeticError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    except mx.MXNetError as error:
        parser.exit(1, f"{parser.prog}: MXNet: {first_line(error)}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"{parser.prog}: interrupted\n")


def first_line(error: Exception) -> str:
    """What an MXNet error says, without its stack trace."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if "Check failed" in line or "Error" in line:
            return line.split(": ", 1)[-1].strip()
    return lines[-1] if lines else type(error).__name__


def add_devices(parser: argparse.ArgumentParser) -> None:
    """`--gpus` and `--cpus`."""
    group = parser.add_argument_group("devices")
    group.add_argument("--gpus", default="", help="numbers of GPUs, as 0,1; empty for the CPU")
    group.add_argument("--cpus", type=int, default=1, help="devices to divide the CPU into")


def add_data(parser: argparse.ArgumentParser) -> None:
    """`--data-dir`, `--demo`, `--batch-size`, `--seed`."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data-dir",
        help="CIFAR-10 as python batches, binary files, or train.rec and val.rec",
    )
    group.add_argument(
        "--demo",
        action="store_true",
        help="a small setting on the embedded Fashion-MNIST; options that are given win over it",
    )
    group.add_argument("--batch-size", type=int, default=128, help="in all, over all devices")
    group.add_argument("--seed", type=int, default=0, help="same seed, same result, on the CPU")


def load_images(
    options: argparse.Namespace, cutout: int = 0
) -> Tuple[Images, Images, Augmentation]:
    """Training images, test images, and the training augmentation of their data set."""
    if options.demo and options.data_dir:
        raise ValueError("--demo brings its own images: give --data-dir or --demo, not both")
    name = "fashion_mnist" if options.demo else "cifar10"
    train, test = (load(name, options.data_dir, half) for half in (True, False))
    mean: Tuple[float, ...] = cifar.MEAN
    std: Tuple[float, ...] = cifar.STD
    fill, pad = 127, 4
    if options.demo:  # the background is black, and a garment is not moved far
        mean, std, fill, pad = fashion_mnist.MEAN, fashion_mnist.STD, 0, 2
    return train, test, Augmentation(mean, std, pad=pad, fill=fill, cutout=cutout)


def progress(steps: Iterable[Any], length: int, what: str) -> Iterable[Any]:
    """A bar on a terminal, nothing elsewhere."""
    return tqdm(steps, what, length, leave=False, disable=None, dynamic_ncols=True)
