#!/usr/bin/env python
"""Export the trained network of a run, in several forms, with a card.

Writes PREFIX-symbol.json and PREFIX-0000.params; with --fuse, --int8, --onnx also PREFIX-fused-…,
PREFIX-int8-… and PREFIX.onnx; and PREFIX.json, the card. A fresh process without this project loads
each form; its outputs are compared with Gluon's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx import cli
from dsonas_mx.deploy import check, deploy, table
from dsonas_mx.trained import Trained, network_images, read_trained

import mxnet as mx
import numpy as np

from symbols import network_of

MOST = {"fused": 1e-4, "mxnet": 1e-4, "onnx": 1e-4}  # relative differences that pass


def arguments() -> cli.Parser:
    parser = cli.Parser(description=__doc__)
    parser.add_argument("run", metavar="RUN|CHECKPOINT", help="the folder of a training, or one of")
    parser.add_argument("--out", metavar="PREFIX", help="where to write (default: RUN/model)")
    parser.add_argument("--fuse", action="store_true", help="BN folded, MKLDNN's fused operators")
    parser.add_argument("--int8", action="store_true", help="weights and activations in bytes")
    parser.add_argument("--onnx", action="store_true", help="for ONNX Runtime; needs onnx")
    parser.add_argument("--calibrate", metavar="DATA", help="folder of images; not the run's own")
    parser.add_argument("--images", type=int, default=128, help="to calibrate int8 with")
    parser.add_argument("--image-size", type=int, help="not that of the training")
    parser.add_argument("--batch", default="dynamic", help="of the ONNX file: dynamic, or a number")
    parser.add_argument("--uint8-input", action="store_true", help="normalise inside the network")
    parser.add_argument("--batch-size", type=int, default=16, help="of the comparison")
    return parser


def parse_batch(text: str) -> Optional[int]:
    """'dynamic' → None, '8' → 8."""
    if text == "dynamic":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"--batch must be dynamic or a number from 1, got {text}")
    return int(text)


def main(options: argparse.Namespace) -> int:
    for name in ("batch_size", "images"):
        if getattr(options, name) < 1:
            words = name.replace("_", "-")
            raise ValueError(f"--{words} must be at least 1, got {getattr(options, name)}")
    batch = parse_batch(options.batch)
    trained = read_trained(options.run, network_of)
    card = trained.card(options.image_size, options.uint8_input, batch)
    forms = ["mxnet", *(["fused"] if options.fuse else []), *(["int8"] if options.int8 else [])]
    forms += ["onnx"] if options.onnx else []
    count = options.images if options.int8 else 1
    calibration, pixels, real = network_images(
        trained, card, options.calibrate, count, options.batch_size
    )
    if options.int8 and not real:
        raise ValueError("--int8 needs images: give --calibrate, the folder of the data set")
    expected = outputs(trained, card.normalise(pixels))
    prefix = Path(options.out or trained.folder / "model")
    parts = [calibration[i : i + 8] for i in range(0, len(calibration), 8)]
    card = deploy(trained.net, prefix, card, forms, [p for p in parts if len(p) == len(parts[0])])
    for form in card.forms:
        for path in card.files(prefix.parent, form):
            print(path)
    print(prefix.with_name(f"{prefix.name}.json"))
    rows = check(prefix, card, pixels, expected)
    print(f"on {len(pixels)} {'test images' if real else 'random images: no data set is here'}")
    print(table(rows))
    largest = max(row.get("difference", 0) for row in rows if row["form"] == "mxnet")
    print(f"difference  {largest:.3g} at most, of {len(pixels)} images' outputs")
    wrong = [row["form"] for row in rows if row.get("relative", 0) > MOST.get(row["form"], 1)]
    return 1 if wrong else 0


def outputs(trained: Trained, data: np.ndarray) -> np.ndarray:
    """What Gluon gives."""
    found = trained.net(mx.nd.array(data))
    return (found[0] if isinstance(found, (list, tuple)) else found).asnumpy()


if __name__ == "__main__":
    cli.run(main, arguments())
