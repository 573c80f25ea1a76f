"""Means of loss and accuracy over samples, not over batches or devices."""

from dsonas_mx.engine.graph import Outputs
from dsonas_mx.training.metric import Tally

import mxnet as mx
import numpy as np
import pytest


def outputs(loss, right, context=None):
    """A batch of two classes with these losses; `right` says which answers are right."""
    label = np.arange(len(loss)) % 2
    answer = np.where(right, label, 1 - label)
    logits = np.eye(2)[answer]
    return Outputs(*(mx.nd.array(array, context or mx.cpu()) for array in (loss, logits, label)))


def test_batches_of_different_sizes():
    tally = Tally()
    tally.add([outputs([1, 2, 3], [True, False, True])])
    tally.add([outputs([10], [True])])
    score = tally.score()
    assert score.loss == pytest.approx(16 / 4)
    assert score.accuracy == 3 / 4
    assert tally.score() == score  # asking changes nothing
    assert type(score.loss) is type(score.accuracy) is float


def test_devices_with_different_shares():
    tally = Tally()
    for _ in range(2):
        tally.add(
            [
                outputs([1, 1, 4], [True, True, False], mx.cpu(0)),
                outputs([6], [False], mx.cpu(1)),
            ]
        )
    assert tally.score()[:2] == (12 / 4, 2 / 4)


def test_a_device_that_is_left_out_of_a_batch():
    """The last batch of a test may have fewer samples than there are devices."""
    tally = Tally()
    tally.add([outputs([1], [True], mx.cpu(0)), outputs([3], [False], mx.cpu(1))])
    tally.add([outputs([5], [True], mx.cpu(0))])
    assert tally.score()[:2] == (3, pytest.approx(2 / 3))


def test_what_is_not_finite_shows():
    tally = Tally()
    tally.add([outputs([1, float("nan")], [True, True])])
    assert np.isnan(tally.score().loss)


def test_batches_before_the_first_that_is_not_finite():
    tally = Tally()
    assert tally.finite_batches() == 0
    for number, loss in enumerate([1, 2, float("inf"), 3, float("nan")]):
        assert tally.finite_batches() == min(number, 2)
        tally.add([outputs([loss], [True], mx.cpu(0)), outputs([1], [True], mx.cpu(1))])
    assert tally.finite_batches() == 2


def test_an_image_without_labelled_pixels_is_neither_right_nor_wrong():
    """Its pixels are all ignored."""
    label = np.array([[[0, 1]], [[-1, -1]], [[1, -1]]])
    logits = mx.nd.array(np.eye(2)[[[[0, 0]], [[1, 1]], [[1, 0]]]].transpose(0, 3, 1, 2))
    batch = [Outputs(mx.nd.zeros(3), logits, mx.nd.array(label))]
    tally = Tally()
    for _ in range(2):
        tally.add(batch)
        assert tally.score().accuracy == pytest.approx((1 / 2 + 1) / 2)
    again = Tally.of(tally.samples, tally.sums(), [mx.cpu()])
    again.add(batch)
    assert again.score().accuracy == pytest.approx(3 / 4)
    nothing = Tally()
    nothing.add([Outputs(mx.nd.zeros(1), logits[1:2], mx.nd.array(label[1:2]))])
    assert nothing.score().accuracy == 0


def test_goes_on_from_its_sums():
    """To the last bit: these thirds do not add up without rounding."""
    batches = [[outputs([k / 3], [k % 2], mx.cpu(d)) for d in (0, 1)] for k in range(9)]
    whole, first = Tally(), Tally()
    for batch in batches:
        whole.add(batch)
    for batch in batches[:4]:
        first.add(batch)
    contexts = [mx.cpu(0), mx.cpu(1)]
    second = Tally.of(first.samples, first.sums(), contexts)
    for batch in batches[4:]:
        second.add(batch)
    assert second.sums().tobytes() == whole.sums().tobytes()
    assert second.score() == whole.score()
    assert Tally.of(first.samples, first.sums(), contexts[:1]).score() == pytest.approx(
        first.score()
    )
    assert Tally.of(0, Tally().sums(), contexts).samples == 0
    before = Tally.of(first.samples, first.sums()[:, :3], contexts)  # as checkpoints once had them
    assert before.score() == first.score()


def test_refuses_nothing():
    with pytest.raises(ValueError, match="no batch was counted"):
        Tally().score()
