"""Pictures as RecordIO: a folder of classes, written in parts; images in memory."""

import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

import cv2
import numpy as np

from ..io.files import atomic, open_regular, read_regular, write_lines
from . import recordio
from .folders import Listing
from .imagenet import resized
from .images import Images
from .picture import MOST_BYTES, decode
from .pictures import Progress

PART = 1000  # pictures in a file of their own until all are there
_JPEG = 95  # quality


class Packed(NamedTuple):
    """How many pictures were written, and which were not, with the reason."""

    written: int
    skipped: Dict[str, str]


def pack(
    listing: Listing, out: Path, train: bool, short_side: Optional[int], progress: Progress
) -> Packed:
    """Write the records of a part of a folder, and go on where that was stopped.

    A picture is written as its file has it where every reader of records sees the same; else, and
    where its short side is made smaller, as it looks.

    Parameters
    ----------
    listing : Listing
    out : Path
        The folder of the records.
    train : bool
        Which part: ``train.rec`` or ``val.rec``.
    short_side : int or None
        Larger pictures are made as small.
    progress : callable
    """
    name = "train" if train else "val"
    pictures = listing.part(train, 0)
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(pictures))
    parts = [order[start : start + PART] for start in range(0, len(order), PART)]
    skipped: Dict[str, str] = {}
    files: List[Path] = []
    for number, part in enumerate(progress(parts, len(parts), f"writing {name}.rec")):
        path = out / f".{name}.{number:06d}.part"
        files.append(path)
        if not path.exists():
            entries = _entries(listing.root, pictures, part, number * PART, short_side)
            recordio.write(path.with_suffix(".rec"), entries)
            path.with_suffix(".rec").replace(path)
        listed = {line.split("\t")[2] for line in _lines(path.with_suffix(".lst"))}
        for key in pictures.keys[part]:
            if key not in listed:
                skipped[key] = _reason(listing.root / key)
    _join(files, out / f"{name}.rec")
    return Packed(len(pictures) - len(skipped), skipped)


def entries_of(images: Images, half: str) -> List[recordio.Entry]:
    """Every image as a PNG, which must come in the order BGR: nothing is lost."""
    entries = []
    for key, (image, label) in enumerate(zip(images.images, images.labels)):
        _, png = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
        name = f"{half}/{images.classes[label]}/{key:05d}.png"
        entries.append(recordio.Entry(key, int(label), png.tobytes(), name))
    return entries


def write_classes(folder: Path, names: Sequence[str]) -> None:
    """Write ``classes.txt``, last of all: where it is, everything is."""
    write_lines(folder / "classes.txt", names)


def _entries(
    root: Path, pictures: Any, part: np.ndarray, start: int, short_side: Optional[int]
) -> Iterator[recordio.Entry]:
    for place, index in enumerate(part.tolist()):
        key = pictures.keys[index]
        try:
            encoded = _encoded(read_regular(root / key, MOST_BYTES), short_side)
        except (ValueError, OSError):
            continue
        yield recordio.Entry(start + place, int(pictures.labels[index]), encoded, key)


def _encoded(content: bytes, short_side: Optional[int]) -> bytes:
    pixels = decode(content)
    height, width = pixels.shape[:2]
    scale = 1.0 if short_side is None else short_side / min(height, width)
    if scale >= 1 and content[:2] == b"\xff\xd8":
        return content
    if scale < 1:
        pixels = resized(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    if content[:2] == b"\xff\xd8":
        return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG])[1].tobytes()
    return cv2.imencode(".png", bgr)[1].tobytes()


def _reason(path: Path) -> str:
    try:
        decode(read_regular(path, MOST_BYTES))
    except (ValueError, OSError) as error:
        return str(error)
    return "it was not there, or another file"


def _lines(path: Path) -> List[str]:
    return read_regular(path, MOST_BYTES).decode("utf-8").splitlines()


def _join(files: List[Path], path: Path) -> None:
    """One file of several, with its .idx and .lst."""
    index: List[str] = []
    listed: List[str] = []
    with atomic(path) as temporary, open(temporary, "wb") as joined:
        for file in files:
            start = joined.tell()
            for line in _lines(file.with_suffix(".idx")):
                key, offset = line.split("\t")
                index.append(f"{key}\t{start + int(offset)}")
            listed += _lines(file.with_suffix(".lst"))
            with open_regular(file) as part:
                shutil.copyfileobj(part, joined)
    write_lines(path.with_suffix(".idx"), index)
    write_lines(path.with_suffix(".lst"), listed)
    for file in files:
        for suffix in (".part", ".idx", ".lst"):
            file.with_suffix(suffix).unlink()
