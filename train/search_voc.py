#!/usr/bin/env python
"""Search a backbone on a segmentation task by DSO-NAS; the defaults are the paper's (section 4.4).

The data are folders in VOC layout below --data-dir. The run folder gets architecture.json,
lambdas.csv (λ by epoch), metrics.csv, the supernet's model.params, log.txt, and checkpoints.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx import Architecture
from dsonas_mx.cli import machine, parser
from dsonas_mx.cli import options as cli
from dsonas_mx.cli.segmentation_options import BackboneSearchOptions, SearchSceneOptions
from dsonas_mx.io.options import Groups, group

PAPER = BackboneSearchOptions(0, 50, (4, 1), learning_rate=0.014, weight_decay=4e-5, gamma=0.01)


@dataclass(frozen=True)
class Options(Groups):
    data: SearchSceneOptions = group(SearchSceneOptions(batch_size=80), "data")
    devices: machine.DeviceOptions = group(machine.DeviceOptions(), "devices")
    space: cli.SpaceOptions = group(
        cli.SpaceOptions(blocks="2,2,13,6", width=28),
        "search space",
        help={"blocks": "a stage: a number, or one each"},
    )
    search: BackboneSearchOptions = group(PAPER, "search")
    memory: machine.MemoryOptions = group(machine.MemoryOptions("auto"), "memory")
    run: machine.RunOptions = group(machine.RunOptions("runs/search_voc"), "run folder")


def arguments() -> parser.Parser:
    return parser.Parser(Options, description=__doc__)


def main(options: Options) -> None:
    from dsonas_mx.cli import devices, dry_run, run, search, segmentation
    from dsonas_mx.cost.traced import count_traced
    from dsonas_mx.training.transfer import digest, parameters_file

    from symbols.segmentation import deeplab, voc_space

    data, how = options.data, options.search
    setup = devices.setup_of(options)
    classes = segmentation.known_classes(data, data.data_set)
    space = voc_space(**options.space.fields(4), num_classes=len(classes), image_size=data.crop)
    name = segmentation.data_name(data, data.data_set)
    start = Architecture.complete(space, run.origin(options, name))
    loss = segmentation.pixel_loss(data.auxiliary)

    def build(found: Architecture) -> Any:
        return deeplab(found, None, True, how.fix_gamma, data.auxiliary != 0)

    if options.memory.dry_run:
        steps = dry_run.search_steps(
            data.batch_size, segmentation.num_train(data, [data.data_set]), how.split
        )
        cost = count_traced(deeplab(start, weighted=True, fix_gamma=how.fix_gamma), data.crop)
        paper = {"memory": "the paper's search: 4.3G"}
        dry_run.print_scene_dry_run(setup, build(start), loss, cost, data, [steps], **paper)
        return
    if (how.pretrained is None) == (how.pretrain_epochs == 0):
        raise ValueError(
            "the supernet needs a start: give --pretrained RUN or --pretrain-epochs N, one of them"
        )
    loaders = segmentation.search_loaders(data, [data.data_set], how.split)
    notes = segmentation.coverage_of([loaders[0].images])
    source = None
    if how.pretrained is not None:
        source = parameters_file(how.pretrained, pretrained=True)
    search.search_to_end(
        options,
        build,
        start,
        loaders,
        setup,
        cli.Told(name),
        loss=loss,
        before=lambda run, found: segmentation.take_backbone(run, found.net, source, notes),
        pretrained=source and digest(source),
    )


if __name__ == "__main__":
    parser.run(main, arguments())
