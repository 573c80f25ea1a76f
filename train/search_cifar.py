#!/usr/bin/env python
"""Search an architecture on CIFAR-10 by DSO-NAS; the defaults are the paper's (section 4.2).

The run folder gets architecture.json, lambdas.csv (λ by epoch), metrics.csv and log.txt.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Optional, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dsonas_mx as dso
from dsonas_mx import cli
from dsonas_mx.data.loader import Loader, split
from dsonas_mx.device import contexts
from dsonas_mx.run import Run
from dsonas_mx.search import Search, SearchEpoch, SearchOptions
from dsonas_mx.space import parse_blocks

import mxnet as mx

from symbols import get_model

DEMO = {
    "blocks": "1",
    "width": 8,
    "batch_size": 64,
    "pretrain_epochs": 3,
    "num_epochs": 20,
    "shrink_every": 2,
    "patience": 4,
    "gamma": 0.01,
    "save_dir": "runs/demo/search",
}


def arguments() -> cli.Parser:
    parser = cli.Parser(description=__doc__)
    cli.add_data(parser)
    cli.add_devices(parser)
    space = parser.add_argument_group("search space")
    space.add_argument("--scope", choices=("share", "full"), default="share")
    space.add_argument("--levels", type=int, default=4, help="M, levels of a block")
    space.add_argument("--operations", default="sep3,sep5,max,avg", help="of a level; also sep7")
    space.add_argument("--blocks", default="8", help="blocks a stage: a number, or one a stage")
    space.add_argument("--width", type=int, default=48, help="channels of the first stage")
    search = parser.add_argument_group("search")
    search.add_argument("--pretrain-epochs", type=int, default=120, help="with λ fixed at one")
    search.add_argument("--num-epochs", type=int, default=120, help="of search, at most")
    search.add_argument("--split", default="1:1", help="weights:λ, samples and steps; or none")
    search.add_argument("--shrink-every", type=int, default=5, help="epochs between removals")
    search.add_argument("--patience", type=int, default=10, help="epochs without change to stop")
    search.add_argument("--lr", type=float, default=0.1, help="of weights and λ")
    search.add_argument("--momentum", type=float, default=0.9)
    search.add_argument("--wd", type=float, default=3e-4, help="weight decay, not of λ")
    search.add_argument("--gamma", type=float, default=0.001, help="weight of L1 on λ")
    search.add_argument("--momentum-schedule", choices=("constant", "apg"), default="constant")
    search.add_argument(
        "--fix-gamma",
        choices=("all", "operations", "none"),
        default="all",
        help="BN scales that are fixed to one",
    )
    parser.add_argument("--save-dir", default="runs/search_cifar", help="the run folder")
    return parser


def parse_split(text: str) -> Optional[Tuple[int, int]]:
    """'4:1' → (4, 1); 'none' → None."""
    if text == "none":
        return None
    try:
        weights, lambdas = (int(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"--split must be as 4:1, or none, got {text!r}") from None
    return weights, lambdas


def main(options: argparse.Namespace) -> None:
    parts = parse_split(options.split)
    settings = SearchOptions(
        pretrain_epochs=options.pretrain_epochs,
        num_epochs=options.num_epochs,
        split=parts,
        shrink_every=options.shrink_every,
        patience=options.patience,
        learning_rate=options.lr,
        momentum=options.momentum,
        weight_decay=options.wd,
        gamma=options.gamma,
        momentum_schedule=options.momentum_schedule,
    )
    devices = contexts(options.gpus, options.cpus)
    images, _, augmentation = cli.load_images(options)
    space = dso.SearchSpace.cifar10(
        scope=options.scope,
        levels=options.levels,
        operations=options.operations.split(","),
        blocks=parse_blocks(options.blocks, 3),
        width=options.width,
        num_classes=len(images.classes),
        in_channels=images.images.shape[3],
        image_size=images.images.shape[1],
    )
    loaders = [
        Loader(images, part, options.batch_size, augmentation, options.seed, stream=stream)
        for stream, part in enumerate(split(None, images.labels, parts or (1,), options.seed))
    ]
    origin = {"data": "fashion_mnist" if options.demo else "cifar10", "seed": options.seed}
    mx.random.seed(options.seed)
    search = Search(
        lambda architecture: get_model(
            "dsonas", architecture, weighted=True, fix_gamma=options.fix_gamma
        ),
        dso.Architecture.complete(space, origin),
        loaders[0],
        loaders[1] if parts else None,
        settings,
        devices,
        progress=cli.progress,
    )
    run = Run(options.save_dir, vars(options))

    def record(epoch: SearchEpoch) -> None:
        lambdas = epoch.lambdas
        run.append(
            "metrics.csv",
            {
                "epoch": epoch.epoch,
                "phase": epoch.phase,
                "weight_loss": epoch.weights.loss,
                "weight_accuracy": epoch.weights.accuracy,
                "lambda_loss": lambdas and lambdas.loss,
                "lambda_accuracy": lambdas and lambdas.accuracy,
                "connections": epoch.connections,
                "learning_rate": options.lr,
            },
        )
        run.append("lambdas.csv", {"epoch": epoch.epoch, **epoch.scales})
        halves = [f"weights {epoch.weights.loss:.4f} {epoch.weights.accuracy:.2%}"]
        if lambdas:
            halves.append(f"λ {lambdas.loss:.4f} {lambdas.accuracy:.2%}")
        run.log(
            f"{epoch.phase} epoch {epoch.epoch + 1}: loss, accuracy of {', of '.join(halves)}; "
            f"{epoch.connections} of {space.num_connections} connections"
        )

    found = search.run(record)
    path = run.folder / "architecture.json"
    found.save(path)
    run.log(str(found))
    run.log(f"saved {path}")


if __name__ == "__main__":
    cli.run(main, arguments(), DEMO)
