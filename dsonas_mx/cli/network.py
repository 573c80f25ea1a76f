"""Options of the network, its devices and its memory."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from typing import Any, Callable, Dict, Iterable, List, Tuple

import mxnet as mx
from mxnet.gluon import HybridBlock, Parameter

from ..cost import baseline
from ..cost.mobile import count_network
from ..cost.width import Measure, Target, fit_width, multiply_adds, parameters
from ..data import DataSet
from ..engine.device import contexts
from ..engine.graph import DTYPES, PROGRESS, TrainGraph
from ..engine.recompute import parse_mirror
from ..engine.workers import KINDS, Workers
from ..engine.workers import connect as workers_of
from ..space.architecture import Architecture
from ..space.mobile_architecture import AnyArchitecture
from ..space.normal import SCOPES, SearchSpace, parse_blocks
from .parser import number
from .run import recorded

_SIZES = ("width", "target_params", "target_flops", "target_latency")
_PAPER = {"cifar": ("target_params", "3.0M"), "imagenet": ("target_flops", "600M")}  # by the stem


def add_network(
    parser: argparse.ArgumentParser, stem: str, find: Callable[[str], str] = str
) -> argparse._ArgumentGroup:
    """Which network to train: a file's, or a baseline; and its size, which is the paper's for a
    network with that stem if no other is given. `find` gives the file of a name.
    """
    name, text = _PAPER[stem]
    default = {name: f"; {text} if no size, --like or small setting is given"}
    group = parser.add_argument_group("network")
    which = group.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--architecture",
        metavar="FILE",
        type=find,
        help="what a search found, or the name of one in symbols/architectures",
    )
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
    size.add_argument(
        "--target-params",
        type=number,
        help=f"as 3.0M: the widest within it{default.get('target_params', '')}",
    )
    size.add_argument(
        "--target-flops",
        type=number,
        help=f"multiply-adds, as 600M{default.get('target_flops', '')}",
    )
    size.add_argument(
        "--target-latency", type=float, help="ms of a forward pass of one image, on the device"
    )
    group.add_argument("--divisor", type=int, help="of a width that a target chooses; 1 if none")
    group.add_argument(
        "--blocks",
        help="blocks a stage, not the file's; the paper's if no size is given, and one block is "
        "shared by all",
    )
    return group


def load_network(
    options: argparse.Namespace, space: SearchSpace, data: DataSet, latency: Measure
) -> Architecture:
    """The architecture that the options of `add_network` ask for, for images of that data set.

    What a file is changed to, in width or depth, is also what a baseline is made like.

    Parameters
    ----------
    space : SearchSpace
        Of a baseline without a file.
    latency : callable
        Milliseconds of the network of an architecture, for a target of latency.
    """
    file = options.architecture or options.like
    if options.architecture and options.like:
        raise ValueError("--like is for --random and --full-network")
    network = Architecture.load(file) if file else Architecture.complete(space)
    if space.stem == "imagenet" != network.space.stem:  # found on CIFAR
        network = network.transferred_to(space)
    _complete_size(options, network.space, space)
    changes: Dict[str, Any] = {
        "num_classes": len(data.classes),
        "in_channels": data.channels,
        "image_size": data.image_size,
    }
    if options.blocks is not None:
        changes["blocks"] = parse_blocks(options.blocks, len(network.space.blocks))
    network = network.with_space(**changes)
    if file:
        found = fitted(network, options, latency)
        return found if options.architecture else baseline.like(found, options.random, options.seed)
    if options.full_network:
        return fitted(network, options, latency)
    space = replace(network.space, scope=options.random)
    if options.target_params is not None:
        most, divisor = options.target_params, _divisor(options)
        return baseline.random_within(space, options.seed, most, divisor)
    return fitted(baseline.random_network(space, options.seed), options, latency)


def _complete_size(options: argparse.Namespace, space: SearchSpace, paper: SearchSpace) -> None:
    """Give the options the paper's size, unless they, or those of a run that goes on, speak
    against it.

    With it goes the paper's depth, where all blocks are one: what a small search found in a block
    a stage would else become three very wide ones.
    """
    name, text = _PAPER[paper.stem]
    if options.demo or options.like or any(getattr(options, size) is not None for size in _SIZES):
        return
    size, before = number(text), recorded(options)
    if before is None or before.get(name) == size:
        setattr(options, name, size)  # for the record, too
        if options.blocks is None and before is not None:
            options.blocks = before.get("blocks")
        elif options.blocks is None and space.scope == "share" and space.blocks != paper.blocks:
            options.blocks = _listed(paper.blocks)


def fitted(
    architecture: Architecture, options: argparse.Namespace, latency: Measure
) -> Architecture:
    """The architecture of the width of the options, or of that which a target chooses."""
    if options.target_params is not None:
        target = Target("parameters", options.target_params, parameters)
    elif options.target_flops is not None:
        target = Target("multiply-adds", options.target_flops, multiply_adds)
    elif options.target_latency is not None:
        target = Target("ms", options.target_latency, latency)
    elif options.divisor is not None:
        raise ValueError(
            "--divisor is of the width that a target chooses: give a target, or leave it out"
        )
    elif options.width is not None:
        return architecture.with_space(width=options.width)
    else:
        return architecture
    architecture = fit_width(architecture, target, _divisor(options))
    print(target.describe(architecture))
    return architecture


def _divisor(options: argparse.Namespace) -> int:
    return 1 if options.divisor is None else int(options.divisor)


def add_devices(parser: argparse.ArgumentParser) -> None:
    """`--gpus`, `--cpus` and `--kv-store`."""
    group = parser.add_argument_group("devices")
    group.add_argument("--gpus", default="", help="numbers of GPUs, as 0,1; empty for the CPU")
    group.add_argument("--cpus", type=int, default=1, help="devices to divide the CPU into")
    group.add_argument(
        "--kv-store",
        choices=KINDS,
        default="device",
        help="dist_sync: with all processes of tools/launch.py, each with such devices",
    )


def connect(options: argparse.Namespace) -> Tuple[Workers, List[mx.Context]]:
    """The workers of `--kv-store`, and the devices of this one."""
    return workers_of(options.kv_store), contexts(options.gpus, options.cpus)


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """`--dtype`."""
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="of maps and convolutions; float16 is for GPUs, parameters stay float32",
    )


def check_dtype(options: argparse.Namespace) -> None:
    """Refuse float16 where MXNet has no kernels for it."""
    if options.dtype == "float16" and not options.gpus.strip() and not options.dry_run:
        raise ValueError("--dtype float16 is for GPUs: give --gpus, or leave it out")


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
    options: argparse.Namespace,
    net: HybridBlock,
    loss: Callable[..., Any],
    architecture: AnyArchitecture,
    steps: int,
) -> None:
    """What a run takes: parameters, connections, multiply-adds, MB, steps an epoch."""
    space = architecture.space
    shape = (options.batch_size, space.in_channels, space.image_size, space.image_size)
    devices, mirror = contexts(options.gpus, options.cpus), parse_mirror(options.mirror)
    dtype = getattr(options, "dtype", "float32")
    graph = TrainGraph(net, loss, shape, shape[:1], devices, mirror, dtype)
    megabytes = graph.plan.megabytes  # the error of what does not fit is all that is printed
    total = count_parameters(net)
    deployed = total - _count(p for p in net.collect_params().items() if "auxiliary" in p[0])
    print(f"parameters     {total:>14,}")
    if deployed < total:
        print(f"  without tower{deployed:>14,}")
    if isinstance(space, SearchSpace):
        widths = tuple(space.width << stage for stage in range(len(space.blocks)))
    else:
        widths = space.widths
    print(f"blocks a stage {_listed(space.blocks):>14}")
    print(f"width of each  {_listed(widths):>14}")
    print(f"connections    {architecture.num_connections:>14,}")
    print(f"multiply-adds  {count_network(architecture).multiply_adds:>14,}")
    print(f"MB a device    {megabytes:>14,.0f}")
    print(f"steps an epoch {steps:>14,}")


def _listed(numbers: Iterable[int]) -> str:
    return ",".join(str(number) for number in numbers)


def count_parameters(net: HybridBlock) -> int:
    """Weights, biases, BN scales (fixed ones too) and shifts, λ; no moving statistics."""
    return _count(net.collect_params().items())


def _count(parameters: Iterable[Tuple[str, Parameter]]) -> int:
    counted = [p for name, p in parameters if "_running_" not in name and name != PROGRESS]
    return sum(math.prod(p.shape) for p in counted)
