"""What `tools/prepare_data.py` is asked, and what it refuses before it reads anything."""

import argparse
from pathlib import Path

from ..data.loader import check_ratio, check_seed
from ..io.checks import check_int
from ..search.options import parse_split
from .parser import Parser

_SCENES = ("coco-voc", "sbd")
_KINDS = {"cifar": "cifar10 and cifar100", "scenes": "coco-voc and sbd", "folder": "folder"}
_KIND_OF = {"split": "cifar", "seed": "cifar", "copy": "scenes", "short_side": "folder"}


def parser_of(description: str) -> Parser:
    """The kind of data, where it is, and the options of each kind."""
    parser = Parser(
        description=description,
        epilog="Nothing is downloaded. CIFAR is at https://www.cs.toronto.edu/~kriz/cifar.html: "
        "cifar-10-python.tar.gz, cifar-100-python.tar.gz, or the binary versions.",
    )
    parser.add_argument("data_set", choices=("folder", "cifar10", "cifar100", *_SCENES))
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


def check(options: argparse.Namespace) -> str:
    """Refuse what does not go together, or cannot be; complete the options of CIFAR.

    Returns
    -------
    {'folder', 'cifar', 'scenes'}
        The kind of data.
    """
    kind = options.data_set
    if kind != "folder":
        kind = "scenes" if kind in _SCENES else "cifar"
    for name, other in _KIND_OF.items():
        given = getattr(options, name)
        if other != kind and given is not None and given is not False:  # 0 is a seed
            raise ValueError(f"`{name}` is for {_KINDS[other]}: leave it out")
    if options.short_side is not None:
        check_int("`short_side`", options.short_side, 1)
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
    return kind
