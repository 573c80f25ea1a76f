"""What the command lines of all scripts share: errors in one line, groups of options, bars."""

from __future__ import annotations

import argparse
import math
import os
import sys
from dataclasses import replace
from typing import Any, Callable, Dict, Iterable, Mapping, NoReturn, Optional, Tuple

import mxnet as mx
from mxnet.gluon import HybridBlock
from tqdm import tqdm

from . import baseline
from .architecture import Architecture
from .cost import count
from .data import DataSet, cifar, fashion_mnist, load
from .data.augment import Augmentation
from .data.images import Images
from .data.loader import split
from .graph import TrainGraph
from .space import SCOPES, SearchSpace, parse_blocks


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
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")  # its notes about MKLDNN are no errors
    options = parser.parse_args()
    if demo and options.demo:
        parser.set_defaults(**demo)
        options = parser.parse_args()
    try:
        sys.exit(main(options) or 0)
    except (ValueError, OSError) as error:
        parser.error(" ".join(line.strip() for line in str(error).splitlines()))
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


def add_network(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Which network to train: a file's, or a baseline; and its size."""
    group = parser.add_argument_group("network")
    which = group.add_mutually_exclusive_group(required=True)
    which.add_argument("--architecture", metavar="FILE", help="what a search found")
    which.add_argument("--random", choices=SCOPES, help="a random network, drawn by --seed")
    which.add_argument("--full-network", action="store_true", help="all operations, connections")
    group.add_argument(
        "--like",
        metavar="FILE",
        help="what a search found, for --random and --full-network: its space, connections a block "
        "and, by the width, at least its parameters; without it the paper's space",
    )
    group.add_argument("--width", type=int, help="channels of the first stage, not the file's")
    group.add_argument("--target-params", type=int, help="the largest width with at most so many")
    group.add_argument("--blocks", help="blocks a stage, not the file's")
    return group


def load_network(options: argparse.Namespace, space: SearchSpace, data: DataSet) -> Architecture:
    """The architecture that the options of `add_network` ask for, for images of that data set.

    What a file is changed to, in width or depth, is also what a baseline is made like.
    """
    file = options.architecture or options.like
    if options.architecture and options.like:
        raise ValueError("--like is for --random and --full-network")
    if options.width is not None and options.target_params is not None:
        raise ValueError("give --width or --target-params, not both")
    found = Architecture.load(file) if file else Architecture.complete(space)
    changes: Dict[str, Any] = {
        "num_classes": len(data.classes),
        "in_channels": data.channels,
        "image_size": data.image_size,
    }
    if options.width is not None:
        changes["width"] = options.width
    if options.blocks is not None:
        changes["blocks"] = parse_blocks(options.blocks, len(found.space.blocks))
    found = found.with_space(**changes)
    if file and options.target_params is not None:
        found = baseline.at_most(found, options.target_params)
    if options.architecture:
        return found
    if file:
        return baseline.like(found, options.random, options.seed)
    if options.full_network:
        return baseline.full_network(found.space, options.target_params)
    space = replace(found.space, scope=options.random)
    return baseline.random_network(space, options.seed, options.target_params)


def add_memory(parser: argparse.ArgumentParser, mirror: str) -> None:
    """`--mirror`, with its default, and `--dry-run`."""
    group = parser.add_argument_group("memory")
    group.add_argument(
        "--mirror",
        default=mirror,
        help="compute activations again in backward: auto for little memory, deep for the least, "
        "off, or so many MB on each device",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="say what the run takes, and stop before it allocates or needs any data",
    )


def print_dry_run(
    graph: TrainGraph, net: HybridBlock, architecture: Architecture, steps: int
) -> None:
    """What a run takes: parameters, connections, multiply-adds, MB, steps an epoch."""
    megabytes = graph.plan.megabytes  # the error of what does not fit is all that is printed
    print(f"parameters     {count_parameters(net):>14,}")
    print(f"connections    {architecture.num_connections:>14,}")
    print(f"multiply-adds  {count(architecture).multiply_adds:>14,}")
    print(f"MB a device    {megabytes:>14,.0f}")
    print(f"steps an epoch {steps:>14,}")


def count_parameters(net: HybridBlock) -> int:
    """Weights, biases, BN scales (fixed ones too) and shifts, λ; no moving statistics."""
    parameters = net.collect_params().items()
    return sum(math.prod(p.shape) for name, p in parameters if "_running_" not in name)


def data_set(options: argparse.Namespace) -> str:
    """The name of the data set, as `dsonas_mx.data.load` knows it."""
    return "fashion_mnist" if options.demo else "cifar10"


def origin(options: argparse.Namespace) -> Dict[str, Any]:
    """Where a result came from: the data set and the options, without folders and devices."""
    elsewhere = ("data_dir", "save_dir", "gpus", "cpus", "demo", "mirror", "dry_run")
    kept = {name: value for name, value in vars(options).items() if name not in elsewhere}
    return {"data": data_set(options), **kept}


def parse_split(text: str) -> Optional[Tuple[int, int]]:
    """'4:1' → (4, 1); 'none' → None."""
    if text == "none":
        return None
    try:
        weights, lambdas = (int(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"--split must be as 4:1, or none, got {text!r}") from None
    return weights, lambdas


def load_images(
    options: argparse.Namespace, cutout: int = 0, validation: int = 0
) -> Tuple[Images, Images, Augmentation]:
    """Training images, test images, and the training augmentation of their data set.

    With `validation`, so many training images are taken out and returned instead of the test
    images: every class alike, and always the same ones.
    """
    if options.demo and options.data_dir:
        raise ValueError("--demo brings its own images: give --data-dir or --demo, not both")
    name = data_set(options)
    train, test = (load(name, options.data_dir, half) for half in (True, False))
    if validation:
        if not 0 < validation < len(train):
            raise ValueError(f"--validation must be from 0 to {len(train) - 1}, got {validation}")
        parts = split(None, train.labels, (len(train) - validation, validation))
        train, test = (Images(train.images[p], train.labels[p], train.classes) for p in parts)
    mean: Tuple[float, ...] = cifar.MEAN
    std: Tuple[float, ...] = cifar.STD
    fill, pad = 127, 4
    if options.demo:  # the background is black, and a garment is not moved far
        mean, std, fill, pad = fashion_mnist.MEAN, fashion_mnist.STD, 0, 2
    return train, test, Augmentation(mean, std, pad=pad, fill=fill, cutout=cutout)


def progress(steps: Iterable[Any], length: int, what: str) -> Iterable[Any]:
    """A bar on a terminal, nothing elsewhere."""
    return tqdm(steps, what, length, leave=False, disable=None, dynamic_ncols=True)
