"""Images to search and train on: data sets in memory, augmentation, batches."""

from pathlib import Path
from typing import Optional, Tuple

from .cifar import load_cifar, load_cifar_records
from .fashion_mnist import load_fashion_mnist
from .images import Images
from .registry import DATA_SETS, SMALL, DataSet

__all__ = ["DATA_SETS", "SMALL", "DataSet", "Images", "load_data_set", "load_parts"]

EMBEDDED = "fashion_mnist"
PARTS = ("train1.rec", "train2.rec")  # files of the samples for weights and for λ


def load_data_set(name: str, data_dir: Optional[str] = None, train: bool = True) -> Images:
    """The training or test half of one of `SMALL`; Fashion-MNIST is embedded."""
    check_source(name, data_dir)
    if name == EMBEDDED:
        return load_fashion_mnist(train)
    return load_cifar(data_dir, train, name)


def load_parts(name: str, folder: str) -> Tuple[Images, Images]:
    """The training images for weights, ``train1.rec`` of a folder, and for λ, ``train2.rec``."""
    check_parts(name, folder)
    first, second = (load_cifar_records(Path(folder) / part, name) for part in PARTS)
    return first, second


def check_source(name: str, data_dir: Optional[str]) -> None:
    """Refuse an unknown data set, and a folder of one that has none."""
    _check(name)
    if name == EMBEDDED and data_dir:
        raise ValueError("fashion_mnist is embedded: leave out `data_dir`, or give `data_set`")


def check_parts(name: str, folder: str) -> None:
    """Refuse a folder without the two files of `load_parts`."""
    _check(name)
    if name == EMBEDDED:
        raise ValueError("fashion_mnist is embedded and has no files: leave out `split_files`")
    for part in PARTS:
        if not (Path(folder) / part).is_file():
            raise FileNotFoundError(
                f"{Path(folder) / part}: not there; make it with tools/prepare_data.py {name}"
            )


def _check(name: str) -> None:
    if name not in SMALL:
        raise ValueError(f"data set must be {', '.join(SMALL)}, got {name}")
