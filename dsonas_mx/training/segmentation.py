"""Segmentation: a training in stages of its own data, and whole images predicted and tested."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

import cv2
import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..data.loader import Batch
from ..data.scenes import SceneLoader, normalised
from ..data.voc import VOID, Scenes, palette
from ..engine.setup import Setup
from ..engine.workers import Workers
from ..io.files import PathLike, atomic
from .confusion import Confusion
from .fit import Inference
from .loop import Loop
from .loss import pixel_cross_entropy
from .metric import Score
from .options import SegmentationOptions
from .schedule import poly

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # of a multi-scale test (Chen et al. 2017)


class Stage(NamedTuple):
    """Epochs on some data, with a learning rate that falls from this one to 0."""

    data: SceneLoader
    num_epochs: int
    learning_rate: float


@dataclass(frozen=True)
class SegmentationEpoch:
    """What an epoch, counted from 1, did; `test` is there if the network was tested after it."""

    epoch: int
    stage: int
    learning_rate: float
    train: Score
    test: Optional[Confusion]

    @property
    def error(self) -> Optional[float]:
        """1 − mean IoU, what the best epoch has the least of."""
        return None if self.test is None else 1 - self.test.mean_iou

    def row(self) -> Dict[str, Any]:
        """The row of ``metrics.csv``; the learning rate is that of the epoch's last step."""
        return {
            "epoch": self.epoch,
            "stage": self.stage + 1,
            "learning_rate": self.learning_rate,
            "train_loss": self.train.loss,
            "train_accuracy": self.train.accuracy,
            "test_accuracy": self.test and self.test.pixel_accuracy,
            "test_miou": self.test and self.test.mean_iou,
        }

    def __str__(self) -> str:
        tested = "" if self.test is None else f"; test mIoU {self.test.mean_iou:.2%}"
        return (
            f"epoch {self.epoch}, stage {self.stage + 1}: train loss {self.train.loss:.4f}, "
            f"pixel accuracy {self.train.accuracy:.2%}{tested}"
        )


class SegmentationFit(Loop):
    """Training of a segmentation network by SGD, stage after stage.

    In each stage the learning rate falls step by step as rate·(1 − step/steps)^0.9 (the poly
    schedule of DeepLabv3); momentum goes on from stage to stage.

    Parameters
    ----------
    net : HybridBlock
    stages : sequence of Stage
        All of one batch and crop size.
    test_data : Scenes
    options : SegmentationOptions
    loss : callable
        See `dsonas_mx.training.loss`.
    setup : Setup
        `net` is initialised on its devices.
    """

    def __init__(
        self,
        net: HybridBlock,
        *,
        stages: Sequence[Stage],
        test_data: Scenes,
        options: Optional[SegmentationOptions] = None,
        loss: Callable[..., Any] = pixel_cross_entropy,
        setup: Optional[Setup] = None,
    ) -> None:
        super().__init__(stages[0].data, loss, setup or Setup())
        self.options = options or SegmentationOptions()
        self.net = net
        self._stages = tuple(stages)
        self.num_epochs = sum(stage.num_epochs for stage in stages)
        self._test_data = test_data
        momentum, decay = self.options.momentum, self.options.weight_decay
        self._bind({"all": mx.optimizer.create("sgd", momentum=momentum, wd=decay)})

    def steps_of(self, epoch: int) -> int:
        """Those of its stage."""
        number, _ = self._place(epoch)
        return len(self._stages[number].data)

    def outcome(self) -> Confusion:
        """The counts on the test data."""
        return self.test()

    def _place(self, epoch: int) -> Tuple[int, int]:
        """The stage of an epoch, and which one it is in it, all from 0."""
        for number, stage in enumerate(self._stages):
            if epoch < stage.num_epochs:
                return number, epoch
            epoch -= stage.num_epochs
        raise ValueError("the training is over")

    def _rate(self, position: int) -> float:
        """The learning rate of a step of the present epoch."""
        number, epoch = self._place(self.epoch)
        stage = self._stages[number]
        length = len(stage.data)
        done = (epoch * length + position) / (stage.num_epochs * length)
        return poly(done, stage.learning_rate)

    def _step(self, kind: str, batch: Batch) -> None:
        self._set_rate(self._rate(self.position))
        super()._step(kind, batch)

    def step_epoch(self) -> SegmentationEpoch:
        """Train for an epoch, then test if it is time to.

        Raises
        ------
        ArithmeticError
            A loss that is not finite.
        """
        number, _ = self._place(self.epoch)
        data = self._stages[number].data
        train = self._run_steps(("all",) * len(data), {"all": data}, "train")["all"]
        rate = self._set_rate(self._rate(len(data) - 1))  # the last step may have been long ago
        last = self.epoch + 1 == self.num_epochs
        tested = self.test() if last or (self.epoch + 1) % self.options.test_every == 0 else None
        self._next_epoch()
        return SegmentationEpoch(self.epoch, number, rate, train, tested)

    def test(self) -> Confusion:
        """The counts on the test data, with the moving statistics of BN of the first device."""
        predict = Predictor(self.net, self._contexts[0], workers=self.workers)
        try:
            return evaluate(
                predict, self._test_data, after_image=self.after_step, workers=self.workers
            )
        except (OSError, ValueError):  # an image that cannot be read
            self.data_failed()
            raise


class Predictor:
    """Classes of the pixels of whole images, of any size.

    It runs on copies of the parameters of `net`, see `dsonas_mx.training.fit.Inference`.

    Parameters
    ----------
    net : HybridBlock
        Initialised.
    context : mx.Context
    scales : sequence of float
        The image is predicted at each of these scales, and the probabilities averaged.
    flip : bool
        At each scale also mirrored.
    workers : Workers, optional
        All of them predict with the statistics that the first one has.
    """

    def __init__(
        self,
        net: HybridBlock,
        context: mx.Context,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        workers: Optional[Workers] = None,
    ) -> None:
        logits = net(mx.sym.Variable("data"))
        logits = logits[0] if isinstance(logits, (list, tuple)) else logits
        symbol = mx.sym.softmax(logits, axis=1)
        self._run = Inference(symbol, net, context)
        self._scales = tuple(scales)
        self._flip = flip
        if workers is not None and workers.size > 1:
            for name in symbol.list_auxiliary_states():
                array = self._run.arrays[name]
                array[:] = workers.broadcast(array.asnumpy())

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The classes of an image, uint8 H×W×3: H×W."""
        height, width = image.shape[:2]
        total: Any = 0
        for scale in self._scales:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            resized = image if scale == 1 else cv2.resize(image, size)
            for mirrored in (False, True) if self._flip else (False,):
                data = normalised(resized[:, ::-1] if mirrored else resized)
                found = self._run(data[None]).asnumpy()[0]
                found = found[:, :, ::-1] if mirrored else found
                total = total + _resized(found, width, height)
        return total.argmax(0)


def _resized(maps: np.ndarray, width: int, height: int) -> np.ndarray:
    if maps.shape[1:] == (height, width):
        return maps
    return np.stack([cv2.resize(np.ascontiguousarray(m), (width, height)) for m in maps])


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray],
    scenes: Scenes,
    each: Callable[[int, np.ndarray, np.ndarray, np.ndarray], None] = lambda *found: None,
    after_image: Callable[[], None] = lambda: None,
    workers: Optional[Workers] = None,
) -> Confusion:
    """The counts over all scenes; `each` gets number, image, labels and prediction of each.

    `workers` take the scenes in turn, and each of them gets the counts of all.
    """
    workers = workers or Workers()
    confusion = Confusion(len(scenes.classes))
    for first in range(0, len(scenes), workers.size):
        index = first + workers.rank
        if index < len(scenes):
            image, labels = scenes.read(index)
            prediction = predict(image)
            confusion.add(prediction, labels)
            each(index, image, labels, prediction)
        after_image()
    counts = workers.gather(confusion.counts.view(np.float32)).view(np.int64)
    confusion.counts = counts.reshape(-1, *confusion.counts.shape).sum(0)
    return confusion


def save_picture(
    path: PathLike, image: np.ndarray, labels: np.ndarray, prediction: np.ndarray
) -> None:
    """A PNG of an image, its labels and a prediction side by side, in VOC's colours.

    Of what is ignored, the labels are a pale yellow, and the prediction is shown.
    """
    colours = palette()
    colours[VOID] = 224, 224, 192
    masks = [colours[np.where(mask < 0, VOID, mask)] for mask in (labels, prediction)]
    done, png = cv2.imencode(".png", np.concatenate([image, *masks], axis=1)[..., ::-1])
    if not done:
        raise OSError(f"{path}: the picture could not be made")
    with atomic(path) as temporary:
        temporary.write_bytes(png.tobytes())
