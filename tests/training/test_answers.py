"""What a network answers, counted by hand."""

from dsonas_mx.cli.quality import write_quality
from dsonas_mx.data.augment import Augmentation
from dsonas_mx.data.images import Images
from dsonas_mx.data.loader import Loader
from dsonas_mx.plots import draw_confusion, draw_mistakes
from dsonas_mx.runs.folder import Run
from dsonas_mx.training.answers import answers

import mxnet as mx
import numpy as np
import pytest
from matplotlib.image import imread
from mxnet.gluon import HybridBlock

CLASSES = ("cat", "dog", "eel")


class Brightness(HybridBlock):
    """Takes an image for the class that its mean is closest to: 0, 100 or 200."""

    def hybrid_forward(self, F, x):
        mean = F.mean(x, axis=(1, 2, 3)).reshape((-1, 1)) * 255
        centres = mx.nd.array([[0.0, 100.0, 200.0]])
        return -F.abs(F.broadcast_sub(mean, centres)) / 10


@pytest.fixture
def loader():
    bright = np.array([0, 20, 90, 100, 160, 200, 195], np.uint8)
    labels = np.array([0, 0, 0, 1, 1, 0, 1], np.int32)
    images = np.zeros((7, 4, 4, 1), np.uint8) + bright[:, None, None, None]
    plain = Augmentation((0.0,), (1.0,)).plain()
    data = Images(images, labels, CLASSES)
    return Loader(data, None, 3, plain, shuffle=False, drop_last=False)


def test_counts_errors_and_the_surest_mistakes(loader):
    found = answers(Brightness(), loader, mx.cpu(), 3, most=3)
    assert found.confusion.counts.tolist() == [[2, 1, 1], [0, 1, 2], [0, 0, 0]]
    np.testing.assert_allclose(found.class_errors, [0.5, 2 / 3, np.nan])
    kept = [(one.true, one.predicted, round(255 * one.data.mean())) for one in found.mistakes]
    assert kept == [(0, 2, 200), (1, 2, 195), (0, 1, 90)]  # 160 is the least sure
    sure = [one.probability for one in found.mistakes]
    assert sure == sorted(sure, reverse=True) and sure[-1] > 0.9


def test_files_for_a_run(loader, tmp_path):
    many = tuple(str(number) for number in range(101))
    with Run(tmp_path, {}, quiet=True) as run:
        result = write_quality(run, Brightness(), loader, mx.cpu(), CLASSES)
        assert write_quality(run, Brightness(), loader, mx.cpu(), many) == {}
    assert result == {"class_error": {"cat": 0.5, "dog": pytest.approx(2 / 3), "eel": None}}
    rows = (tmp_path / "confusion.csv").read_text(encoding="utf-8").splitlines()
    assert rows[1:] == ["cat,2,1,1", "dog,0,1,2", "eel,0,0,0"] and rows[0].endswith("cat,dog,eel")
    for name in ("confusion.png", "mistakes.png"):
        assert imread(tmp_path / name).std() > 0


def test_a_picture_that_cannot_be_written_ends_no_run(loader, tmp_path):
    """The result is there, and one line of the log says what is not."""
    with Run(tmp_path / "run", {}) as run:
        (run.folder / "confusion.png").mkdir()
        result = write_quality(run, Brightness(), loader, mx.cpu(), CLASSES)
        assert result["class_error"]["cat"] == 0.5
        assert imread(run.folder / "mistakes.png").std() > 0
    (line,) = (run.folder / "log.txt").read_text().splitlines()
    assert "confusion.png" in line and line.endswith("the run goes on without it")


def test_the_map_and_the_sheet():
    counts = np.array([[2, 1, 1], [0, 1, 2], [0, 0, 0]])
    figure = draw_confusion(counts, CLASSES)
    (axes,) = figure.axes
    shown = [text.get_text() for text in axes.texts]
    assert shown[:9] == [str(count) for count in counts.ravel()]
    assert shown[9:] == ["50% wrong", "67% wrong", "no sample"]
    assert "4 of 7 test samples wrong" in [text.get_text() for text in figure.texts]
    with pytest.raises(ValueError, match="must be 2×2"):
        draw_confusion(counts, CLASSES[:2])
    pictures = [np.full((4, 4, channels), 90, np.uint8) for channels in (1, 3)]
    sheet = draw_mistakes(pictures, [("cat", 0.97, "dog"), ("a" * 30, 0.5, "eel")])
    captions = [axes.texts[0].get_text() for axes in sheet.axes]
    assert captions == ["cat 97%\nis dog", f"{'a' * 17}… 50%\nis eel"]
    assert "No mistakes" in [text.get_text() for text in draw_mistakes([], []).texts]
