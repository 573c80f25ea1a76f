"""The page: a section a run, then what it is compared with. No network, no other file is needed."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from pathlib import Path
from typing import Any, Dict, List, Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from .. import cost
from ..architecture import Architecture
from ..files import PathLike, atomic
from ..plots import draw_block, draw_blocks, draw_curves, read_table

_HERE = Path(__file__).parent
_LAMBDA = re.compile(r"(?:(?P<group>[^:]+):)?(?P<source>[^>]+)->(?P<target>.+)")


def write_report(folders: Sequence[PathLike], path: PathLike, comparison: str = "") -> Path:
    """Write the page of some runs.

    Parameters
    ----------
    folders : sequence of path
        Run folders of searches and trainings, with ``architecture.json`` or ``metrics.csv``.
    path : path
        The file to write.
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
    if comparison:
        parts.append(f'<section id="paper"><h2>The paper beside this project</h2>{comparison}')
        parts.append("</section>")
    template = (_HERE / "template.html").read_text(encoding="utf-8")
    with atomic(path) as temporary:
        temporary.write_text(template.replace("{{body}}", "\n".join(parts)), encoding="utf-8")
    return Path(path)


def unique_names(folders: Sequence[Path]) -> List[str]:
    """The last parts of the paths, as many as tell them apart."""
    parts = [folder.absolute().parts for folder in folders]
    for count in range(1, 20):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise ValueError("a run is given twice")


def navigation(names: Sequence[str]) -> str:
    links = (f'<a href="#run{i}">{html.escape(name)}</a>' for i, name in enumerate(names))
    return f"<nav>{' '.join(links)}</nav>"


def section(folder: Path, name: str) -> str:
    """All that is known of one run."""
    files = [folder / known for known in ("architecture.json", "metrics.csv", "lambdas.csv")]
    if not any(path.is_file() for path in files):
        raise ValueError(
            f"{folder} is no run: it has no architecture.json, metrics.csv, lambdas.csv"
        )
    number = re.sub(r"\W", "-", name)
    parts = [f"<h2>{html.escape(name)}</h2>"]
    if files[0].is_file():
        parts += found(Architecture.load(files[0]))
    if files[2].is_file():
        parts.append(lambdas(files[2], number))
    if files[1].is_file():
        table = read_table(files[1])
        if len(table["epoch"]):
            parts += ["<h3>Curves</h3>", picture(draw_curves(table), "learning curves")]
    parts += results(folder) + command(folder)
    return "\n".join(parts)


def found(architecture: Architecture) -> List[str]:
    """The block as a picture and in words, its cost, and multiply-adds by block."""
    draw = draw_block if architecture.space.scope == "share" else draw_blocks
    return [
        "<h3>What was found</h3>",
        picture(draw(architecture), "the block"),
        "<details><summary>in words</summary>"
        f"<pre>{html.escape(str(architecture))}</pre></details>",
        "<h3>Cost</h3>",
        rows_of(cost_rows(architecture)),
        "<h3>Multiply-adds by block</h3>",
        bars(by_block(architecture)),
    ]


def cost_rows(architecture: Architecture) -> List[List[str]]:
    """What was found beside the complete network of the same width."""
    space = architecture.space
    counts = [cost.count(a) for a in (architecture, Architecture.complete(space))]
    rows = [["", "found", "complete", "share"]]
    for name in ("parameters", "multiply_adds", "memory_access", "connections"):
        here, all_ = (getattr(count, name) for count in counts)
        share = f"{here / all_:.1%}" if all_ else "–"
        rows.append([name.replace("_", " "), f"{here:,}", f"{all_:,}", share])
    return rows


def by_block(architecture: Architecture) -> Dict[str, int]:
    """Multiply-adds of the stem, each block and reduction, and the classifier."""
    space = architecture.space
    parts = {"stem": cost.stem(space).multiply_adds}
    for index, (stage, position) in enumerate(space.block_positions):
        channels, side = space.stage_shapes[stage - 1]
        if position == 1 and stage > 1:
            shape = space.stage_shapes[stage - 2]
            branches = architecture.reductions[stage - 2]
            parts[f"reduction {stage - 1}"] = cost.reduction(*shape, branches).multiply_adds
        structure = space.structure_of(index)
        block = cost.block(architecture, structure, channels, side, first=position == 1)
        parts[f"stage {stage}, block {position}"] = block.multiply_adds
    channels, side = space.stage_shapes[-1]
    parts["classifier"] = cost.classifier(channels, space.num_classes, side).multiply_adds
    return parts


def lambdas(path: Path, number: str) -> str:
    """λ as a map of source by target, with a slider by epoch."""
    table = read_table(path)
    epochs = [int(epoch) for epoch in table["epoch"]]
    if not epochs:
        return ""
    groups: Dict[str, List[Any]] = {}
    for column, values in table.items():
        match = _LAMBDA.fullmatch(column)
        if match:
            series = [round(float(value), 3) for value in values]
            row = [match["source"], match["target"], series]
            groups.setdefault(match["group"] or "block", []).append(row)
    data = json.dumps({"epochs": epochs, "groups": groups}).replace("<", "\\u003c")
    return (
        f'<h3>λ by epoch</h3><div class="lambdas" id="lambdas-{number}">'
        f'<script type="application/json">{data}</script>'
        '<label>epoch <output></output> <input type="range" min="0" step="1" '
        f'max="{len(epochs) - 1}" value="{len(epochs) - 1}"></label> <select></select> '
        '<span class="live"></span><div class="wide"><table class="map"></table></div></div>'
    )


def results(folder: Path) -> List[str]:
    values = read_json(folder / "result.json")
    if not values:
        return []
    rows = [["", ""]] + [[key.replace("_", " "), shown(key, values[key])] for key in values]
    return ["<h3>Result</h3>", rows_of(rows)]


def shown(key: str, value: Any) -> str:
    """A value of result.json: errors in percent."""
    if isinstance(value, float) and key.endswith("error"):
        return f"{value:.2%}"
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def command(folder: Path) -> List[str]:
    """The command line, the options and the environment."""
    arguments = read_json(folder / "args.json")
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
    """The runs beside each other."""
    rows = [["run", "test error", "parameters", "multiply-adds", "connections"]]
    for folder, name in zip(folders, names):
        error = read_json(folder / "result.json").get("test_error")
        row = [name, "–" if error is None else f"{error:.2%}"]
        if (folder / "architecture.json").is_file():
            size = cost.count(Architecture.load(folder / "architecture.json"))
            row += [f"{size.parameters:,}", f"{size.multiply_adds:,}", f"{size.connections:,}"]
        rows.append(row + ["–"] * (len(rows[0]) - len(row)))
    return f'<section id="runs"><h2>All runs</h2>{rows_of(rows)}</section>'


# HTML


def picture(figure: Figure, title: str) -> str:
    """A figure as SVG inside the page."""
    content = io.BytesIO()
    with rc_context({"svg.hashsalt": title}):  # the same figure, the same bytes
        figure.savefig(content, format="svg", metadata={"Date": None})
    code = base64.b64encode(content.getvalue()).decode("ascii")
    return f'<img class="figure" alt="{html.escape(title)}" src="data:image/svg+xml;base64,{code}">'


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


def read_json(path: Path) -> Dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
