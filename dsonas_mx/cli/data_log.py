"""What a run folder says of its data: classes and statistics, what is held out, what is skipped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Set, Tuple

import numpy as np

from ..data import DATA_SETS
from ..data.labels import coverage
from ..data.loader import Loader
from ..data.pictures import Pictures
from ..data.records import Records
from ..data.small import Stretched
from ..io.files import write_json, write_lines
from .options import Told

if TYPE_CHECKING:
    from ..runs.folder import Run

DATA, HELD_OUT = "data.json", "held_out.txt"  # in a run folder


class DataLog:
    """Tells a run of its data: at its start, and after each epoch of what was skipped in it.

    Each picture or record that is skipped is logged once; each worker logs those of its parts of
    batches.

    Parameters
    ----------
    train : sequence of Loader
        Of all training images.
    test : Loader or None
    told : Told
        Mean and deviation of own data are those of the loaders' augmentation.

    Raises
    ------
    ValueError
        All training images are of one class.
    """

    def __init__(self, train: Sequence[Loader], test: Optional[Loader], told: Told) -> None:
        _, about, source = told
        if about is not None and about.is_own:  # measured, where they were loaded
            augment = train[0].augment
            about = replace(about, mean=augment.mean, std=augment.std)  # type: ignore[attr-defined]
        self._about, self._source = about, source
        self._notes: List[str] = [] if source is None else list(source.notes)
        if about is not None:
            labels = np.concatenate([_labels(loader) for loader in train])
            tested = None if test is None else _labels(test)
            self._notes += coverage(labels, tested, about.classes)
        loaders = [*train, test] if test is not None else train
        found = [_pictures(loader) for loader in loaders]
        if source is not None:
            found += [source.train, source.test]
        self._pictures: List[Pictures] = []
        for pictures in found:
            if pictures is not None and all(
                p.skipped is not pictures.skipped for p in self._pictures
            ):
                self._pictures.append(pictures)
        self._known: Set[Tuple[int, Any]] = set()

    @property
    def identity(self) -> Dict[str, Any]:
        """What of it must not change when a run goes on."""
        if self._about is None or not self._about.is_own:
            return {}
        return {"classes": list(self._about.classes), "image_size": self._about.image_size}

    def begin(self, run: Run) -> None:
        """Write data.json and held_out.txt, and log what should be known."""
        known = DATA_SETS.get("" if self._about is None else self._about.name)
        if self._about is not None and (known is None or known.classes != self._about.classes):
            write_json(run.folder / DATA, self._about.to_json())
        if self._source is not None and self._source.held_out:
            write_lines(run.folder / HELD_OUT, self._source.held_out, "surrogateescape")
        for note in self._notes:
            run.log(note)
        for pictures in self._pictures:
            for note in pictures.notes if self._source is None else ():
                run.log(note)
        self.log(run)

    def log(self, run: Run) -> None:
        """What was skipped since the last call, and how much there is by now."""
        for number, pictures in enumerate(self._pictures):
            if isinstance(pictures, Records) and pictures.damaged:
                run.log(
                    f"{pictures.path}: its index was made again; no record can be read at byte "
                    f"{np.array2string(np.array(pictures.damaged), threshold=20, separator=', ')}"
                )
                pictures.damaged = []
            new = [key for key in sorted(pictures.skipped) if (number, key) not in self._known]
            self._known.update((number, key) for key in new)
            if new:
                examples = "; ".join(f"{pictures.what} {k}: {pictures.skipped[k]}" for k in new[:3])
                names = ", ".join(map(str, new[:20])) + ", …" * (len(new) > 20)
                run.warn(
                    f"{pictures.place}: {len(pictures.skipped):,} {pictures.what}s skipped (new: "
                    f"{names}): {examples}"
                )


def _labels(loader: Loader) -> np.ndarray:
    labels: np.ndarray = loader.images.labels[loader.indices]
    return labels


def _pictures(loader: Loader) -> Optional[Pictures]:
    images = loader.images
    if isinstance(images, Stretched):
        images = images.pictures
    return images if isinstance(images, Pictures) else None
