"""The scenes that options ask for, and what is taken over from another run."""

from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence

import numpy as np
from mxnet.gluon import HybridBlock

from ..data import voc
from ..data.labels import coverage
from ..data.loader import split
from ..data.scenes import Crop, SceneLoader
from ..io.files import in_file, write_json
from ..runs.folder import Run
from ..search.options import Split
from ..training.loss import pixel_cross_entropy, with_auxiliary
from ..training.segmentation import Stage
from ..training.transfer import read_parameters, take_over
from .segmentation_options import SceneOptions, StageOption


def pixel_loss(auxiliary: float) -> Callable[..., Any]:
    """The loss of a network with or without an auxiliary head, by the weight of that."""
    return with_auxiliary(auxiliary, pixel_cross_entropy) if auxiliary else pixel_cross_entropy


def known_classes(options: SceneOptions, name: str) -> Sequence[str]:
    """The classes of a data set; VOC's, of one that has a name but is not there."""
    try:
        return voc.read_classes(voc.find(options.data_dir, name))
    except FileNotFoundError:
        if name not in voc.FOLDERS:
            raise
        return voc.CLASSES


def num_train(options: SceneOptions, names: Sequence[str]) -> int:
    """How many training images there are, or, of data that is not there, should be."""
    try:
        for name in names:
            voc.find(options.data_dir, name)
    except FileNotFoundError:
        if not set(names) <= set(voc.NUM_TRAIN):
            raise
        return sum(voc.NUM_TRAIN[name] for name in names)
    return len(training_scenes(options, names))


def training_scenes(
    options: SceneOptions, names: Sequence[str], test: Sequence[voc.Files] = ()
) -> voc.Scenes:
    """The training images of data sets, without all that is tested on."""
    without = voc.held_out(options.data_dir, names) | {files.name for files in test}
    return voc.training([voc.find(options.data_dir, name) for name in names], without)


def search_loaders(options: SceneOptions, names: Sequence[str], parts: Split) -> List[SceneLoader]:
    """Batches for weights and, with a split, for λ: of parts of the training images."""
    found = training_scenes(options, names)
    chosen = split(None, np.zeros(len(found), int), parts or (1,), options.seed)
    crop, size, seed = Crop(options.crop), options.batch_size, options.seed
    return [
        SceneLoader(found, part, size, crop, seed, stream, options.threads)
        for stream, part in enumerate(chosen)
    ]


def load_stages(
    options: SceneOptions, stages: Sequence[StageOption], test: voc.Scenes
) -> List[Stage]:
    """The stages of a training with their data, without what it is tested on."""
    crop = Crop(options.crop)
    planned = []
    for number, (names, num_epochs, rate) in enumerate(stages):
        scenes = training_scenes(options, names, test.files)
        loader = SceneLoader(
            scenes, None, options.batch_size, crop, options.seed, number, options.threads
        )
        planned.append(Stage(loader, num_epochs, rate))
    return planned


def coverage_of(train: Sequence[voc.Scenes], test: Optional[voc.Scenes] = None) -> List[str]:
    """What should be said of classes that occur in no mask.

    Raises
    ------
    ValueError
        All labelled pixels to train on are of one class, or there are none.
    """
    looked = [voc.classes_in(scenes) for scenes in train]
    occur = np.unique(np.concatenate([found for found, _ in looked]))
    total, seen = sum(map(len, train)), sum(count for _, count in looked)
    some = f"{seen:,} of {total:,} training masks were looked at: " if seen < total else ""
    if not len(occur) and not some:
        raise ValueError("no pixel of the training masks is labelled")
    if len(occur) < 2 and some:  # there may be others
        return [f"{some}fewer than two classes occur"]
    tested = None if test is None else voc.classes_in(test)[0]
    return [some + note for note in coverage(occur, tested, train[0].classes)]


def data_name(options: SceneOptions, name: str) -> str:
    """What a record of a run calls its data: no path."""
    return name if name in voc.FOLDERS else voc.find(options.data_dir, name).resolve().name


def take_backbone(
    run: Run, net: HybridBlock, file: Optional[Path], notes: Sequence[str] = ()
) -> None:
    """Take over parameters from another run; log what did not fit, backbone.json has all names.

    Notes of the data come first.
    """
    for note in notes:
        run.log(note)
    if file is None:
        return
    with in_file(file):
        found = take_over(net, read_parameters(file), net.backbone)
    write_json(run.folder / "backbone.json", found._asdict())
    run.log(f"{file}: {found}")
