#!/usr/bin/env python
"""Classify or segment images with a deployed network.

A classifier prints, for each image, its likeliest classes. A segmentation network prints the share
of each class, and with --out writes DIR/IMAGE.png of the image's size: a palette PNG in VOC's
colours, whose values are the numbers of the classes.
"""

import argparse
import sys
from itertools import islice
from pathlib import Path
from typing import Iterator, List, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dsonas_mx as dso
from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.data.picture import read_picture
from dsonas_mx.deploy.card import FORMS
from dsonas_mx.io.checks import printable

import numpy as np


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("card", metavar="CARD", help="NAME.json, which tools/export.py wrote")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="a file, or a folder of images")
    parser.add_argument("--form", choices=FORMS, help="which files of the card; its first if none")
    parser.add_argument("--top", type=int, default=5, help="classes to print")
    parser.add_argument("--out", metavar="DIR", help="where maps of classes go")
    return parser


def main(options: argparse.Namespace) -> int:
    from dsonas_mx.deploy.predictor import MOST
    from dsonas_mx.deploy.preprocess import images_at

    options.images = [str(path) for given in options.images for path in images_at(given)]
    predictor = dso.Predictor(options.card, options.form)
    broken: List[str] = []
    if predictor.card.task == "segmentation":
        segment(predictor, options, broken)
        return 2 if broken else 0
    if options.out is not None:
        raise ValueError("--out is for maps of classes: this network is a classifier")
    pictures = readable(options.images, predictor.card.shape[0], broken)
    while True:
        part = list(islice(pictures, MOST))
        if not part:
            return 2 if broken else 0
        answers = predictor.classify([pixels for _, pixels in part], options.top)
        for (path, _), guesses in zip(part, answers):
            shown = ", ".join(f"{guess.name} {guess.probability:.1%}" for guess in guesses)
            print(f"{printable(path)}: {shown}")


def readable(
    paths: List[str], channels: int, broken: List[str]
) -> Iterator[Tuple[str, np.ndarray]]:
    """Path and pixels of each picture; one that cannot be read is told of, and goes to `broken`."""
    for path in paths:
        try:
            yield path, read_picture(path, channels)
        except (ValueError, OSError) as error:
            broken.append(path)
            reason = f"{path}: {error.strerror}" if isinstance(error, OSError) else error
            print(f"{Path(sys.argv[0]).name}: {printable(str(reason))}", file=sys.stderr)


def segment(predictor: dso.Predictor, options: argparse.Namespace, broken: List[str]) -> None:
    """Print what is in each image, and write the maps."""
    from dsonas_mx.data.voc import save_mask
    from dsonas_mx.deploy.maps import map_files

    classes, maps = predictor.card.classes, {}
    if options.out is not None:
        maps = map_files(options.images, options.out, len(classes))
        Path(options.out).mkdir(parents=True, exist_ok=True)
    for name, pixels in readable(options.images, predictor.card.shape[0], broken):
        (labels,) = predictor.segment([pixels])
        counts = np.bincount(labels.ravel(), minlength=len(classes))
        order = [index for index in np.argsort(-counts, kind="stable") if counts[index]]
        shares = (f"{classes[i]} {counts[i] / labels.size:.1%}" for i in order[: options.top])
        print(f"{printable(name)}: {', '.join(shares)}")
        if maps:
            save_mask(maps[name], labels.astype(np.uint8))


if __name__ == "__main__":
    run(main, arguments())
