"""Training in stages, whole images, and backbones from other runs."""

from dsonas_mx import Architecture
from dsonas_mx.data import voc
from dsonas_mx.data.scenes import Crop, SceneLoader
from dsonas_mx.runs.folder import save_parameters
from dsonas_mx.search.options import SearchOptions
from dsonas_mx.search.search import Search
from dsonas_mx.training.loss import pixel_cross_entropy, with_auxiliary
from dsonas_mx.training.options import SegmentationOptions
from dsonas_mx.training.schedule import poly
from dsonas_mx.training.segmentation import (
    Predictor,
    SegmentationFit,
    Stage,
    evaluate,
    save_picture,
)
from dsonas_mx.training.state import State
from dsonas_mx.training.transfer import parameters_file, read_parameters, take_over

import cv2
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import HybridBlock

from symbols import get_model
from symbols.segmentation import deeplab, voc_space

LOSS = with_auxiliary(0.4, pixel_cross_entropy)


@pytest.fixture
def space():
    return voc_space(
        levels=2, operations=("sep3", "max"), blocks=(1, 1), width=4, num_classes=3, image_size=24
    )


@pytest.fixture
def fit(space, scenes_folder, some_architecture):
    """`fit(stages)`: a training in stages of (epochs, rate), from weights of that number."""

    def build(*stages, weights=0, **options):
        mx.random.seed(weights)
        net = deeplab(some_architecture(space), auxiliary=True)
        net.initialize()
        scenes = voc.load_scenes(scenes_folder, "train")
        planned = [
            Stage(SceneLoader(scenes, None, 4, Crop(24), 0, number), *stage)
            for number, stage in enumerate(stages)
        ]
        test = voc.load_scenes(scenes_folder, "val")
        given = SegmentationOptions(**{"test_every": 1, **options})
        return SegmentationFit(net, stages=planned, test_data=test, options=given, loss=LOSS)

    return build


def test_poly_by_hand():
    assert poly(0, 0.5) == 0.5
    assert poly(0.5, 2.0, power=2) == 0.5
    assert poly(1, 0.5) == 0


def test_learns_scenes(fit):
    training = fit((30, 0.1), test_every=30)
    epochs = []
    while not training.finished:
        epochs.append(training.step_epoch())
    assert epochs[0].train.loss > epochs[-1].train.loss
    assert [epoch.error is None for epoch in epochs] == [True] * 29 + [False]
    assert epochs[-1].test.mean_iou > 1.5 * epochs[-1].test.of_constant()
    assert epochs[-1].row()["test_miou"] == epochs[-1].test.mean_iou


def test_rates_of_the_stages(fit):
    """Two steps an epoch: the rate falls step by step, and begins anew with a stage."""
    training = fit((2, 0.01), (1, 0.02))
    trainer, rates = training.trainers["all"], []
    step = trainer.step

    def noted(batch_size):
        rates.append(trainer.learning_rate)
        step(batch_size)

    trainer.step = noted
    stages = [training.step_epoch().stage for _ in range(3)]
    assert stages == [0, 0, 1] and training.finished
    expected = [0.01 * (1 - done / 4) ** 0.9 for done in range(4)]
    np.testing.assert_allclose(rates, expected + [0.02, 0.02 * 0.5**0.9])


def test_goes_on_bit_for_bit_in_any_stage(fit):
    """From the state after each step, dropout and the test between included."""
    states, rows = [], []
    whole = fit((1, 0.01), (1, 0.02))
    whole.after_step = lambda: states.append(whole.state())
    while not whole.finished:
        rows.append(whole.step_epoch().row())
    expected = whole.state()
    for state in (states[0], states[3]):  # after a step, and between the images of a test
        again = fit((1, 0.01), (1, 0.02), weights=7)
        again.restore(State(state.values, dict(state.arrays)))
        assert [again.step_epoch().row() for _ in range(2)] == rows
        found = again.state()
        assert found.values == expected.values
        for name, array in expected.arrays.items():
            assert np.array_equal(found.arrays[name], array), name


def test_a_search_goes_on_bit_for_bit(space, scenes_folder):
    """The supernet under both heads, removal between."""

    def build(architecture):
        return deeplab(architecture, weighted=True, auxiliary=True)

    def search():
        mx.random.seed(0)
        scenes = voc.load_scenes(scenes_folder, "train")
        data = {
            name: SceneLoader(scenes, part, 2, Crop(24), 0, stream)
            for stream, (name, part) in enumerate(
                {"weight_data": range(4), "lambda_data": range(4, 8)}.items()
            )
        }
        options = SearchOptions(
            pretrain_epochs=1, num_epochs=3, shrink_every=1, learning_rate=0.05, gamma=0.5
        )
        search = Search(build, Architecture.complete(space), **data, options=options, loss=LOSS)
        search.net.backbone.lambdas.set_data(mx.nd.array([0.1] * 4 + [1] * 6))  # four will go
        return search

    states, whole = [], search()
    whole.after_step = lambda: states.append(whole.state())
    for _ in range(3):
        epoch = whole.step_epoch()
    assert epoch.connections < len(space.connections)
    assert 0 < epoch.weights.accuracy < 1
    again = search()
    again.restore(states[3])
    while again.epoch < 3:
        again.step_epoch()
    expected, found = whole.state(), again.state()
    assert found.values == expected.values
    assert all(np.array_equal(found.arrays[n], a) for n, a in expected.arrays.items())


class Colours(HybridBlock):
    """Logits that are the three normalised colours: the class is the strongest."""

    def hybrid_forward(self, F, x):
        return 5 * x


@pytest.mark.parametrize("scales, flip", [((1.0,), False), ((1.0,), True), ((0.5, 1.0, 1.5), True)])
def test_whole_images_of_any_size(scales, flip):
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, :10, 0] = image[:10, 10:, 1] = image[10:, 10:, 2] = 255
    expected = np.zeros((20, 30), int)
    expected[:10, 10:], expected[10:, 10:] = 1, 2
    predict = Predictor(Colours(), mx.cpu(), scales, flip)
    assert (predict(image) == expected).mean() > (0.99 if len(scales) == 1 else 0.9)
    assert predict(image[:7, :9]).shape == (7, 9)


def test_evaluate_counts_all_scenes(scenes_folder):
    scenes, seen = voc.load_scenes(scenes_folder, "val"), []
    right = {scenes.read(index)[0].tobytes(): scenes.read(index)[1] for index in range(3)}

    def predict(image):
        return right[image.tobytes()].clip(0)

    confusion = evaluate(predict, scenes, lambda index, *arrays: seen.append(index))
    assert (confusion.mean_iou, confusion.pixel_accuracy, seen) == (1, 1, [0, 1, 2])


def test_picture(tmp_path):
    image = np.full((2, 3, 3), (10, 20, 30), np.uint8)
    labels, prediction = np.full((2, 3), -1), np.full((2, 3), 1)
    save_picture(tmp_path / "a.png", image, labels, prediction)
    pixels = cv2.imread(str(tmp_path / "a.png"))[..., ::-1]
    assert pixels.shape == (2, 9, 3)
    assert pixels[0, ::3].tolist() == [[10, 20, 30], [224, 224, 192], [128, 0, 0]]


def test_a_backbone_from_a_classifier(space, tmp_path):
    """By name; its classifier is not used, what has another shape is told, λ stay."""
    complete = Architecture.complete(space)
    classifier = get_model("dsonas", complete, weighted=True)
    classifier.initialize()
    classifier.lambdas.set_data(mx.nd.full(classifier.lambdas.shape, 3))
    save_parameters(tmp_path / "model.params", classifier)
    arrays = read_parameters(parameters_file(tmp_path))
    arrays["stem1_conv_weight"] = np.zeros((1, 2), np.float32)
    del arrays["final_bn_beta"]
    net = deeplab(complete, weighted=True)
    net.initialize()
    found = take_over(net, arrays, net.backbone)
    assert found.missing == ["final_bn_beta"]
    assert found.other == ["stem1_conv_weight"]
    assert {"fc_weight", "fc_bias", "lambdas"} <= set(found.left)
    assert "1 not in the file (final_bn_beta); 1 of another shape (stem1_conv_weight)" in str(found)
    parameters = net.collect_params()
    for name in found.taken:
        assert np.array_equal(parameters[name].data().asnumpy(), arrays[name])
    assert (parameters["lambdas"].data().asnumpy() == 1).all()
    assert len(found.taken) > 20
    with pytest.raises(ValueError, match="nothing fits this backbone"):
        take_over(net, {"fc_weight": np.zeros((1, 2))}, net.backbone)
    with pytest.raises(FileNotFoundError, match="neither model.params nor"):
        parameters_file(tmp_path / "other")
