"""Use a deployed network: images in, names of classes or maps of them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..io.checks import check_int
from ..io.files import PathLike
from .card import Card
from .preprocess import Image, read_pixels, sized
from .serving import NotInstalled, Serving, in_batches

MOST = 32  # images at a time


class Guess(NamedTuple):
    """A class and its probability."""

    name: str
    probability: float


class Predictor:
    """A deployed network, on the CPU, as its card describes it.

    It runs in a process of its own, which ends with this object: faster than here, where MXNet runs
    as it does in training, and a damaged network cannot end the program.

    Parameters
    ----------
    card : path
        ``NAME.json``, beside the files that `tools/export.py` wrote.
    form : {'mxnet', 'fused', 'int8', 'onnx'}, optional
        Which of its files; ``'onnx'`` runs in ONNX Runtime. The first that the card has by
        default.

    Attributes
    ----------
    card : Card
    form : str
    serving : Serving
        Takes what `card.prepare` gives.

    Raises
    ------
    ValueError
        The card is none, or has no such form, or a file is damaged; or what runs it is not
        installed.

    Examples
    --------
    >>> predictor = Predictor('runs/demo/train/model.json')
    >>> predictor.classify(['shirt.png'], top=1)
    [[Guess(name='shirt', probability=0.93)]]
    """

    def __init__(self, card: PathLike, form: Optional[str] = None) -> None:
        self.card = Card.load(card)
        if not self.card.forms:
            raise ValueError(f"{card} names no files: export the network again")
        self.form = form or next(iter(self.card.forms))
        files = self.card.files(Path(card).parent, self.form)
        try:
            self.serving = Serving(self.form, files, self.card.dtype)
        except NotInstalled as error:
            advice = "; pip install 'dsonas-mx[deploy]'" if self.form == "onnx" else ""
            raise ValueError(f"form {self.form} cannot run here: {error}{advice}") from None

    def close(self) -> None:
        """End the process that runs the network; another call starts it again."""
        self.serving.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def classify(self, images: Sequence[Image], top: int = 5) -> List[List[Guess]]:
        """The `top` most likely classes of each image, the likeliest first."""
        self._check_task("classification")
        check_int("top", top, 1)
        logits = self.outputs(images)
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        probabilities = exponentials / exponentials.sum(1, keepdims=True)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        return [
            [Guess(self.card.classes[index], float(row[index])) for index in indices]
            for row, indices in zip(probabilities, order)
        ]

    def segment(self, images: Sequence[Image]) -> List[np.ndarray]:
        """The class of every pixel: int32, H×W of the image that was given."""
        self._check_task("segmentation")
        import cv2

        labels = []
        for image in images:
            pixels = read_pixels(image, self.card.shape[0])
            (scores,) = self.outputs([pixels])
            height, width = pixels.shape[:2]
            if scores.shape[1:] != (height, width):
                layers = (cv2.resize(layer, (width, height)) for layer in scores)
                scores = np.stack(list(layers))
            labels.append(scores.argmax(0).astype(np.int32))
        return labels

    def outputs(self, images: Sequence[Image]) -> np.ndarray:
        """What the network gives: logits, B×classes, or B×classes×H×W.

        Parameters
        ----------
        images : sequence
            Paths; or arrays, uint8, H×W×3 (RGB) or H×W. Each is given the network's size, if that
            has one; else all must have the same.
        """
        if not len(images):
            raise ValueError("there must be at least one image, got none")
        fixed = self.card.batch if self.form == "onnx" else None
        size = fixed or min(len(images), MOST)
        parts = []
        for start in range(0, len(images), size):
            pixels = (
                read_pixels(image, self.card.shape[0]) for image in images[start : start + size]
            )
            data = self.card.prepare(np.stack([sized(image, self.card) for image in pixels]))
            parts.append(self._checked(in_batches(self.serving, data, size), data.shape))
        return np.concatenate(parts)

    def _checked(self, outputs: np.ndarray, shape: Tuple[int, ...]) -> np.ndarray:
        """What the network gave for data of a shape, if it is what its card says."""
        maps = 4 if self.card.task == "segmentation" else 2
        count = len(self.card.classes)
        if outputs.ndim != maps or outputs.shape[:2] != (shape[0], count) or not outputs.size:
            raise ValueError(
                f"the network is not that of its card: {self.card.task} of {shape[0]} images into "
                f"{count} classes gave {outputs.shape}"
            )
        if not np.isfinite(outputs).all():
            raise ValueError("the network gives values that are not finite")
        return outputs

    def _check_task(self, task: str) -> None:
        if self.card.task != task:
            raise ValueError(f"this network is for {self.card.task}, not for {task}")
