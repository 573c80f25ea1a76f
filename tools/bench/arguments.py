"""The arguments of each benchmark, by name, apart from what they need to run."""

from __future__ import annotations

import argparse

ROUNDS = "of which the median is taken"


def step(parser: argparse.ArgumentParser) -> None:
    """A weight step and a λ step of the supernet, against the original's graph."""
    _supernet(parser, 48, 32)
    parser.add_argument("--rounds", type=int, default=5, help=ROUNDS)


def memory(parser: argparse.ArgumentParser) -> None:
    """MB of a search step at the paper's size, and what recomputation costs where all can run."""
    parser.add_argument("--dataset", choices=("cifar10", "imagenet"), default="cifar10")
    parser.add_argument("--batch-size", type=int, help="on a device; the paper's 64 or 32")
    parser.add_argument("--rounds", type=int, default=3, help=ROUNDS)
    parser.add_argument("--resident", action="store_true", help=argparse.SUPPRESS)


def shrink(parser: argparse.ArgumentParser) -> None:
    """Step time against the share of connections that are left, and what they leave to compute."""
    _supernet(parser, 48, 32)
    parser.add_argument("--rounds", type=int, default=5, help=ROUNDS)
    parser.add_argument("--seed", type=int, default=0, help="of the random architectures")


def gpu(parser: argparse.ArgumentParser) -> None:
    """A model of a search step on a GTX 1080 Ti: calls, bytes, multiply-adds and their time."""
    _supernet(parser, 48, 64, blocks=8)


def profile(parser: argparse.ArgumentParser) -> None:
    """Where the time of a step goes, beside what this machine could do at best."""
    _supernet(parser, 48, 32)


def data(parser: argparse.ArgumentParser) -> None:
    """Batches augmented as in training from scratch, against a step of a found network."""
    _supernet(parser, 16, 64)
    parser.add_argument("--connections", type=int, default=20, help="of a random block")
    parser.add_argument("--rounds", type=int, default=5, help=ROUNDS)


def busy(parser: argparse.ArgumentParser) -> None:
    """A step beside busy processes over its fair share of the cores; idle, over spinning."""
    parser.add_argument("--rounds", type=int, default=5, help=ROUNDS)
    parser.add_argument("--steps", type=int, default=4, help="of each measurement")


def deploy(parser: argparse.ArgumentParser) -> None:
    """Forms of a deployed network of 3.0M parameters, in turn; or errors of those of a --run."""
    parser.add_argument(
        "--architecture", default="dsonas_share_cifar10", help="a name in symbols/architectures"
    )
    parser.add_argument("--blocks", type=int, default=8, help="a stage")
    parser.add_argument("--target-params", type=float, default=3e6)
    parser.add_argument("--rounds", type=int, default=15, help=ROUNDS)
    parser.add_argument("--run", help="of a training, whose forms' test errors to measure")
    parser.add_argument("--data-dir", help="of the run's data set, not the run's own")


def _supernet(
    parser: argparse.ArgumentParser, width: int, batch_size: int, blocks: int = 1
) -> None:
    parser.add_argument("--width", type=int, default=width)
    parser.add_argument("--blocks", type=int, default=blocks, help="a stage")
    parser.add_argument("--batch-size", type=int, default=batch_size)


BENCHMARKS = {one.__name__: one for one in (step, memory, gpu, shrink, profile, data, deploy, busy)}
