"""Pixel accuracy and mean IoU, on hand cases and against GluonCV's."""

from dsonas_mx.training.confusion import Confusion

import mxnet as mx
import numpy as np
import pytest


def counted(num_classes, *pairs):
    confusion = Confusion(num_classes)
    for prediction, labels in pairs:
        confusion.add(np.array(prediction), np.array(labels))
    return confusion


def test_by_hand():
    """Class 0: 2 right of 3; class 1: 1 right of 3; the ignored pixel counts nowhere."""
    confusion = counted(2, ([[0, 0], [1, 1]], [[0, 0], [0, 1]]), ([[0, 1]], [[1, -1]]))
    np.testing.assert_array_equal(confusion.counts, [[2, 1], [1, 1]])
    assert confusion.pixel_accuracy == 3 / 5
    np.testing.assert_allclose(confusion.iou, [2 / 4, 1 / 3])
    assert confusion.mean_iou == pytest.approx((2 / 4 + 1 / 3) / 2)


def test_over_the_whole_set_not_image_by_image():
    confusion = counted(2, ([0], [0]), ([1, 1, 1], [0, 1, 1]))
    np.testing.assert_allclose(confusion.iou, [1 / 2, 2 / 3])  # by image 0 would be (1 + 0) / 2


def test_classes_that_do_not_occur_are_left_out():
    confusion = counted(4, ([0, 1, 1], [0, 1, 0]))
    assert np.isnan(confusion.iou[2:]).all()
    assert confusion.mean_iou == pytest.approx(1 / 2)


def test_a_class_that_is_only_predicted_counts():
    assert counted(3, ([2, 0], [0, 0])).mean_iou == pytest.approx((1 / 2 + 0) / 2)


def test_of_a_constant():
    labels = np.array([0, 0, 0, 1, 2, -1])
    confusion = counted(5, (np.zeros(6, int), labels))
    assert confusion.of_constant() == confusion.mean_iou == pytest.approx(3 / 5 / 3)
    assert counted(5, (labels.clip(0), labels)).of_constant() == pytest.approx(3 / 5 / 3)


def test_as_gluoncv():
    from gluoncv.utils.metrics.segmentation import SegmentationMetric

    generator = np.random.RandomState(0)
    theirs, ours = SegmentationMetric(4), Confusion(4)
    for _ in range(5):
        logits = generator.randn(1, 4, 9, 7)
        labels = generator.randint(-1, 4, (1, 9, 7))
        theirs.update(mx.nd.array(labels), mx.nd.array(logits))
        ours.add(logits.argmax(1), labels)
    accuracy, mean_iou = theirs.get()
    assert ours.pixel_accuracy == pytest.approx(accuracy)
    assert ours.mean_iou == pytest.approx(mean_iou)


def test_refuses_another_shape():
    with pytest.raises(ValueError, match=r"prediction is \(2,\), labels are \(3,\)"):
        counted(2, ([0, 1], [0, 1, 1]))
