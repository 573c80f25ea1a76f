"""Presets of the scripts for small images: settings that grow with the data.

A preset is a set of defaults: options that are given win, and what follows from them (γ from the
number of steps) follows. `docs/presets.md` has what each takes.
"""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional

import numpy as np

from ..data import DataSet

PRESETS = ("quick", "standard", "paper")
# γ × steps of λ, by training images: what takes most λ of a small search from 1 to 0, as in the
# demo; and less the fewer there are, for the loss then soon is near 0 and holds no λ: a search on
# 1,200 that takes as much ends with two connections. Of the least none is taken to 0.
_FALLS = ((200, 0.7), (6_000, 5.6))
_MOST_GAMMA = 0.03  # with more, the first steps take all away
_MOST_EPOCHS = 100  # of a few dozen images, which more epochs teach nothing
_BATCHES = (16, 64)  # BN's statistics of fewer images are far from those that it tests with


class _Scale(NamedTuple):
    """How long a preset searches and trains, and how wide what it trains is.

    Samples are seen in all, unless that would be fewer epochs, or far too many.
    """

    search_samples: int
    search_epochs: int
    train_samples: int
    train_epochs: int
    width: int


_SCALES = {
    "quick": _Scale(20_000, 8, 25_000, 8, 8),
    "standard": _Scale(60_000, 12, 90_000, 15, 16),
}
_SIZES = ("width", "target_params", "target_flops", "target_latency")


def of_search(values: Mapping[str, Any], data: DataSet) -> Dict[str, Any]:
    """Defaults of a search on these images, by their names in a record.

    Parameters
    ----------
    values : mapping
        What is given, by the same names, `preset` among it.
    """
    name = _preset(values, data)
    if name not in _SCALES:
        return {}
    scale, num_train = _SCALES[name], data.num_train
    batch = values.get("batch_size", _batch_size(num_train))
    epochs = _epochs(scale.search_samples, scale.search_epochs, num_train)
    pretrain = values.get("pretrain_epochs", epochs // 4)
    search = values.get("num_epochs", epochs - epochs // 4)
    steps = max(1, search * (num_train // 2 // batch))  # of λ, which have half of the images
    return {
        "preset": name,
        "blocks": "1",
        "width": 8,
        "batch_size": batch,
        "pretrain_epochs": pretrain,
        "num_epochs": search,
        "shrink_every": max(1, search // 6),
        "patience": max(2, search // 3),
        "gamma": min(_MOST_GAMMA, float(f"{_fall(num_train) / steps:.2g}")),
        "mirror": "off",
    }


def of_training(values: Mapping[str, Any], data: DataSet) -> Dict[str, Any]:
    """Defaults of a training on these images; as `of_search`."""
    name = _preset(values, data)
    if name not in _SCALES:
        return {}
    scale = _SCALES[name]
    epochs = values.get("num_epochs", _train_epochs(scale, data.num_train))
    sized = any(values.get(name) is not None for name in _SIZES)
    return {
        "preset": name,
        **({} if sized else {"width": scale.width}),
        "batch_size": _batch_size(data.num_train),
        "num_epochs": epochs,
        "period": epochs,
        "dropout": 0.0,
        "drop_path": 0.0,
        "auxiliary": 0.0,
        "cutout": data.image_size // 4 if scale.width > 8 else 0,
    }


def advice(preset: Optional[str], num_train: int, epochs: int, width: int) -> List[str]:
    """What a training does, and what the next larger preset would; nothing without a preset."""
    if preset not in _SCALES:
        return []
    text = f"preset {preset}: {epochs} epochs at width {width}"
    if preset == "standard":
        return [f"{text}; paper takes 630 epochs at 3.0M parameters, which is for a GPU"]
    larger = _SCALES["standard"]
    more = _train_epochs(larger, num_train)
    times = more * larger.width**2 / (epochs * width**2)
    return [
        f"{text}; standard takes {more} epochs at width {larger.width}, {times:.0f} times the "
        "multiply-adds, and makes fewer errors"
    ]


def _preset(values: Mapping[str, Any], data: DataSet) -> str:
    """What is given; of one's own images, which the paper's epochs do not suit, standard."""
    default = "standard" if data.is_own and not values.get("demo") else "paper"
    return values.get("preset") or default


def _train_epochs(scale: _Scale, num_train: int) -> int:
    return _epochs(scale.train_samples, scale.train_epochs, num_train)


def _fall(num_train: int) -> float:
    """γ × steps: between the two known numbers of images by their logarithms."""
    images, falls = np.log(_FALLS).T
    return float(np.exp(np.interp(np.log(num_train), images, falls)))


def _epochs(samples: int, least: int, num_train: int) -> int:
    return min(_MOST_EPOCHS, max(least, round(samples / num_train)))


def _batch_size(num_train: int) -> int:
    """A power of two: a twentieth of the images or less, within `_BATCHES`, but no more than a
    third of the images, for a search has half of them for each of its two kinds of steps.
    """
    least, most = _BATCHES
    wanted = min(max(num_train // 20, least), most, max(num_train // 3, 1))
    return 1 << (wanted.bit_length() - 1)
