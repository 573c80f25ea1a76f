"""Images and masks in the layout of Pascal VOC, read one by one.

A folder has `JPEGImages/NAME.jpg`, `SegmentationClass/NAME.png` (a palette or grey PNG whose values
are classes, 255 for what is ignored), `ImageSets/Segmentation/{train,val}.txt` with a name a line,
and `classes.txt` with a class a line; without it the classes are VOC's.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..io.files import PathLike, atomic
from ..io.text import read_lines
from .picture import read_mask, read_picture

CLASSES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse "
    "motorbike person pottedplant sheep sofa train tvmonitor"
).split()
VOID = 255  # in files
IGNORED = -1  # in labels
MOST_LOOKED_AT = 1000  # masks, for the classes in them: some seconds
_LISTS = Path("ImageSets") / "Segmentation"

# What a name of an option may be called in --data-dir.
FOLDERS = {
    "voc": ("voc", "VOC2012", "VOCdevkit/VOC2012"),
    "sbd": ("sbd", "SBD"),
    "coco": ("coco", "coco-voc"),
}
# How many training images there are, for a dry run without data. SBD's are those of its 11,355 that
# are neither in VOC's train nor in its val: with train they are "trainaug", DeepLabv3's 10,582.
# COCO's, those of train2017 with 1,000 pixels of VOC's classes, are an estimate.
NUM_TRAIN = {"voc": 1_464, "sbd": 9_118, "coco": 94_000}


class Files(NamedTuple):
    """An image and its mask."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True, eq=False)
class Scenes:
    """Images with masks of the same classes, which are read when they are wanted."""

    files: Tuple[Files, ...]
    classes: Tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Tuple[np.ndarray, np.ndarray]:
        """An image, uint8 H×W×3, RGB, and its labels, int16 H×W, below 0 where ignored.

        Raises
        ------
        ValueError, OSError
            A file is damaged or missing, sizes differ, or a class is unknown; it is named.
        """
        files = self.files[index]
        image, labels = _read(read_picture, files.image), self.read_labels(index)
        if image.shape[:2] != labels.shape:
            raise ValueError(
                f"{files.mask}: the mask has {_size(labels)} pixels, its image {_size(image)}"
            )
        return image, labels

    def read_labels(self, index: int) -> np.ndarray:
        """The labels alone; as `read`."""
        files = self.files[index]
        mask = _read(read_mask, files.mask)
        labels = np.where(mask == VOID, IGNORED, mask)
        if labels.max() >= len(self.classes):
            raise ValueError(
                f"{files.mask}: class {labels.max()} is unknown, there are {len(self.classes)} "
                f"(0 to {len(self.classes) - 1}, and {VOID} for what is ignored)"
            )
        return labels.astype(np.int16)


def find(data_dir: Optional[str], name: str) -> Path:
    """The folder of a data set: below `data_dir` by one of its usual names, or any other path."""
    root = Path(data_dir or ".")
    candidates = [root / folder for folder in FOLDERS.get(name, (name,))]
    for candidate in candidates:
        if (candidate / _LISTS).is_dir():
            return candidate
    raise FileNotFoundError(
        f"{candidates[0]}: not a folder in VOC layout (ImageSets/Segmentation, JPEGImages, "
        "SegmentationClass); give `data_dir`, and see docs/segmentation.md for how to get the data"
    )


def read_classes(folder: PathLike) -> Tuple[str, ...]:
    """The names of the classes of a folder: of one that is not VOC's and does not say, numbers."""
    path = Path(folder) / "classes.txt"
    if not path.is_file():
        known = {Path(name).name for names in FOLDERS.values() for name in names}
        if Path(folder).resolve().name in known:
            return tuple(CLASSES)
        return (CLASSES[0], *(f"class {number}" for number in range(1, len(CLASSES))))
    names = tuple(name for _, name in read_lines(path))
    if not 2 <= len(names) < VOID or len(set(names)) < len(names):
        raise ValueError(f"{path} must name from 2 to {VOID - 1} different classes, a line each")
    return names


def load_scenes(folder: PathLike, part: str) -> Scenes:
    """The images of one list, as ``'train'`` or ``'val'``.

    Raises
    ------
    ValueError, OSError
        The list is empty, a line is no name, or a file of it is missing; it is named.
    """
    root, files = Path(folder), []
    for name in names_in(root, part):
        image = root / "JPEGImages" / f"{name}.jpg"
        files.append(Files(name, image, root / "SegmentationClass" / f"{name}.png"))
        for file in files[-1][1:]:
            if not file.is_file():
                raise FileNotFoundError(f"{file}: not there, though {_list(root, part)} names it")
    return Scenes(tuple(files), read_classes(root))


def names_in(folder: PathLike, part: str) -> List[str]:
    """The names in one list of a folder, as ``'train'`` or ``'val'``."""
    path = _list(folder, part)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there; it lists the names of images, one a line")
    names: Dict[str, None] = {}  # in their order
    for number, name in read_lines(path):
        if Path(name).name != name or name in names:
            raise ValueError(f"{path}: line {number} is no name of an image, or is there twice")
        names[name] = None
    if not names:
        raise ValueError(f"{path} names no image")
    return list(names)


def _list(folder: PathLike, part: str) -> Path:
    return Path(folder) / _LISTS / f"{part}.txt"


def held_out(data_dir: Optional[str], data_sets: Sequence[str]) -> FrozenSet[str]:
    """The names of images that are not trained on: those in the val.txt of each data set and,
    since SBD has most of them in its own lists, in that of VOC.

    Raises
    ------
    FileNotFoundError
        A data set is not there, or SBD is asked for where VOC is not.
    """
    folders = [find(data_dir, name) for name in data_sets]
    try:
        folders.append(find(data_dir, "voc"))
    except FileNotFoundError as error:
        if "sbd" in data_sets:
            raise FileNotFoundError(
                f"{error}; SBD has images of VOC's val, and VOC's val.txt says which are left out"
            ) from None
    lists = (folder for folder in folders if _list(folder, "val").is_file())
    return frozenset(name for folder in lists for name in names_in(folder, "val"))


def training(folders: Sequence[PathLike], without: FrozenSet[str] = frozenset()) -> Scenes:
    """The training images of several folders together, each name once, but those of `without`.

    An image that is in several, as those of VOC are in SBD, has the mask of the last.
    """
    together: Dict[str, Files] = {}
    classes: List[Tuple[str, ...]] = []
    for folder in folders:
        scenes = load_scenes(folder, "train")
        classes.append(scenes.classes)
        if scenes.classes != classes[0]:
            raise ValueError(f"{folder} has other classes than {folders[0]}: see their classes.txt")
        together.update((files.name, files) for files in scenes.files)
    for name in without:
        together.pop(name, None)
    if not together:
        raise ValueError(f"{folders[0]}: all its training images are test images")
    return Scenes(tuple(together.values()), classes[0])


def _read(reader: Callable[[Path], np.ndarray], path: Path) -> np.ndarray:
    try:
        return reader(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: not there") from None


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"


def classes_in(scenes: Scenes, most: int = MOST_LOOKED_AT) -> Tuple[np.ndarray, int]:
    """Which classes occur in masks, and in how many of these it was looked: evenly, if in some.

    Raises
    ------
    ValueError, OSError
        A mask cannot be read, or has an unknown class; it is named.
    """
    places = np.linspace(0, len(scenes) - 1, min(most, len(scenes))).astype(int)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda place: np.unique(scenes.read_labels(place)), places))
    occur = np.unique(np.concatenate(found))
    return occur[occur != IGNORED], len(places)


def palette() -> np.ndarray:
    """VOC's colours, uint8 256×3: bit by bit from the number of the class."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((numbers >> channel & 1) << (7 - bit)).astype(np.uint8)
        numbers = numbers >> 3
    return colours


def save_mask(path: Path, mask: np.ndarray) -> None:
    """Write a map of classes, uint8 H×W, as a PNG with VOC's palette."""
    from PIL import Image

    image = Image.fromarray(mask, "P")
    image.putpalette(palette().ravel().tolist())
    with atomic(path) as temporary:
        image.save(temporary, "PNG")
