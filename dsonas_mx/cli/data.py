"""The images in memory that options ask for."""

from typing import List, Optional, Tuple, Union

import numpy as np

from ..data import check_parts, load_data_set, load_parts
from ..data.augment import Augmentation
from ..data.images import Images
from ..data.loader import Loader, split
from ..data.registry import RELEASE_MEAN, RELEASE_STD
from ..data.small import Stretched, small_images
from ..search.options import Split
from .options import ImageOptions

Small = Union[Images, Stretched]

_OWN = "your own images are a folder with a folder a class, an .npz, or train.rec and val.rec"


def load_images(
    data: ImageOptions, cutout: int = 0, validation: int = 0
) -> Tuple[Small, Small, Augmentation]:
    """Training images, test images, and the training augmentation of their data set.

    With `validation`, so many training images are taken out and returned instead of the test
    images: every class alike, and always the same ones.
    """
    train, test = (_load(data, half) for half in (True, False))
    augment = augmentation(data, cutout, train)
    if validation:
        parts = split(None, train.labels, (left(len(train), validation), validation))
        train, test = (train.subset(part) for part in parts)
    return train, test, augment


def _load(data: ImageOptions, train: bool) -> Small:
    if data.source is None:
        try:
            return load_data_set(data.name, data.data_dir, train).at(data.about.image_size)
        except FileNotFoundError as error:
            if data.data_set is not None:
                raise
            raise FileNotFoundError(f"{error}; {_OWN}") from None
    from .devices import progress

    pictures = data.source.train if train else data.source.test
    return small_images(pictures, data.about.image_size, data.about.channels, progress)


def fit_loaders(data: ImageOptions, cutout: int, validation: int) -> Tuple[Loader, Loader]:
    """Batches to train and to test on."""
    train, test, augment = load_images(data, cutout, validation)
    size = data.batch_size
    return (
        Loader(train, None, size, augment, data.seed),
        Loader(test, None, size, augment.plain(), shuffle=False, drop_last=False),
    )


def search_loaders(data: ImageOptions, parts: Split, files: Optional[str]) -> List[Loader]:
    """Batches for weights and, with a split, for λ."""
    found = load_search_images(data, parts, files)
    augment = augmentation(data, train=found[0][0])
    return [
        Loader(images, part, data.batch_size, augment, data.seed, stream=stream)
        for stream, (images, part) in enumerate(found)
    ]


def left(num_train: int, validation: int) -> int:
    """How many of so many training images are left without those of the validation."""
    if not 0 <= validation < num_train:
        raise ValueError(f"`validation` must be from 0 to {num_train - 1}, got {validation}")
    return num_train - validation


def load_search_images(
    data: ImageOptions, parts: Split, files: Optional[str] = None
) -> List[Tuple[Small, Optional[np.ndarray]]]:
    """For weights and, with a split, for λ: images, and which of them.

    Those of a folder of `files` are all of their file; else `parts` divide the training images.
    """
    if files is None:
        images = _load(data, train=True)
        return [(images, part) for part in split(None, images.labels, parts or (1,), data.seed)]
    assert parts is not None  # see check_split_files
    both = [images.at(data.about.image_size) for images in load_parts(data.name, files)]
    counts = [len(images) for images in both]
    expected = sum(counts) * parts[0] / sum(parts)
    if abs(counts[0] - expected) > len(both[0].classes):  # a split may round in every class
        raise ValueError(
            f"--split-files {files}: {counts[0]:,} and {counts[1]:,} images are not "
            f"{parts[0]}:{parts[1]}: give their ratio as --split"
        )
    return [(images, None) for images in both]


def check_split_files(data: ImageOptions, parts: Split, files: Optional[str]) -> None:
    """Refuse a folder of `files` beside what contradicts it, or without its files."""
    if files is None:
        return
    if parts is None:
        raise ValueError("--split none takes no --split-files: leave out one of the two")
    if data.data_dir is not None:
        raise ValueError("--split-files has all images of a search: leave out --data-dir")
    check_parts(data.name, files)


def augmentation(
    data: ImageOptions, cutout: int = 0, train: Optional[Small] = None
) -> Augmentation:
    """The training augmentation; that of own data needs its images `train`."""
    about = data.about
    mean, std = about.mean, about.std
    if data.normalize == "release":
        mean, std = RELEASE_MEAN, RELEASE_STD
    elif about.is_own:
        assert train is not None
        mean, std = train.mean_std()
        std = tuple(max(value, 1 / 255) for value in std)  # where all pixels are alike
    return Augmentation(mean, std, pad=about.pad, fill=about.fill, cutout=cutout)
