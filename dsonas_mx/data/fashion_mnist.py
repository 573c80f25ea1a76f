"""Fashion-MNIST (Xiao et al. 2017): 6,000 + 2,000 balanced images, embedded in the package."""

from pathlib import Path

import numpy as np

from .images import Images
from .registry import DATA_SETS

FILE = Path(__file__).with_name("fashion_mnist_6k_2k.npz")


def load_fashion_mnist(train: bool = True) -> Images:
    """The 6,000 training or the 2,000 test images, N×28×28×1.

    Raises
    ------
    FileNotFoundError
        The package was installed without its data file.
    """
    half = "train" if train else "test"
    try:
        with np.load(FILE, allow_pickle=False) as arrays:
            images, labels = arrays[f"{half}_images"], arrays[f"{half}_labels"]
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{FILE}: not there; install the package again with its data files"
        ) from None
    return Images(
        images[..., np.newaxis], labels.astype(np.int32), DATA_SETS["fashion_mnist"].classes
    )
