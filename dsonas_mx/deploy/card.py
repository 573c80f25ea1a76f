"""The card of a deployed network: all that one must know to use its files."""

from __future__ import annotations

import re
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from ..io.checks import (
    check_choice,
    check_fields,
    check_int,
    check_json,
    check_list,
    check_number,
    check_object,
    check_printable,
    check_text,
    shown,
)
from ..io.files import PathLike, read_json, sha256, write_json

FORMAT, VERSION = "dsonas-deployed", 1
TASKS = ("classification", "segmentation")
FORMS = ("mxnet", "fused", "int8", "onnx")
RESIZES = ("stretch", "centre", "none")

MOST_SIDE = 2**14
_MOST_CLASSES, _MOST_BATCH = 1_000_000, 2**12
_LARGE = 1e6  # far beyond any mean of pixels from 0 to 1


@dataclass(frozen=True)
class Card:
    """A deployed network.

    Attributes
    ----------
    name : str
        What its files begin with.
    task : {'classification', 'segmentation'}
        The output is B×classes, or B×classes×H×W.
    classes : tuple of str
    shape : C, H, W
        Of its input, B×C×H×W; channels are RGB, or grey.
    mean, std : tuple of float
        A value a channel, of pixels scaled to 0..1.
    resize : {'stretch', 'centre', 'none'}
        How an image gets that size: scaled; or its short side scaled to 256/224 of it, and the
        centre cut out, as in a test on ImageNet; or not at all: the network takes any size, and
        that of `shape` is what it was trained, calibrated and timed on.
    uint8_input : bool
        It normalises by itself, and takes pixels 0..255; else it takes normalised float32.
    batch : int or None
        Images at a time of the ONNX file; None for any. The others take any.
    parameters, multiply_adds : int or None
    test_error, mean_iou : float or None
        A fraction; of a classifier, and of a segmentation network.
    architecture : dict or None
        As `Architecture.to_json` has it.
    forms : dict
        For each of 'mxnet', 'fused', 'int8', 'onnx' that was written: its files with their SHA-256.
    """

    name: str
    task: str
    classes: Tuple[str, ...]
    shape: Tuple[int, int, int]
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    resize: str = "stretch"
    uint8_input: bool = False
    batch: Optional[int] = None
    parameters: Optional[int] = None
    multiply_adds: Optional[int] = None
    test_error: Optional[float] = None
    mean_iou: Optional[float] = None
    architecture: Optional[Dict[str, Any]] = None
    forms: Dict[str, Dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_text("name", self.name)
        check_choice("task", self.task, TASKS)
        check_choice("resize", self.resize, RESIZES)
        classes = check_list("classes", self.classes)
        if not 1 <= len(classes) <= _MOST_CLASSES:
            raise ValueError(f"classes must be 1 to {_MOST_CLASSES:,}, got {len(classes)}")
        for name in classes:
            check_printable("classes", name)
        shape = [
            check_int("shape", size, 1, MOST_SIDE) for size in check_list("shape", self.shape, 3)
        ]
        if shape[0] not in (1, 3):
            raise ValueError(f"shape must have 1 or 3 channels, got {shape[0]}")
        if self.resize == "centre" and shape[1] != shape[2]:
            raise ValueError(f"shape must be square where resize is centre, got {shown(shape)}")
        for name, least in (("mean", -_LARGE), ("std", 1 / _LARGE)):
            values = check_list(name, getattr(self, name), shape[0])
            numbers = [check_number(name, value, least, _LARGE) for value in values]
            object.__setattr__(self, name, tuple(numbers))
        object.__setattr__(self, "classes", tuple(classes))
        object.__setattr__(self, "shape", tuple(shape))
        if not isinstance(self.uint8_input, bool):
            raise ValueError(f"uint8_input must be true or false, got {shown(self.uint8_input)}")
        if self.batch is not None:
            check_int("batch", self.batch, 1, _MOST_BATCH)
        for name in ("parameters", "multiply_adds"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), 0, 2**63 - 1)
        for name in ("test_error", "mean_iou"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 0, 1)
        if self.architecture is not None:
            check_json("architecture", check_object("architecture", self.architecture))
        for form, files in check_object("forms", self.forms).items():
            check_choice("forms", form, FORMS)
            _check_files(form, check_object(form, files))

    @property
    def dtype(self) -> str:
        """Of the input."""
        return "uint8" if self.uint8_input else "float32"

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels, uint8 B×C×H×W, as the network takes them."""
        return np.ascontiguousarray(pixels) if self.uint8_input else self.normalise(pixels)

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels as they were in training, float32."""
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self.mean, self.std))
        return ((pixels.astype(np.float32) / 255 - mean) / std).astype(np.float32)

    def save(self, path: PathLike) -> None:
        """Write the JSON file."""
        write_json(path, {"format": FORMAT, "version": VERSION, **asdict(self)})

    @classmethod
    def load(cls, path: PathLike) -> Card:
        """Read the JSON file.

        Raises
        ------
        ValueError
            It is no card, or a field is wrong; the message names both.
        """
        return read_json(path, cls._from_json)

    @classmethod
    def _from_json(cls, data: Any) -> Card:
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise ValueError("not the card of a deployed network; tools/export.py writes one")
        if type(data.get("version")) is not int or data["version"] != VERSION:
            raise ValueError(f"version must be {VERSION}, got {shown(data.get('version'))}")
        values = {name: value for name, value in data.items() if name not in ("format", "version")}
        without = (MISSING, MISSING)  # a default
        needed = [one.name for one in fields(cls) if (one.default, one.default_factory) == without]
        return cls(**check_fields("", values, needed, [entry.name for entry in fields(cls)]))

    def files(self, folder: PathLike, form: str) -> Tuple[Path, ...]:
        """The files of a form, found to be those that were written.

        Raises
        ------
        ValueError
            There is no such form, or a file is another one or damaged.
        """
        if form not in self.forms:
            raise ValueError(f"form must be {', '.join(self.forms)}, got {shown(form)}")
        paths = []
        for name, digest in self.forms[form].items():
            path = Path(folder) / name
            if sha256(path) != digest:
                raise ValueError(f"{path} is not the file that the card names: copy it again")
            paths.append(path)
        return tuple(paths)


def _check_files(form: str, files: Mapping[str, Any]) -> None:
    """Refuse what is not the files of a form, in a folder, each with a digest."""
    for name, digest in files.items():
        check_printable(form, name)
        if not name.strip(".") or Path(name).name != name:
            raise ValueError(f"{form} must be the name of a file, got {shown(name)}")
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise ValueError(f"{name} must have a SHA-256, got {shown(digest)}")
    endings = (".onnx",) if form == "onnx" else ("-symbol.json", ".params")
    if len(files) != len(endings) or not all(map(str.endswith, files, endings)):
        raise ValueError(f"{form} must have files named {' and '.join(f'*{e}' for e in endings)}")


def parse_batch(text: str) -> Optional[int]:
    """The batch of an ONNX file from an option: ``'dynamic'`` → None, ``'8'`` → 8."""
    if text == "dynamic":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"`batch` must be dynamic or a number from 1, got {text}")
    return int(text)
