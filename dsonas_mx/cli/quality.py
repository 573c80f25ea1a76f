"""How good a trained classifier is, for its run folder: errors by class, confusion, mistakes."""

import csv
import io
from typing import Any, Dict, Sequence

import mxnet as mx
import numpy as np
from matplotlib.figure import Figure
from mxnet.gluon import HybridBlock

from ..data.augment import Augmentation
from ..data.loader import Loader
from ..io.files import atomic
from ..plots import draw_confusion, draw_mistakes, save
from ..runs.folder import Run
from ..training.answers import Answers, answers

CONFUSION, MISTAKES = "confusion.csv", "mistakes.png"
MOST_CLASSES = 100  # that can be told apart in a picture


def write_quality(
    run: Run, net: HybridBlock, data: Loader, context: mx.Context, classes: Sequence[str]
) -> Dict[str, Any]:
    """Write ``confusion.csv``, ``confusion.png`` and, of small images, ``mistakes.png``.

    A picture that cannot be written ends no run.

    Returns
    -------
    dict
        For the result: the error of each class by its name. Empty, and nothing is written, for more
        classes than a picture shows.
    """
    if len(classes) > MOST_CLASSES:
        return {}
    found = answers(net, data, context, len(classes))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["is, is taken for", *classes])
    for name, row in zip(classes, found.confusion.counts.tolist()):
        writer.writerow([name, *row])
    with atomic(run.folder / CONFUSION) as temporary:
        temporary.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))
    picture, sheet = run.folder / "confusion.png", run.folder / MISTAKES
    with run.optional(picture):
        save(draw_confusion(found.confusion.counts, classes), picture)
    if isinstance(data.augment, Augmentation):
        with run.optional(sheet):
            save(_mistakes(found, data.augment, classes), sheet)
    errors = {
        name: None if np.isnan(error) else float(error)
        for name, error in zip(classes, found.class_errors)
    }
    return {"class_error": errors}


def _mistakes(found: Answers, augment: Augmentation, classes: Sequence[str]) -> Figure:
    mean, std = (np.array(values)[:, None, None] for values in (augment.mean, augment.std))
    pictures = [
        np.clip(255 * (one.data * std + mean), 0, 255).round().astype(np.uint8).transpose(1, 2, 0)
        for one in found.mistakes
    ]
    captions = [
        (classes[one.predicted], one.probability, classes[one.true]) for one in found.mistakes
    ]
    return draw_mistakes(pictures, captions)
