"""Real images to calibrate a deployed network with, and to compare its forms on."""

from itertools import islice
from pathlib import Path
from typing import Iterable, Iterator, List, Optional, Tuple

import numpy as np

from ..data import DATA_SETS, SMALL, load_data_set, voc
from ..data.pictures import Pictures
from ..data.records import Records
from ..data.registry import OWN
from ..data.source import kind_of, open_source
from .card import Card
from .preprocess import image_files, read_pixels, sized
from .trained import Trained

Halves = Tuple[Iterable[np.ndarray], Iterable[np.ndarray]]


def sample_images(
    trained: Trained, card: Card, data_dir: Optional[str], to_calibrate: int, to_compare: int
) -> Tuple[np.ndarray, np.ndarray, bool]:
    """Training images to calibrate with and test images to compare on, uint8 B×C×H×W.

    Parameters
    ----------
    data_dir : path, optional
        A folder of the kind that the run was trained on, or one with images in it: the first are
        to calibrate with, the last to compare on. The run's own by default.
    to_calibrate, to_compare : int
        How many at most.

    Returns
    -------
    calibration, compared : numpy.ndarray
    real : bool
        False where the run's data are not here, and the pixels are random.
    """
    try:
        halves = _halves(trained, card, data_dir, to_compare)
        counts = to_calibrate, to_compare
        stacked = [
            np.stack([sized(image, card, force=True) for image in islice(half, count)])
            for half, count in zip(halves, counts)
        ]
    except (OSError, ValueError):
        if data_dir is not None:
            raise
        generator = np.random.RandomState(0)
        shape = (to_calibrate + to_compare, *card.shape)
        pixels = generator.randint(0, 256, shape).astype(np.uint8)
        return pixels[:to_calibrate], pixels[to_calibrate:], False
    return stacked[0], stacked[1], True


def batches(images: np.ndarray, size: int) -> List[np.ndarray]:
    """Batches of one size; what is left over is not used, if there is a whole one."""
    parts = [images[i : i + size] for i in range(0, len(images), size)]
    return [part for part in parts if len(part) == len(parts[0])]


def _halves(trained: Trained, card: Card, data_dir: Optional[str], to_compare: int) -> Halves:
    """Training and test images, uint8 H×W×C."""
    options = trained.options
    name, folder = options.get("data_set", ""), data_dir or options.get("data_dir")
    files = image_files(data_dir) if data_dir is not None else []
    if files:
        channels = card.shape[0]
        return _files(files, channels), _files(files[-to_compare:], channels)
    if trained.task == "segmentation":
        lists = Path(data_dir or "") / "ImageSets" / "Segmentation"
        root = Path(data_dir) if data_dir and lists.is_dir() else voc.find(folder, name)
        return _scenes(voc.load_scenes(root, "train")), _scenes(voc.load_scenes(root, "val"))
    if kind_of(folder) in OWN and name in OWN:
        source = open_source(str(folder), channels=card.shape[0])
        return _pictures(source.train), _pictures(source.test)
    if name == "imagenet":
        given = (None, None) if data_dir else (options.get("data_train"), options.get("data_val"))
        paths = [
            path or Path(folder or ".") / default
            for path, default in zip(given, ("train.rec", "val.rec"))
        ]
        first, second = (Records(path, len(card.classes), card.shape[1]) for path in paths)
        return _pictures(first), _pictures(second)
    if name not in SMALL:
        known = ", ".join(DATA_SETS)
        raise FileNotFoundError(
            f"{folder}: no images (*.jpg, *.png), and the run does not say which data set ("
            f"{known}) it was trained on"
        )
    train, test = (load_data_set(name, folder, train=half) for half in (True, False))
    return train.images, test.images


def _files(files: Iterable[Path], channels: int) -> Iterator[np.ndarray]:
    return (read_pixels(file, channels) for file in files)


def _scenes(scenes: voc.Scenes) -> Iterator[np.ndarray]:
    return (scenes.read(index)[0] for index in range(len(scenes)))


def _pictures(pictures: Pictures) -> Iterator[np.ndarray]:
    """Those that can be read, spread over all of them: a folder has them by class."""
    order = np.arange(len(pictures))
    if pictures.by_class:
        order = np.random.default_rng(0).permutation(order)
    for index in order:
        yield from pictures.readable(np.array([index]))[0]
