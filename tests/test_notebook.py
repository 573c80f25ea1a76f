"""Four lines from images to answers in Python, by the scripts' own options and files: those of
docs/notebook.ipynb, in a small setting.
"""

import ast
import json
from functools import partial
from pathlib import Path

import dsonas_mx as dso
from dsonas_mx import notebook
from dsonas_mx.data import load_data_set

import numpy as np
import pytest

BOOK = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"
CODE = [
    cell
    for cell in json.loads(BOOK.read_text(encoding="utf-8"))["cells"]
    if cell["cell_type"] == "code"
]
SEARCH = {
    "levels": 1,
    "operations": "sep3,avg",
    "blocks": "1,1",
    "width": 4,
    "batch_size": 100,
    "pretrain_epochs": 0,
    "num_epochs": 1,
}
TRAIN = {"num_epochs": 1, "width": 4, "batch_size": 100}


def executed(cells, names):
    """What each cell shows: the value of the expression that it ends with."""
    shown = []
    for cell in cells:
        body = ast.parse("".join(cell["source"])).body
        last = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), str(BOOK), "exec"), names)
        shown.append(last and eval(compile(ast.Expression(last.value), str(BOOK), "eval"), names))
    return shown


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The notebook's names, and what its cells show, with every twentieth embedded image."""
    names, train = {}, notebook.Searched.train

    def some(*words, **more):
        images = load_data_set(*words, **more)
        return images.subset(np.arange(0, len(images), 20))

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        patch.setattr("dsonas_mx.cli.data.load_data_set", some)
        with pytest.MonkeyPatch.context() as small:
            small.setattr(dso, "search", partial(dso.search, **SEARCH))
            small.setattr(notebook.Searched, "train", lambda run: train(run, **TRAIN))
            shown = executed(CODE, names)
        yield names, shown


@pytest.fixture(scope="module")
def trained(book):
    """Its search and the training of what that found."""
    names, _ = book
    return names["run"], names["net"]


def test_the_notebook_is_small_and_shows_what_it_showed(book):
    assert BOOK.stat().st_size < 200_000
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    for cell, value in zip(CODE, book[1]):
        results = [out for out in cell["outputs"] if out["output_type"] == "execute_result"]
        assert len(results) == (value is not None)
        kinds = {kind for out in results for kind in out["data"]}
        assert ("image/png" in kinds or "text/html" in kinds) == hasattr(value, "_repr_png_")
        assert {out["output_type"] for out in cell["outputs"]} <= {"execute_result", "stream"}
    assert [guess.name for guess in book[1][-1]] != []


def test_a_run_is_that_of_the_script_and_shows_itself(trained):
    run, net = trained
    assert run.options["data_set"] == net.options["data_set"] == "fashion_mnist"
    assert (run.options["operations"], run.options["width"]) == ("sep3,avg", 4)
    assert net.options["preset"] == "quick"
    assert len(run.metrics["epoch"]) == len(net.metrics["epoch"]) == 1
    assert net.architecture.kept == run.architecture.kept
    for shown in (run, net, run.architecture):
        assert shown._repr_png_()[:4] == b"\x89PNG"
    assert run._repr_html_().count("<img") == 2  # the block and the curves
    html = net._repr_html_()
    assert html.count("<img") == 3 and "class error sandal" in html


def test_a_picture_is_named(trained, tmp_path):
    _, net = trained
    assert net.export() == net.folder / "model.json"
    black = np.zeros((28, 28), np.uint8)
    guesses = net.predict(black, top=2)
    assert (
        len(guesses) == 2
        and guesses[0].name in dso.Predictor(net.folder / "model.json").card.classes
    )
    assert net.predict([black, black], top=2)[1] == guesses
    assert net.report(tmp_path / "report.html").read_text(encoding="utf-8").count("data:image") >= 3


def test_a_run_that_is_there_goes_on_only_when_asked(trained):
    run, _ = trained
    words = {**run.options, "resume": True}
    del words["data_set"]
    before = (run.folder / "metrics.csv").read_bytes()
    with pytest.raises(ValueError, match="`resume` goes on"):
        dso.search("fashion_mnist", **{**words, "resume": False})
    assert dso.search("fashion_mnist", **words).folder == run.folder
    assert (run.folder / "metrics.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_epoch": 3}, TypeError, "no option 'num_epoch': is it num_epochs"),
        ({"preset": "large"}, ValueError, "`preset` must be quick, standard, paper, got 'large'"),
        ({"split": "half"}, ValueError, "`split` must be as 4:1"),
        ({"gamma": -1}, ValueError, "`gamma` must be at least 0"),
        ({"data_set": "photos"}, ValueError, "`data_set` must be"),
    ],
)
def test_what_cannot_be_is_one_line(options, error, message):
    with pytest.raises(error, match=message):
        dso.search(**options)


def test_a_training_needs_one_network():
    with pytest.raises(ValueError, match="give one of architecture, .*, got none"):
        dso.train("fashion_mnist")
    with pytest.raises(ValueError, match="got architecture and random"):
        dso.train("fashion_mnist", architecture="a.json", random="share")


def test_names_of_fields_and_of_options_are_known(script_module):
    options = script_module("train/search_cifar.py").Options
    both = [notebook.values_of(options, {name: 0.2}) for name in ("lr", "learning_rate")]
    assert both == [{"lr": 0.2}, {"lr": 0.2}]
    assert notebook.values_of(options, {"split": "4:1"}) == {"split": (4, 1)}
