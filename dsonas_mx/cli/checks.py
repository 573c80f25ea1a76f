"""What is refused before data are read, memory is planned or a dry run prints.

Options of the method are checked where they go (`SearchOptions`, `FitOptions`, `SearchSpace`); here
are the others, which would else be noticed only when data are there.
"""

from __future__ import annotations

import argparse
from typing import Optional, Tuple

from ..data import check_source
from ..data.loader import check_seed
from ..io.checks import check_int
from ..search.search import check_turns, turns
from .data import augmentation, check_split_files
from .run import check_run

_LEAST = {
    "batch_size": 1,
    "cutout": 0,
    "num_samples": 1,
    "threads": 1,
    "workers": 1,
    "test_every": 1,
    "pictures": 0,
}


def check_options(options: argparse.Namespace) -> None:
    """Refuse what can be refused by the options, and what is in their folders, alone.

    Every script that searches or trains calls it first; what a script does not have is not checked.
    """
    check_seed(options.seed)
    for name, least in _LEAST.items():
        value = getattr(options, name, None)
        if value is not None:
            check_int(f"--{name.replace('_', '-')}", value, least)
    if hasattr(options, "normalize"):
        check_source(options.data_set, options.data_dir)
        augmentation(options, getattr(options, "cutout", 0))
    if getattr(options, "split_files", None) is not None:
        check_split_files(options)
    check_run(options)


def fit_steps(options: argparse.Namespace, num_train: int) -> int:
    """Steps an epoch of a training on so many images, at least 1."""
    if num_train < options.batch_size:
        raise ValueError(
            f"a part of {num_train:,} images is smaller than one batch of {options.batch_size:,}; "
            "use a smaller batch size or more images"
        )
    return num_train // int(options.batch_size)


def search_steps(
    options: argparse.Namespace, num_train: int, parts: Optional[Tuple[int, int]]
) -> int:
    """Steps an epoch of a search on so many images, at least 1."""
    ratio = parts or (1,)
    batches = [fit_steps(options, num_train * part // sum(ratio)) for part in ratio]
    check_turns(batches[0], batches[-1], parts)
    return len(turns(batches[0], batches[-1], parts))
