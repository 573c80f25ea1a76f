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

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Iterable, List

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.data import Images, coco, load_data_set
from dsonas_mx.data.folders import list_folder
from dsonas_mx.data.loader import check_ratio, check_seed, split
from dsonas_mx.data.packing import pack
from dsonas_mx.data.recordio import Entry, write
from dsonas_mx.io.files import atomic
from dsonas_mx.search.options import parse_split

import cv2
import numpy as np

SCENES, FOLDER = ("coco-voc", "sbd"), "folder"
FOREIGN = {"split": "cifar", "seed": "cifar", "copy": "scenes", "short_side": "folder"}
KINDS = {"cifar": "cifar10 and cifar100", "scenes": "coco-voc and sbd", "folder": "folder"}
SUFFIXES = (".rec", ".idx", ".lst")


def arguments() -> Parser:
    parser = Parser(
        description=__doc__,
        epilog="Nothing is downloaded. CIFAR is at https://www.cs.toronto.edu/~kriz/cifar.html: "
        "cifar-10-python.tar.gz, cifar-100-python.tar.gz, or the binary versions.",
    )
    parser.add_argument("data_set", choices=(FOLDER, "cifar10", "cifar100", *SCENES))
    parser.add_argument(
        "source", help="of pictures, or the folder in which an archive was unpacked, or of records"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where to write")
    parser.add_argument(
        "--split", help="of CIFAR, weights:λ, 1:1 if not given; none for no such files"
    )
    parser.add_argument(
        "--seed", type=int, help="of the split, as that of a search; 0 if not given"
    )
    parser.add_argument(
        "--short-side", type=int, help="of pictures: larger ones are made as small, as 256"
    )
    parser.add_argument("--copy", action="store_true", help="copy the images of COCO or SBD")
    return parser


def check(options: argparse.Namespace) -> None:
    """Refuse what does not go together, or cannot be, before anything is read."""
    kind = "scenes" if options.data_set in SCENES else "cifar"
    kind = FOLDER if options.data_set == FOLDER else kind
    for name, other in FOREIGN.items():
        given = getattr(options, name)
        if other != kind and given is not None and given is not False:  # 0 is a seed
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} is for {KINDS[other]}: leave it out")
    if options.short_side is not None and options.short_side < 1:
        raise ValueError(f"--short-side must be at least 1, got {options.short_side}")
    out = Path(options.out).absolute()
    nearest = next(path for path in (out, *out.parents) if path.exists())
    if not nearest.is_dir():
        raise ValueError(f"--out {out}: {nearest} is a file: give a folder")
    options.split = "1:1" if options.split is None else options.split
    options.seed = 0 if options.seed is None else options.seed
    parts = parse_split(options.split)
    if parts:
        check_ratio(parts)
    check_seed(options.seed)


def encoded(images: Images, half: str) -> List[Entry]:
    """Every image as a PNG, which must come in the order BGR."""
    entries = []
    for key, (image, label) in enumerate(zip(images.images, images.labels)):
        _, png = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
        name = f"{half}/{images.classes[label]}/{key:05d}.png"
        entries.append(Entry(key, int(label), png.tobytes(), name))
    return entries


def write_part(folder: Path, name: str, entries: Iterable[Entry]) -> None:
    chosen = list(entries)
    write(folder / f"{name}.rec", chosen)
    counts = np.unique([entry.label for entry in chosen], return_counts=True)[1]
    print(f"{name}: {len(chosen):,} images, {counts.min():,} to {counts.max():,} a class")


def write_folder(options: argparse.Namespace) -> None:
    """Records of a folder of classes."""
    from dsonas_mx.cli.devices import progress

    listing, out = list_folder(options.source), Path(options.out)
    for name in ("train.rec", "val.rec"):
        if (out / name).exists() and (out / "classes.txt").exists():
            raise ValueError(f"{out / name} is there already: give another --out")
    out.mkdir(parents=True, exist_ok=True)
    for note in listing.notes:
        print(note)
    for train in (True, False):
        packed = pack(listing, out, train, options.short_side, progress)
        print(f"{'train' if train else 'val'}: {packed.written:,} images")
        for name, reason in packed.skipped.items():
            print(f"skipped {name}: {reason}")
    with atomic(out / "classes.txt") as temporary:  # last: so it is all there
        names = "".join(f"{name}\n" for name in listing.classes)
        temporary.write_text(names, encoding="utf-8")
    print(f"{out}: {len(listing.classes)} classes: {', '.join(listing.classes)}")


def write_scenes(options: argparse.Namespace) -> None:
    """COCO or SBD in VOC layout."""
    source, out = Path(options.source), Path(options.out)
    for part in ("train", "val"):  # a list is written when its images are there
        path = out / "ImageSets" / "Segmentation" / f"{part}.txt"
        if path.exists():
            raise ValueError(f"{path} is there already: give another --out, or remove it")
    counts = {}
    if options.data_set == "sbd":
        counts = coco.convert_sbd(source, out, options.copy)
    else:
        for part in ("train", "val"):
            annotations = source / "annotations" / f"instances_{part}2017.json"
            counts[part] = coco.convert(
                annotations, source / f"{part}2017", out, part, options.copy
            )
    for part, count in counts.items():
        print(f"{part}: {count:,} images")


def main(options: argparse.Namespace) -> None:
    check(options)
    if options.data_set in SCENES:
        write_scenes(options)
        return
    if options.data_set == FOLDER:
        write_folder(options)
        return
    parts = parse_split(options.split)
    names = ["train", "val"] + (["train1", "train2"] if parts else [])
    out = Path(options.out)
    for name in names:
        for suffix in SUFFIXES:
            if (out / f"{name}{suffix}").exists():
                raise ValueError(f"{out / name}{suffix} is there already: give another --out")
    train, test = (load_data_set(options.data_set, options.source, half) for half in (True, False))
    chosen = split(None, train.labels, parts, options.seed) if parts else ()
    out.mkdir(parents=True, exist_ok=True)
    entries = encoded(train, "train")
    write_part(out, "train", entries)
    write_part(out, "val", encoded(test, "val"))
    for name, indices in zip(names[2:], chosen):
        write_part(out, name, (entries[index] for index in indices))
    with atomic(out / "classes.txt") as temporary:
        temporary.write_text("".join(f"{name}\n" for name in train.classes), encoding="utf-8")


if __name__ == "__main__":
    run(main, arguments())
