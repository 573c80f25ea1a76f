"""A trained network as its run folder, or a checkpoint in it, has it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
from mxnet.gluon import HybridBlock

from .card import Card
from .data import DATA_SETS, cifar, imagenet, load
from .export import load_parameters
from .files import PathLike
from .mobile_architecture import AnyArchitecture, load_architecture
from .mobile_cost import count_network
from .params_file import read_params

_OF_NETWORK = "net.0/"  # the parameters of the first device in a checkpoint


@dataclass(frozen=True)
class Trained:
    """A network with its parameters, and what its run says of it."""

    folder: Path
    net: HybridBlock
    architecture: AnyArchitecture
    options: Dict[str, Any]
    result: Dict[str, Any]

    def card(
        self,
        image_size: Optional[int] = None,
        uint8_input: bool = False,
        batch: Optional[int] = None,
    ) -> Card:
        """Its card, without files."""
        space = self.architecture.space
        side = image_size or space.image_size
        architecture = self.architecture.with_space(image_size=side)
        cost = count_network(architecture)
        name = self.options.get("data_set", "")
        mean, std = (0.0,) * space.in_channels, (1.0,) * space.in_channels
        classes = tuple(str(number) for number in range(space.num_classes))
        if name == "imagenet":
            mean, std = imagenet.MEAN, imagenet.STD
        data = DATA_SETS.get(name)
        if data is not None and data.channels == space.in_channels:
            mean, std = _normalisation(self.options, data)
            if len(data.classes) == space.num_classes:
                classes = data.classes
        return Card(
            "",
            "classification",
            classes,
            (space.in_channels, side, side),
            mean,
            std,
            uint8_input,
            batch,
            cost.parameters,
            cost.multiply_adds,
            self.result.get("test_error"),
            architecture.to_json(),
        )


def _normalisation(options: Dict[str, Any], data: Any) -> Tuple[Tuple[float, ...], ...]:
    if options.get("normalize") == "release":
        return cifar.RELEASE_MEAN, cifar.RELEASE_STD
    return data.mean, data.std


def read_trained(path: PathLike, build: Callable[[AnyArchitecture], HybridBlock]) -> Trained:
    """Read the folder of a training, or of a checkpoint in it (``RUN/checkpoint/best``).

    Parameters
    ----------
    build : callable
        The network of an architecture.

    Raises
    ------
    ValueError
        There is no trained network, or it does not fit its architecture.
    """
    folder = Path(path)
    arrays = None
    if (folder / "arrays.params").is_file():
        arrays = read_params(folder / "arrays.params")
        start = len(_OF_NETWORK)
        arrays = {k[start:]: v for k, v in arrays.items() if k.startswith(_OF_NETWORK)}
        folder = folder.parents[1]
    elif (folder / "model.params").is_file():
        arrays = read_params(folder / "model.params")
    else:
        raise ValueError(f"{folder} has no model.params: train a network with train/train_cifar.py")
    architecture = load_architecture(folder / "architecture.json")
    net = build(architecture)
    load_parameters(net, arrays)
    options = _json(folder / "args.json").get("options", {})
    return Trained(folder, net, architecture, options, _json(folder / "result.json"))


def _json(path: Path) -> Dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def network_images(
    trained: Trained, card: Card, data_dir: Optional[str], to_calibrate: int, to_compare: int
) -> Tuple[np.ndarray, np.ndarray, bool]:
    """Training images to calibrate with and test images to compare on, uint8 B×C×H×W.

    They are those of the run's data set, or of the folder given. The last of the three is False
    where there are none and the pixels are random.
    """
    name = trained.options.get("data_set")
    folder = data_dir or trained.options.get("data_dir")
    try:
        if name not in DATA_SETS:
            raise FileNotFoundError
        halves = [load(name, folder, train=half) for half in (True, False)]
    except (OSError, ValueError):
        if data_dir is not None:
            raise
        generator = np.random.RandomState(0)
        pixels = generator.randint(0, 256, (to_calibrate + to_compare, *card.shape)).astype(
            np.uint8
        )
        return pixels[:to_calibrate], pixels[to_calibrate:], False
    counts = to_calibrate, to_compare
    calibration, compared = (sized(half.images[:most], card) for half, most in zip(halves, counts))
    return calibration, compared, True


def sized(images: np.ndarray, card: Card) -> np.ndarray:
    """Images, uint8 B×H×W×C, at the size of the card, B×C×H×W."""
    height, width = card.shape[1:]
    if images.shape[1:3] != (height, width):
        import cv2

        images = np.stack([cv2.resize(image, (width, height)) for image in images])
        images = images.reshape(len(images), height, width, -1)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
