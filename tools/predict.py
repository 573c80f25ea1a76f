#!/usr/bin/env python
"""Classify or segment images with a deployed network.

A classifier prints, for each image, its likeliest classes. A segmentation network prints the share
of each class, and with --out writes DIR/IMAGE.png, whose values are the numbers of the classes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx import Predictor, cli
from dsonas_mx.card import FORMS

import numpy as np


def arguments() -> cli.Parser:
    parser = cli.Parser(description=__doc__)
    parser.add_argument("card", metavar="CARD", help="NAME.json, which tools/export.py wrote")
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    parser.add_argument("--form", choices=FORMS, help="which files of the card; its first if none")
    parser.add_argument("--top", type=int, default=5, help="classes to print")
    parser.add_argument("--out", metavar="DIR", help="where maps of classes go")
    return parser


def main(options: argparse.Namespace) -> None:
    predictor = Predictor(options.card, options.form)
    if predictor.card.task == "segmentation":
        segment(predictor, options)
        return
    if options.out is not None:
        raise ValueError("--out is for maps of classes: this network is a classifier")
    for path, guesses in zip(options.images, predictor.classify(options.images, options.top)):
        shown = ", ".join(f"{guess.name} {guess.probability:.1%}" for guess in guesses)
        print(f"{path}: {shown}")


def segment(predictor: Predictor, options: argparse.Namespace) -> None:
    """Print what is in each image, and write the maps."""
    import cv2

    if options.out is not None:
        Path(options.out).mkdir(parents=True, exist_ok=True)
    for path, labels in zip(options.images, predictor.segment(options.images)):
        counts = np.bincount(labels.ravel(), minlength=len(predictor.card.classes))
        order = [index for index in np.argsort(-counts, kind="stable") if counts[index]]
        shares = (
            f"{predictor.card.classes[index]} {counts[index] / labels.size:.1%}"
            for index in order[: options.top]
        )
        print(f"{path}: {', '.join(shares)}")
        if options.out is not None:
            cv2.imwrite(str(Path(options.out) / f"{Path(path).stem}.png"), labels.astype(np.uint8))


if __name__ == "__main__":
    cli.run(main, arguments())
