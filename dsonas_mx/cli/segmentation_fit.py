"""What a training in segmentation leaves behind, and tests of what another one left."""

from pathlib import Path
from typing import Any, Callable, Dict, Optional

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..cost.traced import Cost
from ..data.scenes import normalised
from ..data.voc import Scenes
from ..deploy.export import export, load_parameters
from ..engine.setup import Setup
from ..io.files import read_json, write_json
from ..io.params_file import read_params
from ..runs.folder import Run, save_parameters
from ..space.architecture import Architecture
from ..training.confusion import Confusion
from ..training.segmentation import SCALES, Predictor, SegmentationFit, evaluate, save_picture
from ..training.transfer import digest, parameters_file
from .run import open_run
from .segmentation import coverage_of, load_stages, take_backbone
from .segmentation_options import TestOptions
from .training import trained


def take_from_run(options: Any, save_dir: str) -> Any:
    """The options of a test with what it takes from the run of `--eval`: its network, and its data
    if no other are given. What the test writes goes into its folder ``eval``, if not elsewhere
    than to the default `save_dir`.

    Raises
    ------
    ValueError, OSError
        It is no run that came to its end.
    """
    run, network = Path(options.test.eval), options.network
    for name in ("args.json", "model.params"):
        if not (run / name).is_file():
            raise FileNotFoundError(f"{run / name}: not there; --eval needs a run that has ended")
    if network.architecture or network.model or network.backbone:
        raise ValueError("--eval tests the network of its run: name no other")
    if options.devices.kv_store != "device":
        raise ValueError("--eval tests in one process: leave out --kv-store")
    try:
        recorded = read_json(run / "args.json")["options"]
        model = recorded["model"]
        options = options.but(
            "data",
            crop=recorded["crop"],  # that multiply-adds are counted at
            data_dir=options.data.data_dir or recorded["data_dir"],
            test_data=options.data.test_data or recorded["test_data"],
        ).but("stages", stages=recorded["stages"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{run / 'args.json'} is not of a run of this script: {error!r}") from None
    file = str(run / "architecture.json") if model is None else None
    options = options.but("network", model=model, architecture=file)
    if options.run.save_dir == save_dir:
        options = options.but("run", save_dir=str(run / "eval"))
    return options


def train_scenes_to_end(
    options: Any,
    net: HybridBlock,
    deployed: HybridBlock,
    setup: Setup,
    *,
    data: str,
    scenes: Scenes,
    loss: Callable[..., Any],
    architecture: Optional[Architecture],
    cost: Cost,
) -> None:
    """Train in a run folder, save the parameters, test, export the network, write the result.

    Parameters
    ----------
    net, deployed : HybridBlock
        The network as it is trained, not initialised; and without the auxiliary head.
    data : str
        The name of the data set of `scenes`, on which it is tested.
    architecture : Architecture or None
        Of the backbone; None for that of a baseline.
    cost : Cost
        Of `deployed`.
    """
    stages = load_stages(options.data, options.stages.all, scenes)
    notes = coverage_of([stage.data.images for stage in stages], scenes)
    mx.random.seed(options.data.seed)
    net.initialize(ctx=setup.contexts)
    fit = SegmentationFit(
        net, stages=stages, test_data=scenes, options=options.training, loss=loss, setup=setup
    )
    backbone = options.network.backbone
    source = backbone and parameters_file(backbone)
    with trained(
        options,
        fit,
        data=data,
        architecture=architecture,
        cost=cost,
        identity={"backbone": source and digest(source)},
        begin=lambda run: take_backbone(run, net, source, notes),
    ) as run:
        if run is None or setup.workers.rank:
            return
        save_parameters(run.folder / "model.params", net)
        arrays = read_params(run.folder / "model.params")
        load_parameters(deployed, arrays)
        deployed.collect_params().reset_ctx(setup.contexts)
        count = counts(cost, architecture)
        confusion = test_scenes(options.test, deployed, setup.contexts[0], scenes, run, count)
        batch = normalised(scenes.read(0)[0])[None]
        load_parameters(deployed, arrays)  # on the CPU
        exported = export(deployed, run.folder / "model", batch)
        run.log(f"{describe(confusion)}; saved {exported.symbol}")


def test_of_run(
    options: Any,
    net: HybridBlock,
    context: mx.Context,
    data: str,
    scenes: Scenes,
    architecture: Optional[Architecture],
    cost: Cost,
) -> None:
    """Test what the run of `--eval` trained, in a run folder of its own."""
    load_parameters(net, read_params(Path(options.test.eval) / "model.params"))
    net.collect_params().reset_ctx([context])
    with open_run(options, data) as run:
        count = counts(cost, architecture)
        found = test_scenes(options.test, net, context, scenes, run, count)
        run.log(describe(found))


def describe(confusion: Confusion) -> str:
    """The outcome of a test, for the log."""
    return (
        f"test mIoU {confusion.mean_iou:.2%}, pixels {confusion.pixel_accuracy:.2%}; a constant "
        f"prediction gets {confusion.of_constant():.2%}"
    )


def counts(cost: Cost, architecture: Optional[Architecture]) -> Dict[str, Any]:
    """What a result tells of the size of a network: of a found one also its connections."""
    found = {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds}
    if architecture is not None:
        found["connections"] = architecture.num_connections
    return found


def test_scenes(
    options: TestOptions,
    net: HybridBlock,
    context: mx.Context,
    scenes: Scenes,
    run: Run,
    count: Dict[str, Any],
) -> Confusion:
    """Test a network on whole images; write result.json, of which `count` is a part, and pictures.

    `options` say at which scales, whether mirrored too, and how many pictures.
    """
    folder = run.folder / "pictures"

    def picture(index: int, *arrays: np.ndarray) -> None:
        if index < options.pictures:
            path = folder / f"{scenes.files[index].name}.png"
            with run.optional(path):
                folder.mkdir(exist_ok=True)
                save_picture(path, *arrays)

    scales = SCALES if options.multi_scale else (1.0,)
    confusion = evaluate(Predictor(net, context, scales, options.flip), scenes, picture)
    class_iou = {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(scenes.classes, confusion.iou)
    }
    result = {
        "mean_iou": confusion.mean_iou,
        "pixel_accuracy": confusion.pixel_accuracy,
        "constant_iou": confusion.of_constant(),
        "class_iou": class_iou,
        **count,
    }
    write_json(run.folder / "result.json", result)
    return confusion
