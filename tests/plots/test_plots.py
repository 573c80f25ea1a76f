"""Pictures: what is drawn is what the architecture and the files say, and nothing overlaps."""

import csv

from dsonas_mx.plots import draw_curves, draw_lambdas, draw_run, read_table
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.mobile import OPERATIONS as MOBILE
from dsonas_mx.space.normal import INPUT, OUTPUT, SearchSpace

import numpy as np
import pytest
from looks import pixels, runs_off, texts
from matplotlib.image import imread

SCRIPT = "tools/plot.py"
SHARE = SearchSpace()
FULL = SearchSpace(scope="full", levels=2, operations=("sep3", "max"), blocks=(1, 3))
FOUND = Architecture.random(SHARE, 2, connections=25)


# λ


def search_of(space, epochs=6):
    """A made-up lambdas.csv in which the connection at position i is zero from epoch i % 9 on."""
    names = [connection.name for connection in space.connections]
    if space.scope == "full":
        names = [f"stage{s}.block{b}:{name}" for s, b in space.block_positions for name in names]
    table = {"epoch": list(range(1, epochs + 1))}
    for position, name in enumerate(names):
        dies = position % 9
        table[name] = [
            0.0 if epoch >= dies else 1 - epoch / (position + 10) for epoch in range(epochs)
        ]
    for reduction in range(1, space.num_reductions + 1):
        table[f"reduction{reduction}.1x1"] = [0.5] * epochs
        table[f"reduction{reduction}.3x3"] = [0.75] * epochs
    return table


def lines_of(figure):
    return {
        line.get_gid(): line
        for axes in figure.axes
        for line in axes.lines
        if not line.get_gid().startswith("_")
    }


@pytest.mark.parametrize("space", [SHARE, FULL, SearchSpace(levels=1, blocks=(2,))])
def test_lambdas_have_a_line_a_scale_which_ends_where_it_dies(space):
    table = search_of(space)
    figure = draw_lambdas(table)
    lines = lines_of(figure)
    assert set(lines) == set(table) - {"epoch"}
    assert not runs_off(pixels(figure))
    for name, line in lines.items():
        values = np.array(table[name])
        assert (line.get_alpha() > 0.5) == (values[-1] > 0)
        drawn = line.get_ydata()
        np.testing.assert_array_equal(drawn, values[: len(drawn)])
        np.testing.assert_array_equal(line.get_xdata(), table["epoch"][: len(drawn)])
        assert not values[len(drawn) :].any()


def test_the_map_is_the_last_epoch_by_source_and_target():
    table = search_of(SHARE)
    figure = draw_lambdas(table)
    ((axes, image),) = (
        (axes, image) for axes in figure.axes for image in axes.images if image.get_gid() == "map"
    )
    targets = [tick.get_text() for tick in axes.get_xticklabels()]
    sources = [tick.get_text() for tick in axes.get_yticklabels()]
    assert sources == [INPUT, *SHARE.nodes] and targets == [*SHARE.nodes[4:], OUTPUT]
    cells = np.ma.filled(image.get_array(), 0)
    last = np.array([table[f"{source}->{target}"][-1] for source, target in SHARE.connections])
    found = Architecture.from_lambdas(SHARE, last[None], np.ones((SHARE.num_reductions, 2)))
    for (source, target), value, kept in zip(SHARE.connections, last, found.kept[0]):
        cell = cells[sources.index(source), targets.index(target)]
        assert cell == (value if kept else 0)
    assert np.count_nonzero(cells) == found.num_connections < np.count_nonzero(last)
    assert f"{found.num_connections} of 124 connections kept" in texts(figure)
    more = np.count_nonzero(last) - found.num_connections
    assert any(f"{more} more have λ above zero" in text for text in texts(figure))
    assert sum(text.startswith("(") for text in texts(figure)) == more


def test_a_small_lambda_is_not_shown_as_zero():
    table = {"epoch": [1], "1.max->output": [1.0], "1.avg->output": [0.004], "2.max->output": [0.3]}
    table["1.avg->2.max"] = [0.0]
    shown = texts(draw_lambdas(table))
    assert {"1.00", "<.01", "(0.30)"} <= set(shown) and "0.00" not in shown


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [1.0]])
def test_lambdas_of_one_epoch_or_all_zero_can_be_drawn(values, tmp_path):
    table = {name: values for name in search_of(SHARE)}
    table["epoch"] = range(len(values))
    draw_lambdas(table).savefig(tmp_path / "lambdas.png")
    assert imread(tmp_path / "lambdas.png").std() > 0


@pytest.mark.parametrize("name", ["input->2.conv", "3.max", "reduction1.5x5", "block:input->2.max"])
def test_a_column_that_is_no_scale_is_refused(name):
    with pytest.raises(ValueError, match=r"column '.*' is no connection"):
        draw_lambdas({"epoch": [1], "1.max->output": [1.0], name: [1.0]})


def test_scopes_cannot_be_mixed():
    with pytest.raises(ValueError, match="of one block, or of blocks"):
        draw_lambdas({"epoch": [1], "1.max->output": [1], "stage1.block1:1.max->output": [1]})


# Curves


def search_metrics(restart):
    return {
        "epoch": [1, 2, 1, 2, 3] if restart else [1, 2, 3, 4, 5],
        "phase": ["pretrain"] * 2 + ["search"] * 3,
        "weight_loss": [2.5, 2.0, 1.5, 1.25, 1.125],
        "weight_accuracy": [0.25, 0.375, 0.5, 0.5, 0.625],
        "lambda_loss": ["", "", 1.75, 1.5, 1.375],
        "lambda_accuracy": ["", "", 0.375, 0.5, 0.5],
        "connections": [124, 124, 124, 90, 31],
        "learning_rate": [0.1] * 5,
    }


TRAINING = {
    "epoch": [1, 2],
    "learning_rate": [0.1, 0.05],
    "train_loss": [1.5, 1.0],
    "train_error": [0.5, 0.25],
    "test_loss": ["", 1.25],
    "test_error": ["", 0.375],
}


def write_csv(path, table):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values()))


@pytest.mark.parametrize("restart", [False, True], ids=["one count", "a count a phase"])
def test_curves_of_a_search(restart, tmp_path):
    write_csv(tmp_path / "metrics.csv", search_metrics(restart))
    figure = draw_curves(read_table(tmp_path / "metrics.csv"))
    lines = lines_of(figure)
    for name in set(search_metrics(restart)) - {"epoch", "phase"}:
        measured = [value for value in search_metrics(restart)[name] if value != ""]
        np.testing.assert_array_equal(lines[name].get_ydata(), measured)
        np.testing.assert_array_equal(lines[name].get_xdata(), [1, 2, 3, 4, 5][-len(measured) :])
    assert "Search: 124 to 31 connections kept" in texts(figure)
    assert "2 epochs of pre-training (shaded)  ·  3 epochs of search" in texts(figure)


def test_what_the_curves_of_a_search_say():
    metrics = {name: np.array(values) for name, values in search_metrics(False).items()}
    metrics.update((name, np.ones(5)) for name in ("lambda_loss", "lambda_accuracy"))
    figure = draw_curves(metrics)
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["part for weights", "part for λ"]
    assert figure.axes[2].get_title(loc="left") == "Connections with λ above zero"
    assert not any("may leave zero again" in text for text in texts(figure))
    metrics["connections"] = np.array([124, 124, 90, 92, 31])
    assert any("may leave zero again" in text for text in texts(draw_curves(metrics)))


def test_lambdas_of_the_mobile_setting_are_of_operations_without_gaps():
    names = [f"stage{stage}.block1:{name}->output" for stage in range(1, 7) for name in MOBILE]
    figure = draw_lambdas({"epoch": [1, 2], **{name: [1.0, 0.5] for name in names[1:]}})
    assert "35 of 35 operations with λ above zero, in 6 blocks" in texts(figure)
    assert figure.axes[0].get_title(loc="left") == "stage 1, block 1: 5 of 5"
    assert "MB3 3×3" in [text.get_text() for text in figure.legends[0].get_texts()]
    rows = {round(axes.get_position().y0, 3) for axes in figure.axes}
    columns = {round(axes.get_position().x0, 3) for axes in figure.axes}
    assert len(rows) * len(columns) == 6 and len(columns) > 1


def test_curves_of_a_training(tmp_path):
    write_csv(tmp_path / "metrics.csv", TRAINING)
    figure = draw_curves(read_table(tmp_path / "metrics.csv"))
    lines = lines_of(figure)
    assert set(lines) == set(TRAINING) - {"epoch"}
    assert list(lines["test_error"].get_xdata()) == [2]
    assert "Training: test error 37.50%" in texts(figure)


def test_curves_of_a_training_in_segmentation(tmp_path):
    table = {
        "epoch": [0, 1],
        "learning_rate": [0.1, 0.05],
        "train_loss": [2.0, 1.5],
        "train_accuracy": [0.5, 0.6],
        "test_accuracy": ["", 0.55],
        "test_miou": ["", 0.25],
    }
    write_csv(tmp_path / "metrics.csv", table)
    figure = draw_curves(read_table(tmp_path / "metrics.csv"))
    lines = lines_of(figure)
    assert set(lines) == set(table) - {"epoch"}
    assert list(lines["test_miou"].get_xdata()) == [1]
    assert "Training: test mean IoU 25.00%" in texts(figure)


# Files


def test_tables_come_back_as_written(tmp_path):
    table = search_of(SHARE, epochs=3)
    table["input->2.sep3"] = [1 / 3, 1e-17, 0.0]
    write_csv(tmp_path / "lambdas.csv", table)
    read = read_table(tmp_path / "lambdas.csv")
    assert list(read) == list(table)
    for name, values in table.items():
        np.testing.assert_array_equal(read[name], values)


def run_folder(folder):
    FOUND.save(folder / "architecture.json")
    write_csv(folder / "lambdas.csv", search_of(SHARE))
    write_csv(folder / "metrics.csv", search_metrics(True))
    return folder


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_is_drawn_into_its_folder(tmp_path):
    paths = draw_run(run_folder(tmp_path))
    assert paths == [tmp_path / name for name in ("block.png", "lambdas.png", "curves.png")]
    assert len(files(tmp_path)) == 6  # nothing temporary
    for path in paths:
        image = imread(path)
        assert image.shape[1] > 1000 and image.std() > 0.05
        assert not runs_off(image)


def test_what_is_not_there_is_not_drawn(tmp_path):
    run, out = tmp_path / "run", tmp_path / "a" / "b"
    run.mkdir()
    Architecture.complete(FULL).save(run / "architecture.json")
    write_csv(run / "lambdas.csv", {name: [] for name in search_of(FULL)})  # has only begun
    assert draw_run(run, out) == [out / "block.png"]
    assert files(out) == ["block.png"] and files(run) == ["architecture.json", "lambdas.csv"]


def test_the_tool_prints_what_it_wrote(tmp_path, script):
    status, out, _ = script(SCRIPT, run_folder(tmp_path), "--out", tmp_path / "pictures")
    names = ["block.png", "lambdas.png", "curves.png"]
    assert out.splitlines() == [str(tmp_path / "pictures" / name) for name in names]
    assert status == 0 and sorted(names) == files(tmp_path / "pictures")


def test_the_tool_says_in_one_line_what_is_wrong(tmp_path, script):
    status, out, err = script(SCRIPT, tmp_path)
    names = "architecture.json, lambdas.csv or metrics.csv"
    expected = f"plot.py: {tmp_path}: nothing to draw: no {names}\n"
    assert (status, out, err) == (2, "", expected)


def test_out_that_is_a_file(tmp_path):
    with pytest.raises(ValueError, match=r"metrics\.csv: not a folder"):
        draw_run(run_folder(tmp_path), tmp_path / "metrics.csv")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="none: no such folder"):
        draw_run(tmp_path / "none")
    assert not files(tmp_path)


HEAD = "epoch,learning_rate,train_loss,train_error,test_loss,test_error\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.csv", "", "metrics.csv: the file is empty"),
        ("metrics.csv", b"epoch,\xff\n", "metrics.csv: not a CSV file: not UTF-8"),
        ("metrics.csv", 'epoch,"loss\n1,2\n', "metrics.csv: not a CSV file"),
        ("metrics.csv", "time,loss\n1,2\n", "metrics.csv: no column 'epoch'"),
        ("metrics.csv", "epoch,a,a\n1,2,3\n", "metrics.csv: column 'a' is there more than once"),
        ("metrics.csv", "epoch,loss\n1,2\n", "metrics.csv: no column 'learning_rate'"),
        ("metrics.csv", "epoch,phase\n1,search\n", "metrics.csv: no column 'weight_loss'"),
        ("metrics.csv", "epoch,phase\n1,end\n", "line 2: phase must be pretrain or search"),
        ("metrics.csv", HEAD + "1,.1,1,1,1,1\n2,.1,1\n", "line 3: 3 fields, not 6"),
        ("metrics.csv", HEAD + "1,.1,1,1,1,1e\n", "line 2: test_error must be a number, got '1e'"),
        ("metrics.csv", HEAD + "1,.1,nan,1,1,1\n", "line 2: train_loss must be finite"),
        ("metrics.csv", HEAD + "1,.1,,1,1,1\n", "line 2: train_loss must be a number, got ''"),
        ("metrics.csv", HEAD + "2,.1,1,1,1,1\n2,.1,1,1,1,1\n", "line 3: epoch 2 comes after epo"),
        ("metrics.csv", HEAD, "has not finished an epoch yet"),
        ("lambdas.csv", "epoch,loss\n1,2\n", "lambdas.csv: column 'loss' is no connection"),
        ("lambdas.csv", "epoch\n1\n", "lambdas.csv: the columns must be"),
        ("architecture.json", "{", "architecture.json: not a JSON file"),
    ],
)
def test_damaged_files_are_named_and_nothing_is_written(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError) as caught:
        draw_run(tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert files(tmp_path) == [name]
