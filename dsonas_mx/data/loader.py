"""The division of the samples, and batches that depend on seed, epoch and position alone."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Deque, Generator, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from .images import Images
from .pictures import Pictures
from .small import Stretched
from .voc import Scenes

Data = Union[Images, Stretched, Pictures, Scenes]

# What the numbers of a generator are for: no two purposes share any.
_ORDER, _AUGMENT, _SPLIT = range(3)


class Batch(NamedTuple):
    """Data, float32 B×C×H×W, and labels, float32 B."""

    data: np.ndarray
    labels: np.ndarray


def split(
    num_samples: Optional[int], labels: np.ndarray, parts: Sequence[int] = (4, 1), seed: int = 0
) -> Tuple[np.ndarray, ...]:
    """Divide samples at random, every class in the same ratio.

    Parameters
    ----------
    num_samples : int or None
        How many of the samples to use, a balanced choice; None for all.
    labels : numpy.ndarray
        The class of each sample.
    parts : sequence of int
        The ratio, as 4:1 for weights and λ.
    seed : int
        Same seed, same parts.

    Returns
    -------
    tuple of numpy.ndarray
        The sorted indices of each part, without overlap. Each has a class as often as its share
        of the samples says, to within one when the classes are of equal size.
    """
    labels = np.asarray(labels)
    count = len(labels) if num_samples is None else num_samples
    if not 1 <= count <= len(labels):
        raise ValueError(f"num_samples must lie between 1 and {len(labels)}, got {num_samples}")
    ratio = check_ratio(parts)
    generator = _generator(seed, 0, _SPLIT)
    # Spreading each class evenly over one order makes any stretch of it balanced.
    classes = generator.permutation(np.unique(labels))
    members = [generator.permutation(np.flatnonzero(labels == label)) for label in classes]
    places = np.concatenate([(np.arange(len(group)) + 0.5) / len(group) for group in members])
    order = np.concatenate(members)[np.argsort(places, kind="stable")][:count]
    bounds = [count * int(total) // sum(parts) for total in np.cumsum(parts)]
    pieces = np.split(order, bounds[:-1])
    if not all(len(piece) for piece in pieces):
        raise ValueError(f"split {ratio} leaves a part of {count} samples empty; use more samples")
    return tuple(np.sort(piece) for piece in pieces)


def check_ratio(parts: Sequence[int]) -> str:
    """As ``'4:1'``, the ratio of a split; refuse one with an empty part."""
    ratio = ":".join(str(part) for part in parts)
    if not parts or min(parts) < 1:
        raise ValueError(f"split must have parts of at least 1, as 4:1, got {ratio or 'none'}")
    return ratio


class Loader:
    """Batches of some of the images, in an order and with an augmentation that can be resumed.

    Batch k of epoch n is a function of the arguments below, n and k: neither what was read before
    nor `prefetch` changes it.

    Parameters
    ----------
    images : Images, Stretched, Pictures or Scenes
        The data set.
    indices : sequence of int or None
        Which images, one part of `split`; None for all.
    batch_size : int
        Images a batch.
    augment : callable
        `augment(uint8 B×H×W×C, generator) -> float32 B×C×H×W`, as `Augmentation`.
    seed : int
        Seed of order and augmentation, 0 to 2**64 - 1.
    shuffle : bool
        A new order each epoch, else that of `indices`.
    drop_last : bool
        Whole batches only, as for training; False keeps the short last batch, as for evaluation.
    stream : int
        Loaders of one seed that must draw different numbers (those of weights and λ) differ in it.
    prefetch : int
        Batches a thread prepares ahead; 0 for no thread.

    Raises
    ------
    ValueError
        With `drop_last`, fewer images than one batch.
    """

    def __init__(
        self,
        images: Data,
        indices: Optional[Union[np.ndarray, Sequence[int]]],
        batch_size: int,
        augment: Callable[..., Any],
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        stream: int = 0,
        prefetch: int = 3,
    ) -> None:
        self.images: Any = images  # what is wanted of them, a derived loader may change
        self.indices = np.arange(len(images)) if indices is None else np.array(indices)
        self.batch_size = batch_size
        self.augment = augment
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.stream = stream
        self.prefetch = prefetch
        if batch_size < 1:
            raise ValueError(f"batch size must be at least 1, got {batch_size}")
        if prefetch < 0:
            raise ValueError(f"prefetch must be at least 0, got {prefetch}")
        if not len(self.indices):
            raise ValueError("a loader needs at least one image, got none")
        if self.indices.min() < 0 or self.indices.max() >= len(images):
            raise ValueError(
                f"indices must lie between 0 and {len(images) - 1}, "
                f"got {self.indices.min()} to {self.indices.max()}"
            )
        if drop_last and len(self.indices) < batch_size:
            raise ValueError(
                f"a part of {len(self.indices)} images is smaller than one batch of {batch_size}; "
                "use a smaller batch size or more images"
            )
        self.part: Optional[slice] = None  # of a batch, which is all that a worker uses of it
        _generator(seed, stream, _ORDER)  # a bad seed fails here, not in the first epoch

    def __len__(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(len(self.indices), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    @property
    def data_shape(self) -> Tuple[int, int, int, int]:
        """B×C×H×W of a whole batch."""
        height, width, channels = self.images.image_shape
        return self.batch_size, channels, height, width

    @property
    def label_shape(self) -> Tuple[int, ...]:
        """Of the labels of a whole batch."""
        return (self.batch_size,)

    def epoch(self, number: int, start_batch: int = 0) -> Generator[Batch, None, None]:
        """The batches of epoch `number`, counted from 0, from the one at `start_batch` on.

        The iterator ends its thread when it is exhausted, closed or no longer referenced; an error
        of the thread is raised here.
        """
        if number < 0:
            raise ValueError(f"epoch must be at least 0, got {number}")
        if not 0 <= start_batch <= len(self):
            raise ValueError(f"start_batch must lie between 0 and {len(self)}, got {start_batch}")
        return self._batches(number, start_batch)

    def _batches(self, number: int, start_batch: int) -> Generator[Batch, None, None]:
        order = self.indices
        if self.shuffle:
            order = _generator(self.seed, self.stream, _ORDER, number).permutation(order)
        positions = range(start_batch, len(self))
        if not self.prefetch:
            for position in positions:
                yield self._batch(order, number, position)
            return
        with ThreadPoolExecutor(1, "dsonas-data") as pool:
            ahead: Deque[Future[Batch]] = deque()
            try:
                for position in positions:
                    ahead.append(pool.submit(self._batch, order, number, position))
                    if len(ahead) > self.prefetch:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                # A consumer that stops early waits for one batch, not for all that were asked for.
                for future in ahead:
                    future.cancel()

    def _batch(self, order: np.ndarray, number: int, position: int) -> Batch:
        chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
        images, labels = self.images.take(chosen, whole=self.drop_last)
        data = self.augment(images, generator_of(self.seed, self.stream, number, position))
        return Batch(data, labels.astype(np.float32))


class RecordLoader(Loader):
    """Batches of records, of which only `part` is decoded; what other workers use stays zero.

    The part is that of the whole batch, bit for bit, if no record of it is damaged.
    """

    def _batch(self, order: np.ndarray, number: int, position: int) -> Batch:
        if self.part is None:
            return super()._batch(order, number, position)
        chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
        images, own = self.images.take(chosen[self.part], whole=True)
        generator = generator_of(self.seed, self.stream, number, position)
        self.augment.skip(generator, self.part.start)  # type: ignore[attr-defined]
        data = np.zeros((len(chosen), *self.data_shape[1:]), np.float32)
        data[self.part] = self.augment(images, generator)
        labels = self.images.labels[chosen].astype(np.float32)
        labels[self.part] = own
        return Batch(data, labels)


def check_seed(seed: int) -> None:
    """Refuse what no generator takes."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie between 0 and 2**64 - 1, got {seed}")


def generator_of(seed: int, stream: int, epoch: int, place: int) -> np.random.Generator:
    """What augments the sample, or the batch, at that place of an epoch."""
    return _generator(seed, stream, _AUGMENT, epoch, place)


def _generator(
    seed: int, stream: int, purpose: int, epoch: int = 0, position: int = 0
) -> np.random.Generator:
    check_seed(seed)
    # Philox counts up from the lowest word; the others say what the numbers are for.
    key = np.array([seed, stream], np.uint64)
    counter = np.array([0, position, epoch, purpose], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
