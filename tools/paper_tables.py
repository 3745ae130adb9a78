"""The paper's tables with measured columns: what each compares, and how it is written.

A finished run comes as the ``results`` of its summary.json, such as ``{"bbox/AP": 38.6}``, by the
row's name and the seed. All AP in percent.
"""

from collections.abc import Iterator
from pathlib import Path

import yaml
from tabulate import tabulate

from nl_detectron.model_zoo.index import shipped

TABLES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
TASKS = {"bbox": "Box AP", "segm": "Mask AP", "keypoints": "Keypoint AP"}
METRICS = ("AP", "AP50", "AP75")
PAPER = {"paper": "AP / 50 / 75", "kinetics": "Kinetics top-1, %"}  # by the index's key
NOTHING = "–"
Results = dict[str, dict[int, dict[str, float | None]]]  # row, seed, metric

GAIN = "The gain is a run's AP less that of its twin, the row without blocks, of the same seed."


def fill(table: dict, schedule: str, results: Results) -> list[dict]:
    """Each row's figures of the paper and of Detectron2, its measurements and its gain."""
    by_name = {row["name"]: row for row in table["rows"]}
    return [
        _filled(row, by_name.get(row.get("twin")), table, schedule, results)
        for row in table["rows"]
    ]


def _filled(row: dict, twin: dict | None, table: dict, schedule: str, results: Results) -> dict:
    runs = results.get(row["name"], {})
    others = results.get(twin["name"], {}) if twin else {}
    entry = _entry(row, schedule)
    published = entry.get("detectron2", {})
    tasks = {}
    for task in table["tasks"]:
        paper = _paper(table, entry, task)
        twins = _paper(table, _entry(twin, schedule), task) if twin else []
        pairs = [(_ap(run, task), _ap(others[s], task)) for s, run in runs.items() if s in others]
        tasks[task] = {
            "paper": paper,
            "paper_gain": round(paper[0] - twins[0], 1) if twins and paper else None,
            "detectron2": published.get(task),
            "measured": {m: spread([_ap(run, task, m) for run in runs.values()]) for m in METRICS},
            "gain": spread([a - b for a, b in pairs if None not in (a, b)]),
        }
    return {"name": row["name"], "twin": row.get("twin"), "tasks": tasks}


def _entry(row: dict, schedule: str) -> dict:
    """The model zoo's entry of a row; empty where it has none."""
    return shipped().get(f"{row['config']}_{schedule}", {})


def _paper(table: dict, entry: dict, task: str) -> list[float]:
    """The paper's figures for a task; those of Kinetics are the same for all."""
    figures = entry.get(table.get("paper", "paper"), {})
    return figures.get(task, []) if isinstance(figures, dict) else [figures]


def _ap(results: dict[str, float | None], task: str, metric: str = "AP") -> float | None:
    """None: not evaluated. A model that finds nothing has NaN of Detectron2 (here null), and 0."""
    key = f"{task}/{metric}"
    return (results[key] or 0.0) if key in results else None


def spread(values: list[float | None]) -> dict | None:
    """Mean and range; None of no values."""
    values = [v for v in values if v is not None]
    if not values:
        return None
    mean = sum(values) / len(values)
    return {"mean": mean, "min": min(values), "max": max(values), "runs": len(values)}


def markdown(table: dict, rows: list[dict], conditions: str) -> str:
    """A section a task, below what the runs have in common."""
    parts = [f"# {table['title']}", conditions, f"{GAIN} {table['note']}"]
    for task in table["tasks"]:
        label = f"paper: {PAPER[table.get('paper', 'paper')]}"
        heads = ["", label, "paper's gain", "Detectron2: AP", *METRICS, "gain over twin", "runs"]
        body = [list(_cells(row["name"], row["tasks"][task])) for row in rows]
        aligned = ("left", *("right",) * (len(heads) - 1))
        shown = tabulate(body, heads, "pipe", colalign=aligned, disable_numparse=True)
        parts += [f"## {TASKS[task]}", shown]
    return "\n\n".join(parts) + "\n"


def _cells(name: str, figures: dict) -> Iterator[str]:
    yield name
    yield " / ".join(f"{v:.1f}" for v in figures["paper"]) or NOTHING
    yield _shown(figures["paper_gain"], "+")
    yield _shown(figures["detectron2"])
    for metric in METRICS:
        yield _range(figures["measured"][metric])
    yield _range(figures["gain"], "+")
    found = figures["measured"]["AP"]
    yield str(found["runs"]) if found else "0"


def _shown(value: float | None, sign: str = "") -> str:
    return NOTHING if value is None else f"{round(value, 1) + 0.0:{sign}.1f}"  # no -0.0


def _range(found: dict | None, sign: str = "") -> str:
    """Mean (min to max); of one run, its value."""
    if found is None:
        return NOTHING
    mean, low, high = (_shown(found[key], sign) for key in ("mean", "min", "max"))
    return mean if found["runs"] == 1 else f"{mean} ({low} to {high})"
