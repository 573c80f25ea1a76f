"""Loss and classes of pixels, image by image, are those of all images at once."""

from dsonas_mx.engine.pixels import likeliest
from dsonas_mx.engine.tracing import Tracing
from dsonas_mx.training.loss import pixel_cross_entropy

import mxnet as mx
import numpy as np
import pytest

LOGITS, LABEL = (4, 3, 5, 6), (4, 9, 12)


def computed(images, function):
    """What a function of logits and label gives, and its gradient, by so many images or more."""
    generator = np.random.RandomState(0)
    logits = mx.nd.array(generator.randn(*LOGITS))
    label = mx.nd.array(generator.randint(-1, LOGITS[1], LABEL))
    with Tracing("all", False, images=images).in_force():
        symbol = function(mx.sym, mx.sym.Variable("logits"), mx.sym.Variable("label"))
    gradient = mx.nd.zeros_like(logits)
    arguments = {"logits": logits, "label": label}
    executor = symbol.bind(mx.cpu(), arguments, {"logits": gradient})
    (output,) = executor.forward(is_train=True)
    executor.backward(mx.nd.array(generator.randn(*output.shape)))
    largest = max(
        np.prod(shape)
        for shape in symbol.get_internals().infer_shape(logits=LOGITS, label=LABEL)[1]
        if len(shape) == 4
    )
    return output.asnumpy(), gradient.asnumpy(), largest


@pytest.mark.parametrize("function", [pixel_cross_entropy, likeliest])
@pytest.mark.parametrize("images", [2, 3, 4])
def test_every_bit_is_that_of_all_at_once(function, images):
    *expected, largest = computed(1, function)
    *values, part = computed(images, function)
    for value, wanted in zip(values, expected):
        np.testing.assert_array_equal(value, wanted)
    assert part == max(largest * (LOGITS[0] - images + 1) / LOGITS[0], np.prod(LOGITS))


def test_the_likeliest_class_is_that_of_enlarged_logits():
    classes, gradient, _ = computed(4, likeliest)
    logits = mx.nd.array(np.random.RandomState(0).randn(*LOGITS))
    height, width = LABEL[1:]
    enlarged = mx.nd.contrib.BilinearResize2D(logits, height=height, width=width).asnumpy()
    np.testing.assert_array_equal(classes, enlarged.argmax(1))
    assert not gradient.any()
