from __future__ import annotations

import threading
import time

from dsonas_mx.data import Images
from dsonas_mx.data.augment import Augmentation
from dsonas_mx.data.loader import Loader, split

import numpy as np
import pytest

AUGMENT = Augmentation((0.5,), (0.25,), pad=1, cutout=2)


def numbered(count=50):
    # Pixel value and label tell which image it is.
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None]
    images = np.tile(pixels, (1, 4, 4, 1))
    return Images(images, np.arange(count, dtype=np.int32), tuple(map(str, range(count))))


def loader(**options):
    arguments = {"images": numbered(), "indices": None, "batch_size": 8, "augment": AUGMENT}
    arguments.update(options)
    return Loader(**arguments)


def identity(images, generator):
    return images.transpose(0, 3, 1, 2).astype(np.float32)


def data_threads():
    return [thread for thread in threading.enumerate() if "dsonas-data" in thread.name]


def assert_same(first, second):
    first, second = list(first), list(second)
    assert len(first) == len(second) > 0
    for one, two in zip(first, second):
        np.testing.assert_array_equal(one.data, two.data)
        np.testing.assert_array_equal(one.labels, two.labels)


# split


@pytest.mark.parametrize("parts", [(1, 1), (3, 1), (4, 1), (1, 2, 2)])
@pytest.mark.parametrize("per_class", [40, 47])
def test_split_divides_every_class_in_the_ratio(parts, per_class):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), per_class))
    pieces = split(None, labels, parts, seed=3)
    together = np.concatenate(pieces)
    np.testing.assert_array_equal(np.sort(together), np.arange(len(labels)))
    for part, piece in zip(parts, pieces):
        share = part / sum(parts)
        assert abs(len(piece) - share * len(labels)) < 1
        counts = np.bincount(labels[piece], minlength=10)
        assert counts.max() - counts.min() <= (per_class != 40)
        assert abs(counts - share * per_class).max() <= 1
        assert (np.diff(piece) > 0).all()


def test_split_of_unequal_classes_keeps_their_shares():
    labels = np.repeat([0, 1, 2], [600, 300, 15])
    weights, lambdas = split(None, labels, (2, 1))
    np.testing.assert_allclose(np.bincount(labels[weights]), [400, 200, 10], atol=1)
    np.testing.assert_allclose(np.bincount(labels[lambdas]), [200, 100, 5], atol=1)


def test_split_of_some_of_the_samples_is_balanced():
    labels = np.repeat(np.arange(10), 100)
    weights, lambdas = split(200, labels, (4, 1))
    assert np.bincount(labels[weights]).tolist() == [16] * 10
    assert np.bincount(labels[lambdas]).tolist() == [4] * 10
    assert not set(weights) & set(lambdas)


def test_split_follows_its_seed():
    labels = np.repeat(np.arange(10), 20)
    first, again, other = (split(None, labels, (1, 1), seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((None, (0, 1)), "parts of at least 1, as 4:1, got 0:1"),
        ((None, (2, -1)), "got 2:-1"),
        ((None, ()), "got none"),
        ((21, (1, 1)), "between 1 and 20, got 21"),
        ((0, (1, 1)), "between 1 and 20, got 0"),
        ((1, (4, 1)), "4:1 leaves a part of 1 samples empty"),
    ],
)
def test_a_bad_split_is_refused(arguments, message):
    num_samples, parts = arguments
    with pytest.raises(ValueError, match=message):
        split(num_samples, np.repeat(np.arange(10), 2), parts)


# Loader


def test_an_epoch_is_every_image_once_in_whole_batches():
    batches = list(loader(augment=identity).epoch(0))
    assert len(batches) == len(loader()) == 6
    labels = np.concatenate([batch.labels for batch in batches])
    assert labels.dtype == np.float32 and batches[0].data.dtype == np.float32
    assert len(set(labels)) == len(labels) == 48
    for batch in batches:
        assert batch.data.shape == (8, 1, 4, 4)
        np.testing.assert_array_equal(batch.data[:, 0, 0, 0], batch.labels)


def test_evaluation_keeps_order_and_the_short_batch():
    part = [9, 3, 30, 31, 7]
    batches = list(
        loader(
            indices=part, batch_size=3, augment=AUGMENT.plain(), shuffle=False, drop_last=False
        ).epoch(4)
    )
    assert [len(batch.data) for batch in batches] == [3, 2]
    assert np.concatenate([batch.labels for batch in batches]).tolist() == part
    np.testing.assert_allclose(batches[0].data[0], (9 / 255 - 0.5) / 0.25, rtol=1e-5)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("prefetch", [1, 3, 20])
def test_prefetch_changes_nothing(shuffle, prefetch):
    plain, ahead = (loader(seed=7, shuffle=shuffle, prefetch=n) for n in (0, prefetch))
    assert_same(plain.epoch(2), ahead.epoch(2))


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_an_epoch_resumes_in_the_middle(prefetch, start):
    whole = list(loader(seed=1).epoch(3))
    fresh = loader(seed=1, prefetch=prefetch)
    assert_same(whole[start:], fresh.epoch(3, start_batch=start))


def test_resuming_computes_only_what_is_left():
    calls = []

    def augment(images, generator):
        calls.append(len(images))
        return identity(images, generator)

    assert len(list(loader(augment=augment).epoch(0, start_batch=4))) == 2
    assert len(calls) == 2
    assert list(loader(augment=augment).epoch(0, start_batch=6)) == []
    assert len(calls) == 2


def test_seed_epoch_stream_and_position_each_change_the_numbers():
    # All images are alike, so that only the augmentation can differ.
    same = Images(np.full((40, 16, 16, 1), 9, np.uint8), np.zeros(40, np.int32), ("a",))

    def epoch(number=0, **options):
        return list(loader(images=same, **options).epoch(number))

    first = epoch()
    seen = [batch.data.tobytes() for batch in first]
    for other in (epoch(number=1), epoch(seed=1), epoch(stream=1)):
        seen += [batch.data.tobytes() for batch in other]
    assert len(set(seen)) == len(seen) == 20


def test_order_changes_with_seed_epoch_and_stream():
    def order(number=0, **options):
        batches = loader(augment=identity, **options).epoch(number)
        return tuple(np.concatenate([batch.labels for batch in batches]))

    orders = {order(), order(number=1), order(seed=1), order(stream=1), order(seed=2**64 - 1)}
    assert len(orders) == 5
    assert order() in orders


def test_an_error_in_the_thread_is_raised_at_its_batch():
    calls = []

    def augment(images, generator):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("no such pixel")
        return identity(images, generator)

    batches = loader(augment=augment).epoch(0)
    next(batches)
    next(batches)
    with pytest.raises(RuntimeError, match="no such pixel"):
        next(batches)
    assert not data_threads()


def test_no_thread_is_left_behind():
    def stop_early():
        for _ in loader().epoch(0):
            assert data_threads()
            break

    def fail():
        for _ in loader().epoch(0):
            raise KeyError("in the step")

    stop_early()
    assert not data_threads()
    with pytest.raises(KeyError, match="in the step"):
        fail()
    assert not data_threads()
    batches = loader().epoch(0)
    next(batches)
    assert data_threads()
    batches.close()
    assert not data_threads()
    list(loader().epoch(0))
    assert not data_threads()


def test_stopping_early_does_not_compute_what_was_asked_for():
    calls = []

    def slow(images, generator):
        calls.append(1)
        time.sleep(0.05)
        return identity(images, generator)

    batches = loader(augment=slow, batch_size=2, prefetch=20).epoch(0)
    next(batches)
    batches.close()
    assert len(calls) <= 22 - 15 and not data_threads()


def test_batches_are_made_while_the_consumer_works():
    ready = threading.Semaphore(0)

    def augment(images, generator):
        ready.release()
        return identity(images, generator)

    batches = loader(augment=augment, prefetch=2).epoch(0)
    next(batches)
    # The first and two more, without another call of next.
    for _ in range(3):
        assert ready.acquire(timeout=10)
    assert not ready.acquire(timeout=0.1)
    batches.close()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "batch size must be at least 1, got 0"),
        ({"batch_size": 51}, "part of 50 images is smaller than one batch of 51"),
        ({"indices": []}, "at least one image"),
        ({"indices": [50] * 8}, "between 0 and 49, got 50 to 50"),
        ({"seed": -1}, "seed must lie between 0"),
        ({"prefetch": -1}, "prefetch must be at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        loader(**options)


def test_a_bad_place_is_refused_before_iterating():
    with pytest.raises(ValueError, match="epoch must be at least 0, got -1"):
        loader().epoch(-1)
    with pytest.raises(ValueError, match="between 0 and 6, got 7"):
        loader().epoch(0, start_batch=7)
