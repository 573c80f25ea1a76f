"""What a training computes of pixels: image by image, from logits as small as the network has them.

Logits of all pixels of a batch would be larger than any map of the network, several times over.
"""

from typing import Any, Callable

from .tracing import training


def by_image(F: Any, function: Callable[..., Any], *batches: Any) -> Any:
    """A function of each image alone, one behind the other, of arrays or symbols.

    In the graph of a training the images are divided; elsewhere it takes them all at once.
    """
    tracing = training(F)
    if tracing is None or tracing.images == 1:
        return function(*batches)
    places = tuple(range(1, tracing.images))  # where devices have one image more, behind the last
    images = zip(*(F.split_v2(batch, places, axis=0) for batch in batches))
    return F.concat(*(function(*image) for image in images), dim=0)


def enlarged(F: Any, logits: Any, label: Any) -> Any:
    """Logits B×classes×h×w of the pixels of a label, B×H×W."""
    return F.contrib.BilinearResize2D(logits, F.expand_dims(label, axis=1), mode="like")


def likeliest(F: Any, logits: Any, label: Any) -> Any:
    """The class of each pixel of a label, B×H×W, from logits of any size."""

    def classes(logits: Any, label: Any) -> Any:
        return F.argmax(enlarged(F, logits, label), axis=1)

    return by_image(F, classes, logits, label)
