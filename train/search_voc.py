#!/usr/bin/env python
"""Search a backbone on a segmentation task by DSO-NAS; the defaults are the paper's (section 4.4).

The data are folders in VOC layout below --data-dir. The run folder gets architecture.json,
lambdas.csv (λ by epoch), metrics.csv, the supernet's model.params, log.txt, and checkpoints.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dsonas_mx as dso
from dsonas_mx import cli
from dsonas_mx.backbone import digest, parameters_file
from dsonas_mx.data import voc
from dsonas_mx.data.loader import split
from dsonas_mx.data.scenes import Crop, SceneLoader
from dsonas_mx.device import contexts
from dsonas_mx.loss import pixel_cross_entropy, with_auxiliary
from dsonas_mx.mirror import parse_mirror
from dsonas_mx.run import save_parameters
from dsonas_mx.search import Search, SearchEpoch, SearchOptions, turns
from dsonas_mx.space import parse_blocks
from dsonas_mx.symbol_cost import count_symbol

import mxnet as mx
import numpy as np

from symbols.segmentation import DeepLabV3, deeplab, voc_space


def arguments() -> cli.Parser:
    parser = cli.Parser(description=__doc__)
    data = cli.add_scenes(parser, batch_size=80)
    data.add_argument(
        "--data", dest="data_set", default="coco", help="coco, voc, or any folder in VOC layout"
    )
    cli.add_devices(parser, machines=False)
    space = parser.add_argument_group("search space")
    space.add_argument("--scope", choices=("share", "full"), default="share")
    space.add_argument("--levels", type=int, default=4, help="M, levels of a block")
    space.add_argument("--operations", default="sep3,sep5,max,avg", help="of a level; also sep7")
    space.add_argument("--blocks", default="2,2,13,6", help="a stage: a number, or one each")
    space.add_argument("--width", type=int, default=28, help="channels of the first stage")
    search = parser.add_argument_group("search")
    start = search.add_mutually_exclusive_group()
    start.add_argument(
        "--pretrained",
        metavar="RUN",
        help="where the supernet's backbone is from: a run of search_imagenet.py, which has its "
        "parameters at the end of pre-training, or a checkpoint",
    )
    start.add_argument(
        "--pretrain-epochs", type=int, default=0, help="on this data, with λ fixed at one"
    )
    search.add_argument("--num-epochs", type=int, default=50, help="of search, at most")
    search.add_argument("--split", default="4:1", help="weights:λ, samples and steps; or none")
    search.add_argument("--shrink-every", type=int, default=5, help="epochs between removals")
    search.add_argument("--patience", type=int, default=10, help="epochs without change to stop")
    search.add_argument("--lr", type=float, default=0.014, help="of weights and λ")
    search.add_argument("--momentum", type=float, default=0.9)
    search.add_argument("--wd", type=float, default=4e-5, help="weight decay, not of λ")
    search.add_argument("--gamma", type=float, default=0.01, help="weight of L1 on λ")
    search.add_argument("--momentum-schedule", choices=("constant", "apg"), default="constant")
    search.add_argument(
        "--fix-gamma", choices=("all", "operations", "none"), default="all", help="fixed BN scales"
    )
    cli.add_memory(parser, mirror="auto")
    cli.add_run(parser, "runs/search_voc")
    return parser


def main(options: argparse.Namespace) -> None:
    parts = cli.parse_split(options.split)
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
    devices, mirror = contexts(options.gpus, options.cpus), parse_mirror(options.mirror)
    crop = Crop(options.crop)
    loss = pixel_cross_entropy
    if options.auxiliary:
        loss = with_auxiliary(options.auxiliary, pixel_cross_entropy)
    space = voc_space(
        scope=options.scope,
        levels=options.levels,
        operations=options.operations.split(","),
        blocks=parse_blocks(options.blocks, 4),
        width=options.width,
        num_classes=len(cli.known_classes(options, options.data_set)),
        image_size=options.crop,
    )
    name = cli.data_name(options, options.data_set)
    start = dso.Architecture.complete(space, {**cli.origin(options), "data": name})

    def build(architecture: dso.Architecture) -> DeepLabV3:
        auxiliary = options.auxiliary != 0
        return deeplab(architecture, None, True, options.fix_gamma, auxiliary)

    if options.dry_run:
        ratio, count = parts or (1,), cli.num_train(options, [options.data_set])
        batches = [count * n // sum(ratio) // options.batch_size for n in ratio]
        steps = len(turns(batches[0], batches[-1], parts))
        supernet = deeplab(start, weighted=True, fix_gamma=options.fix_gamma)
        cost = count_symbol(supernet(mx.sym.Variable("data")), (1, 3, options.crop, options.crop))
        memory = "the paper's search: 4.3G"
        cli.print_scene_dry_run(options, build(start), loss, cost, [steps], memory=memory)
        return
    if options.pretrained is None and not options.pretrain_epochs:
        raise ValueError("the supernet needs a start: give --pretrained RUN or --pretrain-epochs N")
    scenes = voc.training([voc.find(options.data_dir, options.data_set)])
    mx.random.seed(options.seed)
    loaders = [
        SceneLoader(scenes, p, options.batch_size, crop, options.seed, stream, options.workers)
        for stream, p in enumerate(
            split(None, np.zeros(len(scenes), int), parts or (1,), options.seed)
        )
    ]
    lambda_data = loaders[1] if parts else None
    search = Search(
        build, start, loaders[0], lambda_data, settings, devices, loss, cli.progress, mirror
    )

    def record(epoch: SearchEpoch) -> None:
        run.append("metrics.csv", epoch.row())
        run.append("lambdas.csv", {"epoch": epoch.epoch, **epoch.scales})
        run.log(f"{epoch} of {space.num_connections}", **epoch.row())

    megabytes = search.plan.megabytes  # refuses what does not fit before there is a run folder
    source = options.pretrained and parameters_file(options.pretrained, pretrained=True)
    with cli.open_run(options) as run:
        run.log(f"the supernet takes {megabytes:,.0f} MB on each device")
        cli.take_backbone(run, search.net, source)
        pretrained = source and digest(source)
        if not cli.train(options, run, search, record, data=name, pretrained=pretrained):
            return
        search.architecture.save(run.folder / "architecture.json")
        save_parameters(run.folder / "model.params", search.net)
        run.log(str(search.architecture))
        run.log(f"saved {run.folder / 'architecture.json'}")


if __name__ == "__main__":
    cli.run(main, arguments())
