"""What the command lines of all scripts share: errors in one line, groups of options, bars."""

from __future__ import annotations

import argparse
import math
import os
import sys
from dataclasses import replace
from typing import Any, Callable, Dict, Iterable, List, Mapping, NoReturn, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock
from tqdm import tqdm

from . import baseline
from .architecture import Architecture
from .budget import BUDGETS, Constant, Measure, default_budget, make_budget
from .cost import count
from .data import DATA_SETS, DataSet, cifar, load, load_parts
from .data.augment import Augmentation
from .data.images import Images
from .data.loader import split
from .flops_target import FLOPsTarget
from .graph import PROGRESS, TrainGraph
from .latency_table import Table
from .scaling import Target, fit_width, multiply_adds, parameters
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
    """`--data-set`, `--data-dir`, `--normalize`, `--demo`, `--batch-size`, `--seed`."""
    group = parser.add_argument_group("data")
    group.add_argument("--data-set", choices=tuple(DATA_SETS), default="cifar10")
    group.add_argument(
        "--data-dir",
        help="CIFAR as python batches, binary files, or train.rec and val.rec",
    )
    group.add_argument(
        "--normalize",
        choices=("own", "release"),
        default="own",
        help="mean and standard deviation: the data set's own, or those of the authors' release",
    )
    group.add_argument(
        "--demo",
        action="store_true",
        help="a small setting on the embedded Fashion-MNIST; options that are given win over it",
    )
    group.add_argument("--batch-size", type=int, default=128, help="in all, over all devices")
    group.add_argument("--seed", type=int, default=0, help="same seed, same result, on the CPU")


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


def add_budget(parser: argparse.ArgumentParser) -> None:
    """`--budget`, `--gamma0`, `--latency-table` and `--search-flops`."""
    group = parser.add_argument_group("budget")
    group.add_argument(
        "--budget",
        choices=BUDGETS,
        help="what adapts γ by connection; if none is given flops in the full scope",
    )
    group.add_argument("--gamma0", type=float, help="γ0 of budget latency; half of γ if not given")
    group.add_argument(
        "--latency-table",
        help="of tools/measure_latency.py, for budget latency; measured each epoch if not given",
    )
    group.add_argument(
        "--search-flops",
        type=number,
        help="beyond the paper: adapt γ so that the search ends within 5%% of these multiply-adds",
    )


def budget(
    options: argparse.Namespace, space: SearchSpace, measure: Measure
) -> Tuple[Constant, Optional[FLOPsTarget]]:
    """The budget and the target of the options.

    Budget latency uses the table of the options, which must be one of `space`, or else `measure`.
    """
    options.budget = options.budget or default_budget(options.scope)  # for the record
    if options.latency_table is not None:
        if options.budget != "latency":
            raise ValueError(f"--latency-table is of budget latency, not of {options.budget}")
        measure = Table.load(options.latency_table, space)
    latency = measure if options.budget == "latency" else None
    flops = options.search_flops
    return (
        make_budget(options.budget, options.gamma, options.gamma0, latency),
        None if flops is None else FLOPsTarget(flops),
    )


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
    size = group.add_mutually_exclusive_group()
    size.add_argument("--width", type=int, help="channels of the first stage, not the file's")
    size.add_argument("--target-params", type=number, help="as 3.0M: the widest within it")
    size.add_argument("--target-flops", type=number, help="multiply-adds, as 600M")
    group.add_argument("--divisor", type=int, help="of a width that a target chooses; 1 if none")
    group.add_argument("--blocks", help="blocks a stage, not the file's")
    return group


def number(text: str) -> int:
    """'3.0M' → 3000000; K, M and G are known."""
    factor = {"K": 10**3, "M": 10**6, "G": 10**9}.get(text[-1:].upper(), 1)
    value = float(text[:-1] if factor > 1 else text) * factor
    if not math.isfinite(value):
        raise ValueError
    return round(value)


def load_network(options: argparse.Namespace, space: SearchSpace, data: DataSet) -> Architecture:
    """The architecture that the options of `add_network` ask for, for images of that data set.

    What a file is changed to, in width or depth, is also what a baseline is made like.
    """
    file = options.architecture or options.like
    if options.architecture and options.like:
        raise ValueError("--like is for --random and --full-network")
    network = Architecture.load(file) if file else Architecture.complete(space)
    changes: Dict[str, Any] = {
        "num_classes": len(data.classes),
        "in_channels": data.channels,
        "image_size": data.image_size,
    }
    if options.blocks is not None:
        changes["blocks"] = parse_blocks(options.blocks, len(network.space.blocks))
    network = network.with_space(**changes)
    if file:
        found = fitted(network, options)
        return found if options.architecture else baseline.like(found, options.random, options.seed)
    if options.full_network:
        return fitted(network, options)
    space = replace(network.space, scope=options.random)
    if options.target_params is not None:
        return baseline.random_within(space, options.seed, options.target_params, options.divisor)
    return fitted(baseline.random_network(space, options.seed), options)


def fitted(architecture: Architecture, options: argparse.Namespace) -> Architecture:
    """The architecture of the width of the options, or of that which a target chooses."""
    if options.width is not None:
        return architecture.with_space(width=options.width)
    if options.target_params is not None:
        target = Target("parameters", options.target_params, parameters)
    elif options.target_flops is not None:
        target = Target("multiply-adds", options.target_flops, multiply_adds)
    elif options.divisor is not None:
        raise ValueError("--divisor is of the width that a target chooses: give a target")
    else:
        return architecture
    architecture = fit_width(
        architecture, target, 1 if options.divisor is None else options.divisor
    )
    print(target.describe(architecture))
    return architecture


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
    counted = [p for name, p in parameters if "_running_" not in name and name != PROGRESS]
    return sum(math.prod(p.shape) for p in counted)


def data_set(options: argparse.Namespace) -> str:
    """The name of the data set, as `dsonas_mx.data.load` knows it."""
    return options.data_set


def origin(options: argparse.Namespace) -> Dict[str, Any]:
    """Where a result came from: the data set and the options, without folders and devices."""
    elsewhere = (
        "data_set data_dir split_files latency_table save_dir gpus cpus demo mirror dry_run"
    ).split()
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
    train, test = (load(data_set(options), options.data_dir, half) for half in (True, False))
    if validation:
        if not 0 < validation < len(train):
            raise ValueError(f"--validation must be from 0 to {len(train) - 1}, got {validation}")
        parts = split(None, train.labels, (len(train) - validation, validation))
        train, test = (Images(train.images[p], train.labels[p], train.classes) for p in parts)
    return train, test, augmentation(options, cutout)


def load_search_images(
    options: argparse.Namespace, parts: Optional[Tuple[int, int]]
) -> List[Tuple[Images, Optional[np.ndarray]]]:
    """For weights and, with a split, for λ: images, and which of them.

    Those of `--split-files` are all of their file; else `--split` divides the training images.
    """
    if options.split_files is None:
        images = load(data_set(options), options.data_dir)
        return [(images, part) for part in split(None, images.labels, parts or (1,), options.seed)]
    if parts is None:
        raise ValueError("--split none takes no --split-files: leave out one of the two")
    if options.data_dir is not None:
        raise ValueError("--split-files has all images of a search: leave out --data-dir")
    files = load_parts(data_set(options), options.split_files)
    counts = [len(images) for images in files]
    expected = sum(counts) * parts[0] / sum(parts)
    if abs(counts[0] - expected) > len(files[0].classes):  # a split may round in every class
        raise ValueError(
            f"--split-files {options.split_files}: {counts[0]:,} and {counts[1]:,} images are not "
            f"{parts[0]}:{parts[1]}: give their ratio as --split"
        )
    return [(images, None) for images in files]


def augmentation(options: argparse.Namespace, cutout: int = 0) -> Augmentation:
    """The training augmentation of the data set."""
    data = DATA_SETS[data_set(options)]
    mean, std = data.mean, data.std
    if options.normalize == "release":
        if data.channels != len(cifar.RELEASE_MEAN):
            raise ValueError("--normalize release is for CIFAR: leave it out")
        mean, std = cifar.RELEASE_MEAN, cifar.RELEASE_STD
    return Augmentation(mean, std, pad=data.pad, fill=data.fill, cutout=cutout)


def progress(steps: Iterable[Any], length: int, what: str) -> Iterable[Any]:
    """A bar on a terminal, nothing elsewhere."""
    return tqdm(steps, what, length, leave=False, disable=None, dynamic_ncols=True)
