"""A trained network as its run folder, or a checkpoint in it, has it."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..cost.network import count_network
from ..cost.traced import count_symbol
from ..data import DATA_SETS, DataSet, voc
from ..data.registry import IMAGENET_MEAN, IMAGENET_STD, RELEASE_MEAN, RELEASE_STD
from ..io.checks import check_int, check_object, check_text
from ..io.files import PathLike, read_json
from ..io.params_file import read_params
from ..space.mobile_architecture import AnyArchitecture, load_architecture
from .card import MOST_SIDE, Card
from .export import load_parameters

_OF_NETWORK = "net.0/"  # the parameters of the first device in a checkpoint
_OF_PIXELS = "head_conv1_bias"  # of the classifier of a segmentation network

Classifier = Callable[[AnyArchitecture], HybridBlock]
Segmenter = Callable[..., HybridBlock]  # of an architecture or a name, and a number of classes


@dataclass(frozen=True)
class Trained:
    """A network with its parameters, and what its run says of it.

    Attributes
    ----------
    task : {'classification', 'segmentation'}
    architecture : Architecture or MobileArchitecture, or None
        None for a segmentation network over a MobileNet.
    num_classes : int
    options, result : dict
        Of the training, as ``args.json`` and ``result.json`` have them; empty without these.
    """

    folder: Path
    net: HybridBlock
    task: str
    architecture: Optional[AnyArchitecture]
    num_classes: int
    options: Dict[str, Any]
    result: Dict[str, Any]

    def card(
        self,
        image_size: Optional[int] = None,
        uint8_input: bool = False,
        batch: Optional[int] = None,
        classes: Optional[Tuple[str, ...]] = None,
    ) -> Card:
        """Its card, without files; `classes` if the run does not know their names."""
        if self.task == "segmentation":
            card = self._of_segmentation(image_size)
        else:
            card = self._of_classification(image_size)
        if classes is not None and len(classes) != self.num_classes:
            raise ValueError(f"there must be {self.num_classes} classes, got {len(classes)}")
        return replace(card, uint8_input=uint8_input, batch=batch, classes=classes or card.classes)

    def outputs(self, data: np.ndarray) -> np.ndarray:
        """What Gluon computes of a batch; of several outputs, the first."""
        found = self.net(mx.nd.array(data))
        return (found[0] if isinstance(found, (list, tuple)) else found).asnumpy()

    def _of_classification(self, image_size: Optional[int]) -> Card:
        assert self.architecture is not None
        space = self.architecture.space
        side = image_size or space.image_size
        architecture = self.architecture.with_space(image_size=side)
        cost = count_network(architecture)
        data = self._data(space.in_channels, space.num_classes)
        return Card(
            "",
            "classification",
            data.classes,
            (space.in_channels, side, side),
            data.mean,
            data.std,
            resize=data.resize,
            parameters=cost.parameters,
            multiply_adds=cost.multiply_adds,
            test_error=None if side != space.image_size else self.result.get("test_error"),
            architecture=architecture.to_json(),
        )

    def _data(self, channels: int, num_classes: int) -> DataSet:
        """What its run says of its data; numbers for names, and pixels as they are, if nothing."""
        file = self.folder / "data.json"
        if file.is_file():
            found = read_json(file, DataSet.from_json)
            if (found.channels, len(found.classes)) != (channels, num_classes):
                raise ValueError(f"{file} is not of this network: its channels or classes differ")
            return found
        known = DATA_SETS.get(self.options.get("data_set", ""))
        if known is None or known.channels != channels:
            names = _numbered(num_classes)
            return DataSet("", 0, 0, channels, names, (0.0,) * channels, (1.0,) * channels)
        if len(known.classes) != num_classes:
            known = replace(known, classes=_numbered(num_classes))
        if self.options.get("normalize") == "release":
            known = replace(known, mean=RELEASE_MEAN, std=RELEASE_STD)
        return known

    def _of_segmentation(self, image_size: Optional[int]) -> Card:
        side = image_size or self.options.get("crop")
        if side is None:
            side = self.architecture.space.image_size if self.architecture else 513
        architecture = None
        if self.architecture is not None:
            architecture = self.architecture.with_space(image_size=side).to_json()
        cost = count_symbol(self.net(mx.sym.Variable("data")), (1, 3, side, side))
        classes = tuple(self.result.get("class_iou", ()))
        if len(classes) != self.num_classes:
            data = self.options.get("data_set") or "voc"
            known = data in voc.FOLDERS and len(voc.CLASSES) == self.num_classes
            classes = tuple(voc.CLASSES) if known else _numbered(self.num_classes)
        return Card(
            "",
            "segmentation",
            classes,
            (3, side, side),
            IMAGENET_MEAN,
            IMAGENET_STD,
            resize="none",
            parameters=cost.parameters,
            multiply_adds=cost.multiply_adds,
            mean_iou=self.result.get("mean_iou"),
            architecture=architecture,
        )


def _numbered(count: int) -> Tuple[str, ...]:
    return tuple(str(number) for number in range(count))


def read_trained(path: PathLike, classifier: Classifier, segmenter: Segmenter) -> Trained:
    """Read the folder of a training, or of a checkpoint in it (``RUN/checkpoint/best``).

    Parameters
    ----------
    classifier : callable
        The network of an architecture.
    segmenter : callable
        The segmentation network over an architecture or a MobileNet, of a number of classes.

    Raises
    ------
    ValueError
        There is no trained network, or it does not fit its architecture.
    """
    folder = Path(path)
    arrays, scores = None, {}
    if (folder / "arrays.params").is_file():
        arrays = read_params(folder / "arrays.params")
        start = len(_OF_NETWORK)
        arrays = {k[start:]: v for k, v in arrays.items() if k.startswith(_OF_NETWORK)}
        folder = folder.parents[1]
        scores = {"test_error": None, "mean_iou": None}  # those of the run are of its last epoch
    elif (folder / "model.params").is_file():
        arrays = read_params(folder / "model.params")
    else:
        raise ValueError(f"{folder} has no model.params: train a network with train/train_cifar.py")
    options = _read(folder / "args.json", _options)
    result = {**_read(folder / "result.json", partial(check_object, "it")), **scores}
    if _OF_PIXELS in arrays:
        name, architecture = options.get("model"), None
        if name is None:
            architecture = load_architecture(folder / "architecture.json")
        task, num_classes = "segmentation", len(arrays[_OF_PIXELS])
        net = segmenter(name or architecture, num_classes)
    else:
        architecture = load_architecture(folder / "architecture.json")
        task, num_classes = "classification", architecture.space.num_classes
        net = classifier(architecture)
    load_parameters(net, arrays)
    return Trained(folder, net, task, architecture, num_classes, options, result)


def _read(path: Path, parse: Callable[[Any], Mapping[str, Any]]) -> Dict[str, Any]:
    return dict(read_json(path, parse)) if path.is_file() else {}


def _options(data: Any) -> Mapping[str, Any]:
    """The options in ``args.json``, of which those that are used here are what they should be."""
    options = check_object("options", check_object("it", data).get("options", {}))
    for name in ("data_set", "data_dir", "data_train", "data_val", "model", "normalize"):
        if options.get(name) is not None:
            check_text(name, options[name])
    if options.get("crop") is not None:
        check_int("crop", options["crop"], 1, MOST_SIDE)
    return options
