"""COCO's annotations as masks of VOC's classes, and SBD's, in VOC layout."""

import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping

import numpy as np

from ..io.checks import shown
from ..io.files import PathLike, parse_json, read_regular, write_lines
from ..io.text import read_text
from .voc import CLASSES, VOID, save_mask

# COCO's names of VOC's classes, where they differ.
NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
LEAST_PIXELS = 1000  # of VOC's classes, or an image is left out (as GluonCV and torchvision do)

_MOST_BYTES = 2**31  # of the annotations


def classes_by_category(categories: Iterable[Mapping[str, Any]]) -> Dict[int, int]:
    """VOC's class of each COCO category that is one, by the category's number.

    Raises
    ------
    ValueError
        One of VOC's classes is not there.
    """
    numbers = {category["name"]: category["id"] for category in categories}
    missing = [name for name in CLASSES[1:] if NAMES.get(name, name) not in numbers]
    if missing:
        raise ValueError(f"the annotations have no category {NAMES.get(missing[0], missing[0])!r}")
    return {numbers[NAMES.get(name, name)]: index for index, name in enumerate(CLASSES) if index}


def mask_of(
    height: int,
    width: int,
    annotations: Iterable[Mapping[str, Any]],
    classes: Mapping[int, int],
    pixels: Callable[[Mapping[str, Any]], np.ndarray],
) -> np.ndarray:
    """The mask of an image, uint8 height×width.

    The larger an object the further back it is; what a crowd covers, and nothing else, is ignored.

    Parameters
    ----------
    annotations
        As COCO has them: ``category_id``, ``iscrowd``, ``area``.
    classes
        See `classes_by_category`; objects of other categories are background.
    pixels : callable
        The pixels of an annotation, height×width, nonzero where it is.
    """
    mask = np.zeros((height, width), np.uint8)
    known = [a for a in annotations if a["category_id"] in classes]
    crowds_first = sorted(known, key=lambda a: (not a.get("iscrowd", 0), -a["area"]))
    for annotation in crowds_first:
        value = VOID if annotation.get("iscrowd", 0) else classes[annotation["category_id"]]
        mask[pixels(annotation) > 0] = value
    return mask


def convert(
    annotations: PathLike, images: PathLike, out: PathLike, part: str, copy: bool = False
) -> int:
    """Write the masks of one annotation file, and the list of its images, into a VOC layout.

    Parameters
    ----------
    annotations : path
        ``instances_train2017.json`` or its like.
    images : path
        The folder of its images, which are linked to, or copied.
    out : path
    part : {'train', 'val'}
        The list that is written.

    Returns
    -------
    int
        How many images there are.

    Raises
    ------
    ValueError, OSError
        A file is not COCO's, or not there; it is named.
    """
    try:
        from pycocotools import mask as run_lengths
    except ImportError:
        raise ValueError("coco-voc needs pycocotools: pip install pycocotools") from None
    path = Path(annotations)
    try:
        data = parse_json(read_regular(path, _MOST_BYTES))
        classes = classes_by_category(data["categories"])
        by_image: Dict[int, List[Mapping[str, Any]]] = {i["id"]: [] for i in data["images"]}
        for annotation in data["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not COCO's instances ({error})") from None
    folder, names = Path(out), []
    make_folders(folder)
    for image in data["images"]:
        try:
            height, width = int(image["height"]), int(image["width"])
            file = _name(image["file_name"], path)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: not COCO's instances ({error!r})") from None

        def pixels(annotation: Any, height: int = height, width: int = width) -> np.ndarray:
            shape = annotation["segmentation"]
            if isinstance(shape, list):  # polygons
                shape = run_lengths.merge(run_lengths.frPyObjects(shape, height, width))
            elif isinstance(shape["counts"], list):
                shape = run_lengths.frPyObjects(shape, height, width)
            return run_lengths.decode(shape)

        try:
            mask = mask_of(height, width, by_image[image["id"]], classes, pixels)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: image {shown(image['id'])}: an annotation is not COCO's ({error!r})"
            ) from None
        if np.count_nonzero((mask > 0) & (mask != VOID)) < LEAST_PIXELS:
            continue
        source = Path(images) / file
        if not source.is_file():
            raise FileNotFoundError(f"{source}: not there, though {path} names it")
        name = source.stem
        place(source, folder / "JPEGImages" / f"{name}.jpg", copy)
        save_mask(folder / "SegmentationClass" / f"{name}.png", mask)
        names.append(name)
    write_list(folder, part, names)
    return len(names)


def _name(name: Any, path: Path) -> str:
    """What a list names, refused unless it is the name of a file in its folder."""
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"{path}: {shown(name)} is no name of a file")
    return name


def make_folders(folder: Path) -> None:
    """Those of a VOC layout."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True, exist_ok=True)


def write_list(folder: Path, part: str, names: Iterable[str]) -> None:
    """The list of names of a part."""
    write_lines(folder / "ImageSets" / "Segmentation" / f"{part}.txt", names)


def place(source: Path, target: Path, copy: bool) -> None:
    """Link to an image, or copy it; what is there already is replaced."""
    if target.is_symlink() or target.exists():
        target.unlink()
    if copy:
        shutil.copyfile(source, target)
    else:
        target.symlink_to(source.resolve())


def convert_coco(source: PathLike, out: PathLike, copy: bool = False) -> Dict[str, int]:
    """Write COCO 2017 (train2017, val2017, annotations) in VOC layout; see `convert`.

    Returns
    -------
    dict
        How many images each list has.
    """
    root = Path(source)
    counts = {}
    for part in ("train", "val"):
        annotations = root / "annotations" / f"instances_{part}2017.json"
        counts[part] = convert(annotations, root / f"{part}2017", out, part, copy)
    return counts


def convert_sbd(source: PathLike, out: PathLike, copy: bool = False) -> Dict[str, int]:
    """Write SBD (``benchmark_RELEASE/dataset``: img, cls, train.txt, val.txt) in VOC layout.

    Its two lists become one, ``train``: whoever trains leaves out what is tested on.

    Returns
    -------
    dict
        How many images the list has.
    """
    from scipy.io import loadmat

    root, folder = Path(source), Path(out)
    names: List[str] = []
    for part in ("train", "val"):
        path = root / f"{part}.txt"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: not there; give the folder dataset of SBD")
        names += [_name(name, path) for name in read_text(path).split()]
    make_folders(folder)
    for name in names:
        image, mask = root / "img" / f"{name}.jpg", root / "cls" / f"{name}.mat"
        for file in (image, mask):
            if not file.is_file():
                raise FileNotFoundError(f"{file}: not there, though a list of {root} names it")
        try:
            labels = loadmat(str(mask), squeeze_me=True)["GTcls"]["Segmentation"].item()
        except Exception as error:  # scipy raises many kinds
            raise ValueError(f"{mask}: not a mask of SBD ({error}); copy it again") from None
        place(image, folder / "JPEGImages" / f"{name}.jpg", copy)
        save_mask(folder / "SegmentationClass" / f"{name}.png", labels.astype(np.uint8))
    write_list(folder, "train", names)
    return {"train": len(names)}
