"""The paper's tables with measured columns: what each compares, and how it is written.

The results of a finished run are those of its summary.json, such as ``{"bbox/AP": 38.6}``. All AP
and accuracies are in percent.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from ..model_zoo.index import shipped

Table = dict[str, Any]  # as paper_tables.yaml describes it
Row = dict[str, Any]
RunResults = Mapping[str, float | None]  # by metric
Results = Mapping[str, Mapping[int, RunResults]]  # by the row's name and the seed
Spread = dict[str, float]  # mean, min, max and the number of runs

TABLES: dict[str, Table] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
TASKS = {
    "bbox": "Box AP",
    "segm": "Mask AP",
    "keypoints": "Keypoint AP",
    "video": "Accuracy",
    "multi_label": "Mean AP",
}
# by task, the results' key of each metric; the first one is what is compared
METRICS = {
    task: {metric: f"{task}/{metric}" for metric in ("AP", "AP50", "AP75")}
    for task in ("bbox", "segm", "keypoints")
}
METRICS["video"] = {"top-1": "video/top1", "top-5": "video/top5"}
METRICS["multi_label"] = {"mAP": "video/mAP"}
PAPER = {"video": "top-1 / top-5", "multi_label": "mAP"}  # by task; of the others:
PAPER_AP = {"paper": "AP / 50 / 75", "kinetics": "Kinetics top-1, %"}  # by the index's key
NOTHING = "–"


def fill_table(table: Table, schedule: str, results: Results) -> list[Row]:
    """Each row's figures of the paper and of others, its measurements and its gain.

    Args:
        table: one of ``TABLES``.
        schedule: 1x or 3x; "" for a table without schedules.
        results: of the finished runs.
    """
    by_name = {row["name"]: row for row in table["rows"]}
    return [
        _fill_row(row, by_name.get(row.get("twin")), table, schedule, results)
        for row in table["rows"]
    ]


def _fill_row(row: Row, twin: Row | None, table: Table, schedule: str, results: Results) -> Row:
    runs = results.get(row["name"], {})
    twin_runs = results.get(twin["name"], {}) if twin else {}
    entry = _find_entry(row, schedule)
    tasks = {}
    for task in table["tasks"]:
        metrics = METRICS[task]
        first = next(iter(metrics.values()))
        paper = _find_paper_figures(table, entry, task)
        twin_paper = _find_paper_figures(table, _find_entry(twin, schedule), task) if twin else []
        pairs = [
            (_find_value(run, first), _find_value(twin_runs[seed], first))
            for seed, run in runs.items()
            if seed in twin_runs
        ]
        tasks[task] = {
            "paper": paper,
            "paper_gain": round(paper[0] - twin_paper[0], 1) if twin_paper and paper else None,
            "detectron2": entry.get("detectron2", {}).get(task),
            "released": next(iter(entry.get("released", {}).get(task, [])), None),
            "measured": {
                metric: summarize_runs([_find_value(run, key) for run in runs.values()])
                for metric, key in metrics.items()
            },
            "gain": summarize_runs(
                [own - other for own, other in pairs if own is not None and other is not None]
            ),
        }
    return {"name": row["name"], "twin": row.get("twin"), "tasks": tasks}


def _find_entry(row: Row, schedule: str) -> dict[str, Any]:
    """The model zoo's entry of a row; empty where it has none."""
    return shipped().get("_".join(filter(None, [row["config"], schedule])), {})


def _find_paper_figures(table: Table, entry: dict[str, Any], task: str) -> list[float]:
    """The paper's figures for a task; those of Kinetics are the same for all."""
    figures = entry.get(table.get("paper", "paper"), {})
    return figures.get(task, []) if isinstance(figures, dict) else [figures]


def _find_value(results: RunResults, key: str) -> float | None:
    """A result; None if it was not evaluated.

    For a model that finds nothing Detectron2 has NaN, which summary.json has as null: an AP of 0.
    """
    return (results[key] or 0.0) if key in results else None


def summarize_runs(values: Sequence[float | None]) -> Spread | None:
    """Mean, range and number of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean = sum(known) / len(known)
    return {"mean": mean, "min": min(known), "max": max(known), "runs": len(known)}


def format_markdown(table: Table, rows: Sequence[Row], conditions: str) -> str:
    """A section for each task, below what the runs have in common."""
    metric = next(iter(METRICS[table["tasks"][0]]))
    gain = (
        f"The gain is a run's {metric} less that of its twin, the row without blocks, of the same "
        "seed."
    )
    parts = [f"# {table['title']}", conditions, f"{gain} {table['note']}"]
    for task in table["tasks"]:
        label = f"paper: {PAPER.get(task) or PAPER_AP[table.get('paper', 'paper')]}"
        metrics = list(METRICS[task])
        source, published = _published(task)
        heads = ["", label, "paper's gain", f"{source}: {metrics[0]}"]
        heads += [*metrics, "gain over twin", "runs"]
        body = [list(_format_cells(row["name"], row["tasks"][task], published)) for row in rows]
        aligned = ("left", *("right",) * (len(heads) - 1))
        shown = tabulate(body, heads, "pipe", colalign=aligned, disable_numparse=True)
        parts += [f"## {TASKS[task]}", shown]
    return "\n\n".join(parts) + "\n"


def _published(task: str) -> tuple[str, str]:
    """Who published figures besides the paper, and the key of a row's figures for it."""
    return ("released code", "released") if task in PAPER else ("Detectron2", "detectron2")


def _format_cells(name: str, figures: dict[str, Any], published: str) -> Iterator[str]:
    yield name
    yield " / ".join(f"{v:.1f}" for v in figures["paper"]) or NOTHING
    yield _format_value(figures["paper_gain"], "+")
    yield _format_value(figures[published])
    for found in figures["measured"].values():
        yield _format_spread(found)
    yield _format_spread(figures["gain"], "+")
    found = next(iter(figures["measured"].values()))
    yield str(found["runs"]) if found else "0"


def _format_value(value: float | None, sign: str = "") -> str:
    return NOTHING if value is None else f"{round(value, 1) + 0.0:{sign}.1f}"  # no -0.0


def _format_spread(found: Spread | None, sign: str = "") -> str:
    """Mean (min to max); of one run, its value."""
    if found is None:
        return NOTHING
    mean, low, high = (_format_value(found[key], sign) for key in ("mean", "min", "max"))
    return mean if found["runs"] == 1 else f"{mean} ({low} to {high})"
