#!/usr/bin/env python
"""Convert a folder of pictures or CIFAR to MXNet's RecordIO, COCO or SBD to the layout of VOC.

folder takes a folder with a folder a class (or train/CLASS and val/CLASS; else every fifth picture
is held out) and writes train.rec and val.rec, shuffled, with .idx and .lst, and the names of the
classes, classes.txt. What was stopped goes on with the same command. It takes the place of im2rec.

cifar10 and cifar100 get train.rec and val.rec, too, and train1.rec (for weights) and train2.rec
(for λ), each with .idx and .lst as im2rec has them. Images are PNGs: nothing is lost. Numbers are
positions in train.rec, so train1.lst and train2.lst say which of its images the two parts are.

coco-voc writes masks of VOC's 20 classes for the images of SOURCE/train2017 and val2017, from
SOURCE/annotations/instances_*.json; images with fewer than 1,000 pixels of them are left out. sbd
writes those of SBD's folder dataset. Both link to the images.
"""

import argparse
import sys
from pathlib import Path
from typing import Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli import prepare
from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.data import coco, load_data_set
from dsonas_mx.data.folders import list_folder
from dsonas_mx.data.loader import split
from dsonas_mx.data.packing import entries_of, pack, write_classes
from dsonas_mx.data.recordio import Entry, write
from dsonas_mx.io.files import refuse_existing
from dsonas_mx.search.options import parse_split

import numpy as np


def arguments() -> Parser:
    return prepare.parser_of(__doc__)


def write_part(folder: Path, name: str, entries: Sequence[Entry]) -> None:
    write(folder / f"{name}.rec", entries)
    counts = np.unique([entry.label for entry in entries], return_counts=True)[1]
    print(f"{name}: {len(entries):,} images, {counts.min():,} to {counts.max():,} a class")


def write_folder(options: argparse.Namespace) -> None:
    """Records of a folder of classes."""
    from dsonas_mx.cli.devices import progress

    listing, out = list_folder(options.source), Path(options.out)
    if (out / "classes.txt").exists():
        refuse_existing(out / "train.rec", out / "val.rec")
    out.mkdir(parents=True, exist_ok=True)
    for note in listing.notes:
        print(note)
    for train in (True, False):
        packed = pack(listing, out, train, options.short_side, progress)
        print(f"{'train' if train else 'val'}: {packed.written:,} images")
        for name, reason in packed.skipped.items():
            print(f"skipped {name}: {reason}")
    write_classes(out, listing.classes)
    print(f"{out}: {len(listing.classes)} classes: {', '.join(listing.classes)}")


def write_scenes(options: argparse.Namespace) -> None:
    """COCO or SBD in VOC layout."""
    source, out = Path(options.source), Path(options.out)
    lists = out / "ImageSets" / "Segmentation"  # written when the images are there
    refuse_existing(lists / "train.txt", lists / "val.txt")
    convert = coco.convert_sbd if options.data_set == "sbd" else coco.convert_coco
    for part, count in convert(source, out, options.copy).items():
        print(f"{part}: {count:,} images")


def write_cifar(options: argparse.Namespace) -> None:
    """Records of CIFAR, and of the two parts of a search."""
    parts, out = parse_split(options.split), Path(options.out)
    names = ["train", "val"] + (["train1", "train2"] if parts else [])
    refuse_existing(*(out / (name + end) for name in names for end in (".rec", ".idx", ".lst")))
    train, test = (load_data_set(options.data_set, options.source, half) for half in (True, False))
    chosen = split(None, train.labels, parts, options.seed) if parts else ()
    out.mkdir(parents=True, exist_ok=True)
    entries = entries_of(train, "train")
    write_part(out, "train", entries)
    write_part(out, "val", entries_of(test, "val"))
    for name, indices in zip(names[2:], chosen):
        write_part(out, name, [entries[index] for index in indices])
    write_classes(out, train.classes)


def main(options: argparse.Namespace) -> None:
    kind = prepare.check(options)
    {"folder": write_folder, "cifar": write_cifar, "scenes": write_scenes}[kind](options)


if __name__ == "__main__":
    run(main, arguments())
