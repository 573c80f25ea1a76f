#!/usr/bin/env python
"""How noisy λ's gradient is after the pre-training of searches by train/search_cifar.py.

RUN are folders of searches with several seeds: of each the supernet as it was before the search, on
its own samples of λ. Batches disagree, which more steps average away; seeds disagree, which they
do not.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, List, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.data import search_loaders
from dsonas_mx.cli.options import ImageOptions
from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.io.files import read_json
from dsonas_mx.search.options import parse_split
from dsonas_mx.space.architecture import Architecture

import numpy as np

if TYPE_CHECKING:
    import mxnet as mx


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders of searches")
    parser.add_argument("--data-dir", help="instead of that of the searches")
    parser.add_argument("--batches", type=int, default=64, help="of the size of the search's")
    parser.add_argument("--gpus", default="", help="as 0; empty for the CPU")
    return parser


def gradients(
    folder: Path, options: argparse.Namespace, devices: Sequence[mx.Context]
) -> np.ndarray:
    """∇λ of the batches of a run."""
    from dsonas_mx.experiments.gradients import lambda_gradients
    from dsonas_mx.training.transfer import parameters_file, read_parameters

    import mxnet as mx

    from symbols import get_model

    found = Architecture.load(folder / "architecture.json")
    given = read_json(folder / "args.json")["options"]
    fields = {
        one.name: given[one.name] for one in dataclasses.fields(ImageOptions) if one.name in given
    }
    fields["data_dir"] = options.data_dir or given["data_dir"]
    loader = search_loaders(
        ImageOptions(**fields), parse_split(given["split"]), given["split_files"]
    )[-1]
    complete = Architecture.complete(found.space)
    net = get_model("dsonas", complete, weighted=True, fix_gamma=given["fix_gamma"])
    net.initialize(ctx=devices)
    arrays = read_parameters(parameters_file(folder, pretrained=True))
    for name, parameter in net.collect_params().items():
        parameter.set_data(mx.nd.array(arrays[name]))
    return lambda_gradients(net, loader, options.batches, devices)


def main(options: argparse.Namespace) -> None:
    from dsonas_mx.engine.device import contexts
    from dsonas_mx.experiments.gradients import between, noise

    if options.batches < 2:
        raise ValueError(f"--batches must be at least 2, got {options.batches}")
    devices = contexts(options.gpus)
    seeds: List[np.ndarray] = []
    print(f"{'run':<30} deviation     signal  batches for half  reliability of {options.batches}")
    for folder in map(Path, options.runs):
        seeds.append(gradients(folder, options, devices))
        row = noise(seeds[-1])
        print(
            f"{str(folder)[-30:]:<30} {row['deviation']:9.5f}  {row['signal']:9.5f}"
            f"  {row['batches']:16.0f}  {row['reliability']:17.2f}",
            flush=True,
        )
    if len(seeds) > 1:
        row = between(seeds)
        print(
            f"rank correlation of the means of two seeds: {row['spearman']:.2f}, "
            f"of the expected gradients: {row['corrected']:.2f}"
        )


if __name__ == "__main__":
    run(main, arguments())
