"""The card of a deployed network: all that one must know to use its files."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from ..io.checks import check_choice, check_int, check_list, check_object, check_text, shown
from ..io.files import PathLike, open_regular, read_json, write_json

FORMAT, VERSION = "dsonas-deployed", 1
TASKS = ("classification", "segmentation")
FORMS = ("mxnet", "fused", "int8", "onnx")
RESIZES = ("stretch", "centre", "none")


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
        if self.task not in TASKS:
            raise ValueError(f"task must be {' or '.join(TASKS)}, got {shown(self.task)}")
        if self.resize not in RESIZES:
            raise ValueError(f"resize must be {', '.join(RESIZES)}, got {shown(self.resize)}")
        for name in ("classes", "shape", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.shape) != 3:
            raise ValueError(f"shape must be C, H, W, got {shown(self.shape)}")
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise ValueError(f"mean and std must have {self.shape[0]} values, one a channel")

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
        if data.get("version") != VERSION:
            raise ValueError(f"version must be {VERSION}, got {shown(data.get('version'))}")
        values = {name: value for name, value in data.items() if name not in ("format", "version")}
        known = [entry.name for entry in fields(cls)]
        for name in values:
            if name not in known:
                raise ValueError(f"unknown field {shown(name)}")
        check_text("name", data.get("name"))
        for name in check_list("classes", data.get("classes")):
            check_text("classes", name)
        for size in check_list("shape", data.get("shape"), 3):
            check_int("shape", size, 1)
        for name in ("mean", "std"):
            for value in check_list(name, data.get(name)):
                if not isinstance(value, (int, float)) or isinstance(value, bool):
                    raise ValueError(f"{name} must have numbers, got {shown(value)}")
        if min(data["std"], default=1) <= 0:
            raise ValueError("std must be above 0")
        for form, files in check_object("forms", data.get("forms", {})).items():
            check_choice("forms", form, FORMS)
            for name, digest in check_object(form, files).items():
                _check_name(form, name)
                check_text(name, digest)
        return cls(**values)

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


def _check_name(field_name: str, value: Any) -> None:
    """Refuse what is not the name of a file in a folder."""
    check_text(field_name, value)
    if not value.strip(".") or Path(value).name != value or "\0" in value:
        raise ValueError(f"{field_name} must be the name of a file, got {shown(value)}")


def sha256(path: PathLike) -> str:
    """The checksum of a file."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            digest.update(part)
    return digest.hexdigest()
