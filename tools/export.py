#!/usr/bin/env python
"""Export the trained network of a run, in several forms, with a card.

Writes PREFIX-symbol.json and PREFIX-0000.params; with --fuse, --int8, --onnx also PREFIX-fused-…,
PREFIX-int8-… and PREFIX.onnx; and PREFIX.json, the card. A fresh process without this project loads
each form; its outputs are compared with Gluon's.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.io.checks import check_int
from dsonas_mx.io.files import refuse_existing
from dsonas_mx.io.text import read_lines

# Images at a time to calibrate, and in the comparison: a map of classes is large.
PARTS = {"classification": (8, 16), "segmentation": (1, 4)}
ENDS = (".json", "-symbol.json", "-0000.params", ".onnx")  # of files that may be there
MOST = {"fused": 1e-4, "mxnet": 1e-4, "onnx": 1e-4}  # relative differences that pass


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("run", metavar="RUN|CHECKPOINT", help="the folder of a training, or one of")
    parser.add_argument("--out", metavar="PREFIX", help="where to write (default: RUN/model)")
    parser.add_argument("--fuse", action="store_true", help="BN folded, MKLDNN's fused operators")
    parser.add_argument("--int8", action="store_true", help="weights and activations in bytes")
    parser.add_argument("--onnx", action="store_true", help="for ONNX Runtime; needs onnx")
    parser.add_argument(
        "--calibrate", metavar="DATA", help="folder of images or of a data set, not the run's own"
    )
    parser.add_argument("--images", type=int, default=128, help="to calibrate int8 with")
    parser.add_argument("--image-size", type=int, help="not that of the training")
    parser.add_argument("--classes", metavar="FILE", help="their names, one a line")
    parser.add_argument("--batch", default="dynamic", help="of the ONNX file: dynamic, or a number")
    parser.add_argument("--uint8-input", action="store_true", help="normalise inside the network")
    parser.add_argument(
        "--batch-size", type=int, help="of the comparison; 16, of a segmentation network 4"
    )
    return parser


def main(options: argparse.Namespace) -> int:
    from dsonas_mx.deploy.card import parse_batch
    from dsonas_mx.deploy.forms import check, deploy, table
    from dsonas_mx.deploy.samples import batches, sample_images
    from dsonas_mx.deploy.trained import read_trained

    from symbols import network_of
    from symbols.segmentation import deeplab

    for name in ("batch_size", "images", "image_size"):
        if getattr(options, name) is not None:
            check_int(f"`{name}`", getattr(options, name), 1)
    batch = parse_batch(options.batch)
    if options.out is not None:
        refuse_existing(*(f"{options.out}{end}" for end in ENDS))
    trained = read_trained(options.run, network_of, deeplab)
    names = options.classes and tuple(line for _, line in read_lines(options.classes))
    card = trained.card(options.image_size, options.uint8_input, batch, names)
    forms = ["mxnet", *(["fused"] if options.fuse else []), *(["int8"] if options.int8 else [])]
    forms += ["onnx"] if options.onnx else []
    part, compared = PARTS[card.task]
    to_calibrate = options.images if options.int8 else 1
    calibration, pixels, real = sample_images(
        trained, card, options.calibrate, to_calibrate, options.batch_size or compared
    )
    if options.int8 and not real:
        raise ValueError("--int8 needs images: give --calibrate, the folder of the data set")
    expected = trained.outputs(card.normalise(pixels))
    prefix = Path(options.out or trained.folder / "model")
    card = deploy(trained.net, prefix, card, forms, batches(calibration, part))
    for form in card.forms:
        for path in card.files(prefix.parent, form):
            print(path)
    print(prefix.with_name(f"{prefix.name}.json"))
    rows = check(prefix, card, pixels, expected)
    print(f"on {len(pixels)} {'test images' if real else 'random images: no data set is here'}")
    print(table(rows))
    largest = max(row.get("difference", 0) for row in rows if row["form"] == "mxnet")
    print(f"difference  {largest:.3g} at most, of {len(pixels)} images' outputs in the form mxnet")
    wrong = [row["form"] for row in rows if row.get("relative", 0) > MOST.get(row["form"], 1)]
    return 1 if wrong else 0


if __name__ == "__main__":
    run(main, arguments())
