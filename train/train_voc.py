#!/usr/bin/env python
"""Train a segmentation network over a found backbone, or MobileNet's, in stages; or test one.

The data are folders in VOC layout below --data-dir. The run folder gets model.params, the
deployable pair model-symbol.json and model-0000.params, metrics.csv, result.json, pictures/ of
image, truth and prediction, log.txt, and checkpoints to resume from.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli import machine, parser
from dsonas_mx.cli import segmentation_options as cli
from dsonas_mx.data import voc
from dsonas_mx.io.options import Groups, group
from dsonas_mx.training.options import SegmentationOptions

SAVE_DIR = "runs/train_voc"


@dataclass(frozen=True)
class Options(Groups):
    data: cli.TrainSceneOptions = group(cli.TrainSceneOptions(), "data")
    devices: machine.DeviceOptions = group(machine.DeviceOptions(), "devices")
    network: cli.BackboneOptions = group(cli.BackboneOptions(), "network")
    stages: cli.StageOptions = group(cli.StageOptions(), "training")
    training: SegmentationOptions = group(SegmentationOptions(), "training")
    test: cli.TestOptions = group(cli.TestOptions(), "test")
    memory: machine.MemoryOptions = group(machine.MemoryOptions(), "memory")
    run: machine.RunOptions = group(machine.RunOptions(SAVE_DIR), "run folder")


def arguments() -> parser.Parser:
    return parser.Parser(Options, description=__doc__)


def main(options: Options) -> None:
    from dsonas_mx.cli import devices, dry_run, segmentation, segmentation_fit
    from dsonas_mx.cli.network import load_backbone
    from dsonas_mx.cost.traced import count_traced

    from symbols import architectures
    from symbols.segmentation import beside_published, deeplab

    if options.test.eval is not None:
        options = segmentation_fit.take_from_run(options, SAVE_DIR)
    setup = devices.setup_of(options)
    data, stages = options.data, options.stages.all
    where = data.test_data or stages[-1].data[-1]
    name = segmentation.data_name(data, where)
    classes = len(segmentation.known_classes(data, where))
    images = {"num_classes": classes, "image_size": data.crop, "in_channels": 3}
    architecture, options = load_backbone(options, images, architectures.find)
    found = architecture or options.network.model or ""
    deployed = deeplab(found, classes)
    cost = count_traced(deployed, data.crop)
    net = deeplab(found, classes, auxiliary=data.auxiliary != 0)
    loss = segmentation.pixel_loss(data.auxiliary)
    if options.memory.dry_run:
        counts = [segmentation.num_train(data, stage.data) for stage in stages]
        steps = [dry_run.fit_steps(data.batch_size, count) for count in counts]
        paper = {"parameters": beside_published(cost.parameters, options.network.model)}
        dry_run.print_scene_dry_run(setup, net, loss, cost, data, steps, **paper)
        return
    tested = voc.load_scenes(voc.find(data.data_dir, where), "val")
    if options.test.eval is not None:
        context = setup.contexts[0]
        segmentation_fit.test_of_run(options, deployed, context, name, tested, architecture, cost)
        return
    segmentation_fit.train_scenes_to_end(
        options,
        net,
        deployed,
        setup,
        data=name,
        scenes=tested,
        loss=loss,
        architecture=architecture,
        cost=cost,
    )


if __name__ == "__main__":
    parser.run(main, arguments())
