"""Tables 1 to 9 of the paper: its values, what is exactly known here, and what was run."""

import argparse
import csv
import html
import io
import re
import shutil
import sys
import textwrap
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from dsonas_mx.cost.count import Cost, count, count_lambdas
from dsonas_mx.cost.network import count_network
from dsonas_mx.cost.traced import count_traced
from dsonas_mx.cost.width import Target, fit_width, parameters
from dsonas_mx.experiments.experiment import MEASURES
from dsonas_mx.experiments.paper import TABLES, read_paper, read_supernets
from dsonas_mx.experiments.results import mean_std
from dsonas_mx.io.files import read_json
from dsonas_mx.io.markdown import markdown_table
from dsonas_mx.report.page import rows_of
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.mobile import MobileSpace
from dsonas_mx.space.mobile_architecture import MobileArchitecture
from dsonas_mx.space.normal import SearchSpace
from dsonas_mx.space.operations import LISTED, OPERATIONS

import mxnet as mx

from symbols import published
from symbols.baselines import PUBLISHED, cost_of
from symbols.segmentation import deeplab, voc_space

Blocks = List[Tuple[str, List[str], List[List[str]]]]  # title, notes, rows
BASELINES = dict(zip(("ResNet(pre-activation) [63]", "DenseNet [64]"), PUBLISHED))
MOBILE = {"DSO-NAS(GPU)": "mobile-gpu", "DSO-NAS(CPU)": "mobile-cpu"}
SEGMENTATION = {  # rows of table 4; a search starts from the supernet
    "Mobilenet v1 [46]": "mobilenet_v1",
    "Mobilenet v2 [46]": "mobilenet_v2",
    "DSO-NAS-seg": None,
}
MANUAL = {  # rows of tables 2, 3 and 5, without reference and mark: networks that are built here
    "MobileNet": "MobileNet",
    "MobileNet v2": "MobileNetV2",
    "Proxyless(GPU)": "Proxyless (GPU)",
    "Proxyless(CPU)": "Proxyless (CPU)",
    "NASNet-A": "NASNet-A",
    "DARTS": "DARTS",
}
ROOT = Path(__file__).resolve().parents[2]
EIGHT = "--gpus 0,1,2,3,4,5,6,7"
CIFAR = "--data-dir data/cifar10 --gpus 0,1"
TRANSFERRED = f"{CIFAR} --transfer-data-dir data/imagenet"
DATA = {  # of an experiment
    "imagenet": f"--data-dir data/imagenet {EIGHT}",
    "table4": f"--data-dir data {EIGHT}",
    "table8": TRANSFERRED,
    "table9": TRANSFERRED,
}
SCRIPTS = {  # what would run a row that no experiment has at the paper's scale
    ("2", "DSO-NAS†"): "train_imagenet.py --architecture runs/search_cifar/architecture.json "
    "--target-flops 600M",
    ("2", "DSO-NAS-share"): "search_imagenet.py --budget latency",
    ("2", "random-full"): "train_imagenet.py --random full --target-flops 600M",
    ("4", "Mobilenet v1 [46]"): "train_voc.py --model mobilenet_v1",
    ("4", "Mobilenet v2 [46]"): "train_voc.py --model mobilenet_v2",
    ("4", "DSO-NAS-seg"): "search_voc.py",
    ("4", "DSO-NAS-cls"): "train_voc.py --backbone runs/train_imagenet",
    ("5", "DSO-Nas-share+AL"): "search_imagenet.py --budget latency",
}


def measure(options: argparse.Namespace) -> Dict[str, Any]:
    """Every table, its rows with cells of text."""
    chosen = options.tables.split(",")
    for number in chosen:
        if number not in TABLES:
            raise ValueError(f"--tables must be of 1 to 9, got {number}")
    return {
        "supernets": [supernet(name, options.memory) for name in read_supernets()],
        "tables": [one_table(number, Path(options.results)) for number in chosen],
    }


def supernet(name: str, memory: bool) -> Dict[str, Any]:
    """A supernet of the paper: what it, the release, and this project say."""
    data, scope = name.split(", ")
    imagenet = data == "ImageNet"
    space = replace(SearchSpace.imagenet() if imagenet else SearchSpace.cifar10(), scope=scope)
    planned = planned_mb(space, 32 if imagenet else 64) if memory else None
    return {"name": name, **read_supernets()[name], **exact(space), "mb": planned}


def exact(space: SearchSpace) -> Dict[str, int]:
    """Parameters, multiply-adds and connections of a supernet, λ included."""
    cost = count(Architecture.complete(space))
    return {
        "parameters": cost.parameters + count_lambdas(space),
        "multiply_adds": cost.multiply_adds,
        "connections": space.num_connections,
    }


def planned_mb(space: SearchSpace, batch_size: int) -> float:
    """MB of a search step on each device, by the plan of recomputation."""
    from dsonas_mx.engine.graph import TrainGraph
    from dsonas_mx.training.loss import cross_entropy

    from symbols import get_model

    net = get_model("dsonas", space=space, weighted=True)
    shape = (batch_size, space.in_channels, space.image_size, space.image_size)
    return TrainGraph(net, cross_entropy, shape, shape[:1], [mx.cpu()], "least").footprint.total


def one_table(number: str, results: Path) -> Dict[str, Any]:
    table = read_paper()[number]
    rows = table["runs"]
    runs = {scale: load_results(results, number, scale) for scale in ("paper", "small")}
    compared = []
    for row in table["rows"]:
        name = row["name"]
        cells: Dict[str, Any] = {
            "name": name,
            "paper": {column["key"]: row[column["key"]] for column in table["columns"]},
            "exact": exact_of(number, name),
            "paper_scale": found(runs["paper"], rows.get(name)),
            "small": found(runs["small"], rows.get(name)),
            "command": command(number, name),
        }
        compared.append(cells)
    notes = table["notes"]
    if any(row["small"] for row in compared):
        notes = [*notes, f"Small scale here: {runs['small'].get('description')}."]
    return {**table, "number": number, "notes": notes, "rows": compared}


def exact_of(number: str, name: str) -> Optional[str]:
    """What can be said of a row without a run."""
    if name in BASELINES:
        return sizes(cost_of(BASELINES[name]))
    network = MANUAL.get(re.split(r"[\[†*]", name)[0].strip())
    if number in ("2", "3", "5") and network:
        return cost_of_published(network)
    if name in SEGMENTATION:
        return cost_of_segmentation(SEGMENTATION[name])
    if name in MOBILE:
        supernet = MobileArchitecture.complete(MobileSpace.skeleton(MOBILE[name]))
        return f"supernet without λ: {sizes(count_network(supernet))}"
    space = space_of(number, name)
    if space is None:
        return None
    if name.startswith("full network"):
        net = fit_width(Architecture.complete(space), Target("parameters", 3e6, parameters))
        return f"{sizes(count(net))}, width {net.space.width}, {net.num_connections:,} connections"
    size = Cost(**exact(space))
    return f"supernet: {sizes(size)}, {size.connections:,} connections"


def sizes(cost: Cost) -> str:
    """For people."""
    return f"{cost.parameters:,} parameters, {cost.multiply_adds:,} multiply-adds"


@lru_cache(maxsize=None)
def cost_of_published(name: str) -> str:
    """Of one of `symbols.published.NETWORKS`, which takes seconds to trace."""
    return sizes(count_traced(published.NETWORKS[name].build(), published.SIDE))


def cost_of_segmentation(model: Optional[str]) -> str:
    """Of a MobileNet under DeepLabv3's head, or of the supernet, for an image of 513×513."""
    space = voc_space()
    net = deeplab(model or Architecture.complete(space), space.num_classes, weighted=not model)
    return ("" if model else "supernet: ") + sizes(count_traced(net, space.image_size))


def space_of(number: str, name: str) -> Optional[SearchSpace]:
    """The search space of one of our rows."""
    scope = "full" if "full" in name and "network" not in name else "share"
    if number in ("1", "6", "7") and (name.startswith(("DSO", "full")) or number != "1"):
        return replace(SearchSpace.cifar10(), scope=scope)
    if number in ("2", "5") and name.startswith("DSO") and "†" not in name:
        return replace(SearchSpace.imagenet(), scope=scope)
    if number == "8":
        return SearchSpace.cifar10(levels=int(name[-1]))
    if number == "9":
        kept = LISTED[: int(name[-1])]
        return SearchSpace.cifar10(operations=tuple(o for o in OPERATIONS if o in kept))
    return None


def load_results(folder: Path, number: str, scale: str) -> Dict[str, Any]:
    path = folder / f"{read_paper()[number]['experiment']}_{scale}.json"
    return read_json(path) if path.is_file() else {"rows": {}}


def found(results: Dict[str, Any], name: Optional[str]) -> Optional[str]:
    """What the runs of a row gave."""
    row = results["rows"].get(name or "")
    if not row or not row["n"]:
        return None
    measure = results.get("measure", "test_error")
    shown = MEASURES[measure].replace("test ", "")
    parts = [f"{shown} {mean_std(row[measure], 100, 2)} %", f"n = {row['n']}"]
    parts += [
        f"{mean_std(row[key], 1, 0)} {key.replace('_', ' ')}"
        for key in ("parameters", "connections")
        if row.get(key)
    ]
    hours = (row.get("hours") or {}).get("search")
    if hours:
        parts.append(f"search {mean_std(hours, 1, 2)} hours")
    return ", ".join(parts)


def command(number: str, name: str) -> Optional[str]:
    """What would run a row at the paper's scale; None for the rows of others."""
    experiment = read_paper()[number]["experiment"]
    data = DATA.get(experiment, CIFAR)
    if (number, name) in SCRIPTS:
        return f"python train/{SCRIPTS[number, name]} {data}"
    row = read_paper()[number]["runs"].get(name)
    if row is None:
        return None
    return (
        f"python tools/run_experiment.py experiments/{experiment}.json --scale paper "
        f"--rows '{row}' {data}"
    )


# Text


def text(result: Dict[str, Any], options: argparse.Namespace) -> str:
    blocks: Blocks = [("Supernets", [], supernet_rows(result["supernets"]))]
    for table in result["tables"]:
        title = f"Table {table['number']}. {table['title']} ({table['data_set']})"
        blocks.append((title, table["notes"], table_rows(table)))
    form = options.format or ("text" if sys.stdout.isatty() else "markdown")
    return {"text": as_text, "markdown": markdown, "csv": as_csv, "html": as_html}[form](blocks)


def supernet_rows(supernets: List[Dict[str, Any]]) -> List[List[str]]:
    head = "supernet|parameters|release's|multiply-adds|connections|MB|paper's|release's".split("|")
    keys = "parameters release_parameters multiply_adds connections mb paper_mb release_mb".split()
    return [head] + [[row["name"], *(plain(row[key]) for key in keys)] for row in supernets]


def table_rows(table: Dict[str, Any]) -> List[List[str]]:
    columns = table["columns"]
    titles = [f"{c['title']}, {c['unit']}" if c["unit"] else c["title"] for c in columns]
    rows = [["paper's row", *titles, "exact here", "paper's scale here", "small scale here"]]
    for row in table["rows"]:
        not_run = f"not run: {row['command']}" if row["command"] else "–"
        small = row["small"] or ("not run" if row["command"] else "–")
        cells = [plain(row["paper"][column["key"]]) for column in columns]
        last = [row["exact"] or "–", row["paper_scale"] or not_run, small]
        rows.append([row["name"], *cells, *last])
    return rows


def plain(value: Any) -> str:
    """A value of the paper, for people."""
    if value is None:
        return "–"
    if isinstance(value, dict):
        digits = 2 if value["mean"] < 1000 else 0
        return f"{value['mean']:,.{digits}f} ± {value['std']:,.{digits}f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
    return str(value)


def as_text(blocks: Blocks) -> str:
    """A paragraph a row, within the terminal."""
    width = shutil.get_terminal_size().columns
    lines: List[str] = []
    for title, notes, (head, *rows) in blocks:
        for text in (title, *notes):
            lines += [*textwrap.wrap(text, width), ""]
        for row in rows:
            lines += textwrap.wrap(row[0], width)
            for name, cell in zip(head[1:], row[1:]):
                if cell != "–":
                    lines += textwrap.wrap(
                        f"{name}: {cell}",
                        width,
                        initial_indent="  ",
                        subsequent_indent="    ",
                        break_on_hyphens=False,
                    )
            lines.append("")
    return "\n".join(lines).rstrip()


def markdown(blocks: Blocks) -> str:
    lines: List[str] = []
    for title, notes, rows in blocks:
        lines += [f"## {title}", "", *(f"{note}  " for note in notes), *([""] if notes else [])]
        lines += [markdown_table(rows), ""]
    return "\n".join(lines).rstrip()


def as_csv(blocks: Blocks) -> str:
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    for title, _, rows in blocks:
        for row in rows:
            writer.writerow([title, *row])
    return output.getvalue().rstrip("\n")


def as_html(blocks: Blocks) -> str:
    parts = []
    for title, notes, rows in blocks:
        parts.append(f"<h2>{html.escape(title)}</h2>")
        parts += [f"<p>{html.escape(note)}</p>" for note in notes]
        parts.append(rows_of(rows))
    return "\n".join(parts)
