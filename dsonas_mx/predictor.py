"""Use a deployed network: images in, names of classes or maps of them out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence, Union

import mxnet as mx
import numpy as np

from .card import Card
from .checks import check_int
from .files import PathLike
from .onnx_file import ADVICE

Image = Union[PathLike, np.ndarray]


class Guess(NamedTuple):
    """A class and its probability."""

    name: str
    probability: float


class Predictor:
    """A deployed network, on the CPU, as its card describes it.

    Parameters
    ----------
    card : path
        ``NAME.json``, beside the files that `tools/export.py` wrote.
    form : {'mxnet', 'fused', 'int8', 'onnx'}, optional
        Which of its files; ``'onnx'`` runs in ONNX Runtime. The first that the card has by
        default.

    Raises
    ------
    ValueError
        The card is none, or has no such form, or a file is damaged.

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
        files = [str(path) for path in self.card.files(Path(card).parent, self.form)]
        self._run = _onnxruntime(*files) if self.form == "onnx" else _mxnet(*files)

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

        pixels = [self._pixels(image) for image in images]
        labels = []
        for image, scores in zip(pixels, self._outputs(pixels)):
            size = image.shape[1], image.shape[0]
            scaled = cv2.resize(np.ascontiguousarray(scores.transpose(1, 2, 0)), size)
            labels.append(scaled.reshape(*size[::-1], -1).argmax(2).astype(np.int32))
        return labels

    def outputs(self, images: Sequence[Image]) -> np.ndarray:
        """What the network gives: logits, B×classes, or B×classes×H×W.

        Parameters
        ----------
        images : sequence
            Paths; or arrays, uint8, H×W×3 (RGB) or H×W. Each is scaled to the network's size.
        """
        return self._outputs([self._pixels(image) for image in images])

    def _outputs(self, images: List[np.ndarray]) -> np.ndarray:
        if not images:
            raise ValueError("there must be at least one image, got none")
        data = self.card.prepare(np.stack([self._sized(image) for image in images]))
        size = (self.card.batch if self.form == "onnx" else None) or len(data)
        parts = []
        for start in range(0, len(data), size):
            part = data[start : start + size]
            filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            parts.append(self._run(filled)[: len(part)])
        return np.concatenate(parts)

    def _check_task(self, task: str) -> None:
        if self.card.task != task:
            raise ValueError(f"this network is for {self.card.task}, not for {task}")

    def _pixels(self, image: Image) -> np.ndarray:
        """The image, uint8, H×W×C, in the network's colours."""
        grey = self.card.shape[0] == 1
        if not isinstance(image, np.ndarray):
            return _read(Path(image), grey)
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise ValueError(
                f"an image must be uint8, H×W×3 or H×W, got {image.dtype} {image.shape}"
            )
        pixels = image if image.ndim == 3 else image[..., None]
        if pixels.shape[2] not in (1, 3):
            raise ValueError(f"an image must have 1 or 3 channels, got {pixels.shape[2]}")
        if pixels.shape[2] == self.card.shape[0]:
            return pixels
        import cv2

        converted = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY if grey else cv2.COLOR_GRAY2RGB)
        return converted.reshape(*pixels.shape[:2], -1)

    def _sized(self, pixels: np.ndarray) -> np.ndarray:
        """C×H×W of the network."""
        height, width = self.card.shape[1:]
        if pixels.shape[:2] != (height, width):
            import cv2

            shrinks = pixels.shape[0] > height
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            pixels = cv2.resize(pixels, (width, height), interpolation=method)
        return pixels.reshape(height, width, -1).transpose(2, 0, 1)


def _read(path: Path, grey: bool) -> np.ndarray:
    import cv2

    content = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path}: not an image that can be read")
    return image[..., None] if grey else image[..., ::-1]


def _mxnet(symbol: str, parameters: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parameters that an inference does not use
        net = mx.gluon.SymbolBlock.imports(symbol, ["data"], parameters, ctx=mx.cpu())
    net.hybridize(static_alloc=True, static_shape=True)
    return lambda data: net(mx.nd.array(data, dtype=data.dtype)).asnumpy()


def _onnxruntime(path: str) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ValueError(f"form onnx {ADVICE}") from None
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda data: session.run(None, {"data": data})[0]
