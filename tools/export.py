#!/usr/bin/env python
"""Export the trained network of a run: hybridized symbol and parameters, checked against Gluon.

Writes PREFIX-symbol.json and PREFIX-0000.params, loads them back with SymbolBlock.imports, and
prints the largest difference of the logits on a batch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx import cli
from dsonas_mx.export import export, load_parameters
from dsonas_mx.mobile_architecture import load_architecture
from dsonas_mx.params_file import read_params

import numpy as np

from symbols import network_of


def arguments() -> cli.Parser:
    parser = cli.Parser(description=__doc__)
    parser.add_argument("run", metavar="RUN", help="the folder of a training")
    parser.add_argument("--out", metavar="PREFIX", help="where to write (default: RUN/model)")
    parser.add_argument("--batch-size", type=int, default=16, help="of the comparison")
    return parser


def main(options: argparse.Namespace) -> int:
    if options.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {options.batch_size}")
    folder = Path(options.run)
    parameters = folder / "model.params"
    if not parameters.is_file():
        raise ValueError(f"{folder} has no model.params: train a network with train/train_cifar.py")
    architecture = load_architecture(folder / "architecture.json")
    net = network_of(architecture)
    load_parameters(net, read_params(parameters))
    space = architecture.space
    shape = (options.batch_size, space.in_channels, space.image_size, space.image_size)
    batch = np.random.RandomState(0).randn(*shape).astype(np.float32)
    exported = export(net, options.out or folder / "model", batch)
    print(f"symbol      {exported.symbol}")
    print(f"parameters  {exported.parameters}")
    print(f"difference  {exported.difference:.3g} at most, of {options.batch_size} images' logits")
    return 0 if exported.difference < 1e-4 else 1


if __name__ == "__main__":
    cli.run(main, arguments())
