"""The data sets that are known by name, a row each, and what a run says of its own data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Dict, Mapping, Tuple

from ..io.checks import check_choice, check_fields, check_int, check_list, check_text, shown

RESIZES = ("stretch", "centre", "none")
OWN = ("folder", "arrays", "records")  # kinds of data that have no name


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set, and how its images are prepared.

    Attributes
    ----------
    name : str
        One of `DATA_SETS`, or of `OWN`.
    num_train : int
    image_size, channels : int
    classes : tuple of str
    mean, std : tuple of float
        By channel, of pixels scaled to 0..1, over the training images.
    pad, fill : int
        See `Augmentation`.
    resize : {'stretch', 'centre', 'none'}
        How an image gets its size, see `dsonas_mx.deploy.card.Card`.
    """

    name: str
    num_train: int
    image_size: int
    channels: int
    classes: Tuple[str, ...]
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    pad: int = 0
    fill: int = 0
    resize: str = "stretch"

    @property
    def is_own(self) -> bool:
        """Whether its classes are known by its files alone."""
        return self.name in OWN

    def at(self, image_size: int) -> DataSet:
        """The same with images of another side, moved as far in proportion."""
        pad = round(self.pad * image_size / self.image_size)
        return replace(self, image_size=image_size, pad=pad)

    def images(self) -> Dict[str, int]:
        """Classes, channels and side, as a search space has them."""
        return {
            "num_classes": len(self.classes),
            "in_channels": self.channels,
            "image_size": self.image_size,
        }

    def names(self) -> Dict[str, Any]:
        """What the origin of an architecture says of own data: the names of its classes."""
        return {"classes": list(self.classes)} if self.is_own else {}

    def to_json(self) -> Dict[str, Any]:
        """The fields, as JSON has them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Any) -> DataSet:
        """The data set that `to_json` wrote.

        Raises
        ------
        ValueError
            A field is unknown, missing, or of a wrong value; the message names it.
        """
        values: Mapping[str, Any] = check_fields("", data, [field.name for field in fields(cls)])
        check_text("name", values["name"])
        check_choice("resize", values["resize"], RESIZES)
        for name in ("num_train", "image_size", "channels", "pad", "fill"):
            check_int(name, values[name], 0)
        classes = tuple(check_list("classes", values["classes"]))
        for name in classes:
            check_text("classes", name)
        pairs = {}
        for name in ("mean", "std"):
            pairs[name] = tuple(check_list(name, values[name], values["channels"]))
            for value in pairs[name]:
                if not isinstance(value, (int, float)) or isinstance(value, bool):
                    raise ValueError(f"{name} must have numbers, got {shown(value)}")
        return cls(**{**values, "classes": classes, **pairs})


CIFAR10_CLASSES = ("airplane automobile bird cat deer dog frog horse ship truck").split()
CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
    crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
    keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
    mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain
    plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
    television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """.split()
FASHION_MNIST_CLASSES = (
    "T-shirt/top, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot"
).split(", ")
# Of RGB, 0..1; segmentation and everything that is pre-trained on ImageNet have them, too.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# What the authors' release uses for CIFAR-10; they are CIFAR-100's.
RELEASE_MEAN, RELEASE_STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)

DATA_SETS = {
    row.name: row
    for row in (
        DataSet(
            "cifar10",
            *(50_000, 32, 3, tuple(CIFAR10_CLASSES)),
            *((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
            *(4, 127),
        ),
        DataSet(
            "cifar100",
            *(50_000, 32, 3, tuple(CIFAR100_CLASSES)),
            *((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
            *(4, 127),
        ),
        # Embedded, 6,000 of the 60,000. The background is black, and a garment is not moved far.
        DataSet(
            "fashion_mnist",
            *(6_000, 28, 1, tuple(FASHION_MNIST_CLASSES)),
            *((0.2852,), (0.3527,)),
            *(2, 0),
        ),
        DataSet(
            "imagenet",
            *(1_281_167, 224, 3, tuple(str(number) for number in range(1000))),
            *(IMAGENET_MEAN, IMAGENET_STD),
            resize="centre",
        ),
    )
}
SMALL = ("cifar10", "cifar100", "fashion_mnist")  # those that fit into memory
