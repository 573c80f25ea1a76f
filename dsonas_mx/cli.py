"""What the command lines of all scripts share: errors in one line, groups of options, bars."""

from __future__ import annotations

import argparse
import math
import os
import sys
from concurrent.futures import BrokenExecutor
from typing import Any, Callable, Dict, Iterable, Mapping, NoReturn, Optional, Tuple

import mxnet as mx
from mxnet.gluon import HybridBlock
from tqdm import tqdm

from .architecture import Architecture
from .cost import count
from .data import cifar, fashion_mnist, load
from .data.augment import Augmentation
from .data.images import Images
from .device import contexts
from .graph import TrainGraph
from .loop import Loop
from .mirror import parse_mirror
from .run import Run
from .session import Interrupted, Session


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

    Bad input exits with status 2, a run that failed with 1, an interrupt with 130, SIGTERM with
    143. With `--demo`,
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
    except BrokenExecutor as error:
        parser.exit(1, f"{parser.prog}: a data worker died ({error}): go on with --resume\n")
    except mx.MXNetError as error:
        parser.exit(1, f"{parser.prog}: MXNet: {first_line(error)}\n")
    except Interrupted as error:
        parser.exit(error.status, f"{parser.prog}: {error}\n")
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


def add_run(parser: argparse.ArgumentParser, save_dir: str) -> None:
    """`--save-dir`, with its default, and how a run survives."""
    group = parser.add_argument_group("run folder")
    group.add_argument("--save-dir", default=save_dir, help="the run folder")
    group.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    group.add_argument(
        "--resume-from",
        metavar="PATH",
        help="go on from a checkpoint, as "
        "RUN/checkpoint/000012, of this run folder or, in a new one, of another",
    )
    group.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=30,
        help="between checkpoints within an epoch; 0 for none but at its end",
    )
    group.add_argument(
        "--on-nan",
        choices=("stop", "rollback"),
        default="stop",
        help="a loss that is not finite ends the run, or takes it back to the end of the last "
        "epoch, with half the learning rate, five times at most",
    )


def open_run(options: argparse.Namespace) -> Run:
    """The run folder of `add_run`."""
    if not 0 <= options.checkpoint_minutes < math.inf:
        raise ValueError(
            f"--checkpoint-minutes must be at least 0, got {options.checkpoint_minutes}"
        )
    resumes = options.resume or options.resume_from is not None
    return Run(options.save_dir, vars(options), resume=resumes)


def train(
    options: argparse.Namespace,
    run: Run,
    loop: Loop,
    record: Callable[[Any], None],
    **identity: Any,
) -> bool:
    """Take a loop to its end, from a checkpoint if that was asked for.

    Parameters
    ----------
    record : callable
        Gets what each epoch did, to append it to tables and log it.
    **identity
        What must not change when the run goes on, besides the options that change its result.

    Returns
    -------
    bool
        False for a run that came to its end long ago: there is nothing to do.
    """
    session = Session(
        run,
        loop,
        {**origin(options), **identity},
        options.checkpoint_minutes,
        options.on_nan == "rollback",
    )
    if options.resume or options.resume_from is not None:
        session.resume(options.resume_from)
    if run.finished:
        run.log(f"{run.folder} is finished: nothing to do")
        return False
    session.train(record)
    return True


def print_dry_run(
    options: argparse.Namespace,
    net: HybridBlock,
    loss: Callable[..., Any],
    architecture: Architecture,
    steps: int,
) -> None:
    """What a run takes: parameters, connections, multiply-adds, MB, steps an epoch."""
    space = architecture.space
    shape = (options.batch_size, space.in_channels, space.image_size, space.image_size)
    devices, mirror = contexts(options.gpus, options.cpus), parse_mirror(options.mirror)
    graph = TrainGraph(net, loss, shape, shape[:1], devices, mirror)
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
    """What decides a result: the data set and the options, without files, folders and devices."""
    elsewhere = {"data_dir", "save_dir", "gpus", "cpus", "demo", "mirror", "dry_run"}
    elsewhere |= {"architecture", "resume", "resume_from", "checkpoint_minutes", "on_nan"}
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
    options: argparse.Namespace, cutout: int = 0
) -> Tuple[Images, Images, Augmentation]:
    """Training images, test images, and the training augmentation of their data set."""
    if options.demo and options.data_dir:
        raise ValueError("--demo brings its own images: give --data-dir or --demo, not both")
    name = data_set(options)
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
