"""What an experiment gave: means over seeds, agreement of searches, comparisons, a table."""

import math
import statistics
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ..io.files import PathLike, read_json, write_json, write_text
from ..io.markdown import markdown_table
from ..space.mobile_architecture import load_architecture
from .agreement import agreement, read_searches
from .agreement import rows_of as agreement_rows
from .comparison import compare
from .experiment import COLUMNS, MEASURES, Experiment, Task
from .paper import paper_difference
from .runner import is_done, record_of

SIZES = ("parameters", "multiply_adds", "connections", "width")


def collect(experiment: Experiment, tasks: Sequence[Task]) -> Dict[str, Any]:
    """The results of all runs that are done, as ``results.json`` has them.

    Hours are wall clock, of the finished runs. Comparisons are paired, over the seeds that both
    rows have; `paper` is the difference that the paper has between its rows.
    """
    columns = experiment.columns
    runs = {row.name: _runs(row.name, tasks, columns) for row in experiment.rows}
    done = [task for task in tasks if is_done(task)]
    environments = [read_json(task.folder / "args.json")["environment"] for task in done]
    return {
        "name": experiment.name,
        "scale": experiment.scale,
        "description": experiment.description,
        "note": experiment.note,
        "measure": experiment.measure,
        **({"columns": list(columns)} if columns else {}),
        "rows": {
            name: _row(name, found, tasks, (experiment.measure, *SIZES, *columns))
            for name, found in runs.items()
        },
        "comparisons": {
            row.name: {
                "reference": row.reference,
                **_compare(runs[row.reference], runs[row.name], experiment.measure),
                "paper": paper_difference(experiment.name, row.reference, row.name),
            }
            for row in experiment.rows
            if row.reference is not None
        },
        "commits": _unique(environments, "commit"),
        "machines": _unique(environments, "machine"),
        "hours": sum(record_of(task)["hours"] for task in done),
        "runs_done": len(done),
        "runs": len(tasks),
    }


def _runs(row: str, tasks: Sequence[Task], columns: Sequence[str]) -> Dict[int, Dict[str, float]]:
    """The measures of a row's finished trainings, by seed."""
    runs = {}
    for task in tasks:
        if task.row == row and task.stage == "train" and not task.chooses and is_done(task):
            result = read_json(task.folder / "result.json")
            runs[task.seed] = result
            path = task.folder / "architecture.json"
            if path.is_file():  # a baseline has none
                found: Any = load_architecture(path)
                figures = {name: COLUMNS[name].of(found) for name in columns}
                runs[task.seed] = {**result, "width": found.space.width, **figures}
    return runs


def _row(
    name: str,
    runs: Mapping[int, Mapping[str, float]],
    tasks: Sequence[Task],
    measures: Sequence[str],
) -> Dict[str, Any]:
    own = [task for task in tasks if task.row == name]
    searched = [task.folder for task in own if task.stage == "search" and is_done(task)]
    return {
        "n": len(runs),
        "seeds": list(runs),
        **{
            name: summary([run[name] for run in runs.values() if name in run])
            for name in dict.fromkeys(measures)
        },
        "hours": _hours(own, "hours"),
        "processor_hours": _hours(own, "processor_hours"),
        "agreement": agreement(read_searches(searched)),
        "options": {_work(task): {**task.options, "seed": None} for task in own},
        "missing": sorted({task.seed for task in own if not is_done(task)}),
        "failed": sorted({t.seed for t in own if record_of(t).get("status") == "failed"}),
    }


def _work(task: Task) -> str:
    """Its stage; candidates are a search, too."""
    return "search" if task.chooses else task.stage


def _hours(tasks: Sequence[Task], name: str) -> Dict[str, Optional[Dict[str, Any]]]:
    """Of each stage, over the seeds of which all of it is done; candidates of a seed add up."""
    hours: Dict[str, Optional[Dict[str, Any]]] = {}
    for stage in dict.fromkeys(map(_work, tasks)):
        seeds: Dict[int, List[Task]] = {}
        for task in tasks:
            if _work(task) == stage:
                seeds.setdefault(task.seed, []).append(task)
        sums = [
            sum(record_of(task).get(name, math.nan) for task in of_seed)
            for of_seed in seeds.values()
            if all(map(is_done, of_seed))
        ]
        hours[stage] = summary([hour for hour in sums if not math.isnan(hour)])
    return hours


def summary(values: Sequence[float]) -> Optional[Dict[str, Any]]:
    """Mean, standard deviation (n − 1; None for one value) and the values; None without any."""
    if not values:
        return None
    std = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": std, "values": list(values)}


def _compare(
    reference: Mapping[int, Mapping[str, float]],
    other: Mapping[int, Mapping[str, float]],
    measure: str,
) -> Dict[str, Any]:
    """How much larger measure and size of the other row are, seed by seed."""
    seeds = [seed for seed in reference if seed in other]
    differences = [other[s][measure] - reference[s][measure] for s in seeds]
    sizes = [other[s]["parameters"] / reference[s]["parameters"] - 1 for s in seeds]
    return {
        "n": len(seeds),
        "seeds": seeds,
        difference_of(measure): summary(differences),
        "parameters_difference": summary(sizes),
        **compare(differences),
    }


def difference_of(measure: str) -> str:
    """What a comparison calls it: ``error_difference`` of ``test_error``."""
    return f"{measure.split('_')[-1]}_difference"


def _unique(environments: Sequence[Mapping[str, Any]], name: str) -> List[str]:
    return sorted({str(environment[name]) for environment in environments})


def write(results: Mapping[str, Any], out: Path, docs: Optional[PathLike] = None) -> str:
    """Write ``results.json`` into the folder of an experiment, and NAME_SCALE.json and the table,
    which is returned, into that of documents if there is one.
    """
    write_json(out / "results.json", results)
    shown = table(results)
    if docs:
        path = Path(docs) / f"{results['name']}_{results['scale']}.json"
        write_json(path, results)
        write_text(path.with_suffix(".md"), shown)
    return shown


def table(results: Mapping[str, Any]) -> str:
    """The results in Markdown."""
    measure = results.get("measure", "test_error")
    parts = [
        f"**{results['name']}**, scale {results['scale']}: {results['description']}",
        results.get("note"),
        _table(_row_cells(measure, results.get("columns", ())), results["rows"]),
        results["comparisons"] and _table(_comparison_cells(measure), results["comparisons"]),
    ]
    searches = {name: row["agreement"] for name, row in results["rows"].items()}
    known = {name: found for name, found in searches.items() if found}
    done = f"{results['runs_done']} of {results['runs']} runs done"
    if results["runs_done"]:
        done += f", {results['hours']:.2f} hours of runs; {'; '.join(results['machines'])}"
        done += f"; commit {', '.join(results['commits'])}"
    parts += [known and markdown_table(agreement_rows(known)), f"{done}."]
    return "\n\n".join(part for part in parts if part) + "\n"


_Cells = Dict[str, Callable[[Mapping[str, Any]], str]]  # by heading, what a row has there


def _table(cells: _Cells, rows: Mapping[str, Mapping[str, Any]]) -> str:
    found = [[name, *(cell(row) for cell in cells.values())] for name, row in rows.items()]
    return markdown_table([["", *cells], *found])


def _row_cells(measure: str, columns: Sequence[str]) -> _Cells:
    return {
        f"{MEASURES[measure]} %": _mean_of(measure, 100, 2),
        "n": lambda row: str(row["n"]),
        "parameters": _mean_of("parameters", 1, 0),
        "width": _mean_of("width", 1, 1),
        "connections": _mean_of("connections", 1, 1),
        **{
            one.heading: _mean_of(name, one.factor, one.digits)
            for name, one in ((name, COLUMNS[name]) for name in columns)
        },
        "search min": lambda row: mean_std(row["hours"].get("search"), 60, 1),
        "training min": lambda row: mean_std(row["hours"].get("train"), 60, 1),
        "processor min": _processor_minutes,
    }


def _comparison_cells(measure: str) -> _Cells:
    return {
        "against": lambda row: row["reference"],
        f"{MEASURES[measure].split()[-1]}, points": _mean_of(difference_of(measure), 100, 2, "+"),
        "95 % interval": _interval,
        "would be found": lambda row: _points(row["detectable"]).replace("+", "±"),
        "the paper's": lambda row: _points(row["paper"]),
        "parameters %": _mean_of("parameters_difference", 100, 1, "+"),
        "n": lambda row: str(row["n"]),
    }


def _mean_of(key: str, factor: float, digits: int, sign: str = "") -> Callable[[Any], str]:
    return lambda row: mean_std(row[key], factor, digits, sign)


def _processor_minutes(row: Mapping[str, Any]) -> str:
    hours = [hours for hours in row.get("processor_hours", {}).values() if hours]
    return ", ".join(mean_std(some, 60, 1) for some in hours) or "–"


def _interval(row: Mapping[str, Any]) -> str:
    known = row["low"] is not None
    return f"{_points(row['low'])} to {_points(row['high'])}" if known else "–"


def mean_std(
    values: Optional[Mapping[str, Any]], factor: float, digits: int, sign: str = ""
) -> str:
    """``mean ± std`` of a summary."""
    if values is None:
        return "–"
    mean = f"{factor * values['mean']:{sign},.{digits}f}"
    if values.get("std") is None:
        return mean
    return f"{mean} ± {factor * values['std']:,.{digits}f}"


def _points(value: Optional[float]) -> str:
    """A difference in percentage points."""
    return "–" if value is None else f"{100 * value:+.2f}"
