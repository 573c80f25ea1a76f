"""The page: a section a run, then what it is compared with. No network, no other file is needed."""

import base64
import html
import io
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from ..cost.network import count_network, parts_of
from ..experiments.agreement import agreement, read_searches
from ..experiments.agreement import draw as draw_lambdas_of
from ..experiments.agreement import rows_of as agreement_rows
from ..io import files
from ..io.checks import check_list, check_number, check_object
from ..io.files import PathLike, atomic, read_regular, unique_names
from ..plots import draw_architecture, draw_curves, read_table
from ..space.mobile import OPERATIONS as MOBILE_OPERATIONS
from ..space.mobile_architecture import AnyArchitecture, load_architecture
from ..space.scales import ScaleName

_HERE = Path(__file__).parent
_FILES = ("architecture.json", "metrics.csv", "lambdas.csv", "result.json")
_MOST_PICTURES = 4  # of segmented test images
_MOST_BYTES = 2**28  # of a picture
_LEAST_SCALE = 0.6  # of a drawing


def write_report(folders: Sequence[PathLike], path: PathLike, comparison: str = "") -> Path:
    """Write the page of some runs.

    Parameters
    ----------
    folders : sequence of path
        Run folders of searches, trainings and tests, of any of the scripts.
    path : path
        The file to write; its folder is made if it is not there.
    comparison : str
        HTML of further tables.

    Raises
    ------
    ValueError
        A folder has nothing to report, or a file in it is damaged; the message names it.
    """
    names = unique_names([Path(folder) for folder in folders])
    sections = [
        f'<section id="run{number}">{section(Path(folder), name)}</section>'
        for number, (folder, name) in enumerate(zip(folders, names))
    ]
    parts = ["<h1>DSO-NAS report</h1>", navigation(names), *sections]
    if len(folders) > 1:
        parts.append(all_runs([Path(folder) for folder in folders], names))
        parts += alike([Path(folder) for folder in folders], names)
    if comparison:
        parts.append(f'<section id="paper"><h2>The paper beside this project</h2>{comparison}')
        parts.append("</section>")
    template = (_HERE / "template.html").read_text(encoding="utf-8")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        page = template.replace("{{body}}", "\n".join(parts))
        temporary.write_bytes(page.encode(errors="replace"))  # of folders whose names are no text
    return Path(path)


def navigation(names: Sequence[str]) -> str:
    links = (f'<a href="#run{i}">{html.escape(name)}</a>' for i, name in enumerate(names))
    return f"<nav>{' '.join(links)}</nav>"


def section(folder: Path, name: str) -> str:
    """All that is known of one run."""
    there = {file for file in _FILES if (folder / file).is_file()}
    if not there:
        raise ValueError(f"{folder} is no run: it has no {', '.join(_FILES)}")
    arguments, outcome = arguments_of(folder), outcome_of(folder)
    segments = is_segmentation(arguments)
    parts = [f"<h2>{html.escape(name)}</h2>", *classes(folder)]
    if "architecture.json" in there:
        parts += what_was_found(load_architecture(folder / "architecture.json"), segments, outcome)
    if "lambdas.csv" in there:
        parts.append(lambdas(folder / "lambdas.csv", re.sub(r"\W", "-", name)))
    if "metrics.csv" in there:
        table = read_table(folder / "metrics.csv")
        if len(table["epoch"]):
            parts += ["<h3>Curves</h3>", picture(draw_curves(table), "learning curves")]
    parts += results(outcome) + classified(folder) + segmented(folder) + command(arguments)
    return "\n".join(parts)


def classes(folder: Path) -> List[str]:
    """The names of the classes of own data."""
    names = _read(folder / "data.json", lambda data: check_object("it", data)).get("classes")
    if not isinstance(names, list):
        return []
    return [f"<p>Classes: {html.escape(', '.join(map(str, names)))}</p>"]


def is_segmentation(arguments: Mapping[str, Any]) -> bool:
    """Whether a run is of `search_voc.py` or `train_voc.py`, which alone cut their images."""
    return "crop" in arguments.get("options", {})


def what_was_found(
    architecture: AnyArchitecture, segments: bool = False, outcome: Mapping[str, Any] = {}
) -> List[str]:
    """The block as a picture and in words, its cost, and multiply-adds by block."""
    figure = draw_architecture(architecture)
    side = architecture.space.image_size
    adds = {name: cost.multiply_adds for name, cost in parts_of(architecture, segments).items()}
    adds.pop("end", None)  # BN alone
    heads = outcome.get("multiply_adds", 0) - sum(adds.values())
    if segments and heads > 0:
        adds["heads"] = heads
    of = "Cost of the backbone, without the heads" if segments else "Cost"
    return [
        "<h3>What was found</h3>",
        picture(figure, "the block"),
        "<details><summary>in words</summary>"
        f"<pre>{html.escape(str(architecture))}</pre></details>",
        f"<h3>{of}, images of {side}×{side}</h3>",
        rows_of(cost_rows(architecture, segments)),
        "<h3>Multiply-adds by block</h3>",
        bars(adds),
    ]


def cost_rows(architecture: AnyArchitecture, segments: bool = False) -> List[List[str]]:
    """What was found beside the complete network of the same width."""
    kind: Any = type(architecture)
    complete = kind.complete(architecture.space)
    here, whole = (asdict(count_network(one, segments)) for one in (architecture, complete))
    rows = [["", "found", "complete", "share"]]
    for name in here:
        share = f"{here[name] / whole[name]:.1%}" if whole[name] else "–"
        rows.append([title_of(name), f"{here[name]:,}", f"{whole[name]:,}", share])
    return rows


def lambdas(path: Path, number: str) -> str:
    """λ as a map of source by target, with a slider by epoch."""
    table = read_table(path)
    epochs = [int(epoch) for epoch in table["epoch"]]
    if not epochs:
        return ""
    groups: Dict[str, List[Any]] = {}
    for column, values in table.items():
        if "->" in column:
            series = [float(f"{value:.5g}") for value in values]  # the page rounds once
            with files.in_file(path):
                group, source, target = ScaleName.parse(column)
            if source in MOBILE_OPERATIONS:  # one map of operation by block
                group, target = "blocks", ".".join(re.findall(r"\d+", group))
            groups.setdefault(group or "block", []).append([source, target, series])
    data = json.dumps({"epochs": epochs, "groups": groups}).replace("<", "\\u003c")
    return (
        f'<h3>λ by epoch</h3><div class="lambdas" id="lambdas-{number}">'
        f'<script type="application/json">{data}</script>'
        '<label>epoch <output></output> <input type="range" min="0" step="1" '
        f'max="{len(epochs) - 1}" value="{len(epochs) - 1}"></label> <select></select> '
        '<span class="live"></span><div class="wide"><table class="map"></table></div></div>'
    )


def results(outcome: Mapping[str, Any]) -> List[str]:
    if not outcome:
        return []
    rows = [["", ""]]
    for key, value in outcome.items():
        values = value if isinstance(value, dict) else {"": value}
        for of, each in values.items():
            rows.append([f"{title_of(key)} {of}".strip(), shown(key, each)])
    return ["<h3>Result</h3>", rows_of(rows)]


def title_of(key: str) -> str:
    """mean_iou → mean IoU."""
    return key.replace("_", " ").replace("iou", "IoU")


def shown(key: str, value: Any) -> str:
    """A value of result.json: fractions in percent."""
    if value is None:
        return "–"
    if isinstance(value, float) and key.endswith(("error", "iou", "accuracy")):
        return f"{value:.2%}"
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def classified(folder: Path) -> List[str]:
    """What a classifier takes for what, and its mistakes."""
    parts = []
    for name, title in (
        ("confusion", "What is taken for what"),
        ("mistakes", "The most confident mistakes"),
    ):
        path = folder / f"{name}.png"
        if path.is_file():
            content = read_regular(path, _MOST_BYTES)
            parts += [f"<h3>{title}</h3>", image(content, "png", title)]
    return parts


def segmented(folder: Path) -> List[str]:
    """Some of the pictures of a test in segmentation."""
    paths = sorted((folder / "pictures").glob("*.png"))[:_MOST_PICTURES]
    if not paths:
        return []
    images = [image(read_regular(path, _MOST_BYTES), "png", path.stem) for path in paths]
    return ["<h3>Test images: image, truth, prediction</h3>", *images]


def command(arguments: Mapping[str, Any]) -> List[str]:
    """The command line, the options and the environment."""
    if not arguments:
        return []
    environment = dict(arguments.get("environment", {}))
    words = environment.pop("command", [])
    rows = [["", ""]] + [[key, str(value)] for key, value in environment.items()]
    options = [["", ""]] + [[k, str(v)] for k, v in arguments.get("options", {}).items()]
    return [
        "<h3>Command and environment</h3>",
        f"<pre>{html.escape(' '.join(map(str, words)))}</pre>",
        rows_of(rows),
        f"<details><summary>all options</summary>{rows_of(options)}</details>",
    ]


def all_runs(folders: Sequence[Path], names: Sequence[str]) -> str:
    """The runs beside each other; what a training says of its size is that of its network."""
    measures = ("test_error", "mean_iou", "parameters", "multiply_adds", "connections")
    known = []
    for folder in folders:
        values: Dict[str, Any] = {}
        if (folder / "architecture.json").is_file():
            segments = is_segmentation(arguments_of(folder))
            found = load_architecture(folder / "architecture.json")
            values = asdict(count_network(found, segments))
        known.append({**values, **outcome_of(folder)})
    there = [key for key in measures if any(key in values for values in known)]
    rows = [["run", *map(title_of, there)]]
    for name, values in zip(names, known):
        rows.append([name, *(shown(key, values.get(key)) for key in there)])
    return f'<section id="runs"><h2>All runs</h2>{rows_of(rows)}</section>'


def alike(folders: Sequence[Path], names: Sequence[str]) -> List[str]:
    """How far searches agree that differ in their seeds alone."""
    groups: Dict[str, List[int]] = {}
    for number, folder in enumerate(folders):
        if all((folder / file).is_file() for file in ("architecture.json", "lambdas.csv")):
            options = dict(load_architecture(folder / "architecture.json").origin)
            options.pop("seed", None)
            groups.setdefault(json.dumps(options, sort_keys=True), []).append(number)
    parts = []
    for members in groups.values():
        searches = read_searches([folders[number] for number in members])
        found = agreement(searches)
        if found is not None:
            table = agreement_rows({", ".join(names[number] for number in members): found})
            parts.append(
                f'<section class="agreement"><h2>Agreement over seeds</h2>{rows_of(table)}'
                f"{picture(draw_lambdas_of(searches), 'λ of each connection')}</section>"
            )
    return parts


# HTML


def picture(figure: Figure, title: str) -> str:
    """A figure as SVG inside the page."""
    content = io.BytesIO()
    with rc_context({"svg.hashsalt": title}):  # the same figure, the same bytes
        figure.savefig(content, format="svg", metadata={"Date": None})
    # Not so narrow that its text cannot be read: on a phone it is scrolled.
    least = round(_LEAST_SCALE * 96 * figure.get_figwidth())
    style = f'class="figure" style="min-width:{least}px"'
    return f'<div class="wide">{image(content.getvalue(), "svg+xml", title, style)}</div>'


def image(content: bytes, kind: str, title: str, attributes: str = 'class="photo"') -> str:
    """The content of a picture's file inside the page."""
    code = base64.b64encode(content).decode("ascii")
    name = html.escape(title)
    return f'<img {attributes} alt="{name}" src="data:image/{kind};base64,{code}">'


def rows_of(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its head; an empty head is left out."""
    lines = []
    for index, row in enumerate(rows):
        kind = "td" if index else "th"
        if index or any(row):
            cells = "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in row)
            lines.append(f"<tr>{cells}</tr>")
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def bars(values: Dict[str, int]) -> str:
    """A bar a value."""
    most = max(values.values()) or 1
    lines = (
        f'<div class="bar"><span>{html.escape(name)}</span>'
        f'<i><b style="width:{100 * value / most:.1f}%"></b></i><span>{value:,}</span></div>'
        for name, value in values.items()
    )
    return f'<div class="bars">{"".join(lines)}</div>'


def arguments_of(folder: Path) -> Mapping[str, Any]:
    """What a run was asked for, and where it ran."""

    def parse(data: Any) -> Mapping[str, Any]:
        for name in ("options", "environment"):
            check_object(name, check_object("it", data).get(name, {}))
        check_list("command", data.get("environment", {}).get("command", []))
        return dict(data)

    return _read(folder / "args.json", parse)


def outcome_of(folder: Path) -> Mapping[str, Any]:
    """What came out of a run."""

    def parse(data: Any) -> Mapping[str, Any]:
        check_number("multiply_adds", check_object("it", data).get("multiply_adds", 0), 0, 2**63)
        return dict(data)

    return _read(folder / "result.json", parse)


def _read(path: Path, parse: Callable[[Any], Mapping[str, Any]]) -> Mapping[str, Any]:
    return files.read_json(path, parse) if path.is_file() else {}
