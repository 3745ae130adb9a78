"""Reads the results of runs: rows of tables, bands of distances, and curves."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from .runs import TABLES
from .settings import LEARNED

Results = dict[str, dict[int, dict]]  # by the run's name and seed


def load(folder: Path) -> Results:
    results: Results = {}
    for path in sorted(folder.glob("*-seed*.json")):
        result = json.loads(path.read_text())
        results.setdefault(result["run"], {})[result["seed"]] = result
    return results


def row(results: Results, letter: str, label: str) -> list[dict]:
    """The results of a table's row, of those of its seeds that have one."""
    name, seeds = TABLES[letter][label]
    return [results[name][seed] for seed in seeds if seed in results.get(name, {})]


def bands(runs: list[dict]) -> list[list[dict]]:
    """Each band of distances that has images, as a list over the runs."""
    return [list(b) for b in zip(*(r["bands"] for r in runs), strict=True) if b[0]["images"]]


def aps(runs: list[dict], task: str, kind: str = "ap") -> list[float]:
    """AP of each run. ``kind`` is "ap", "located" (for any class) or "chance"."""
    return [r[kind][task] for r in runs if task in r.get(kind, {})]


def learned(runs: list[dict]) -> list[bool]:
    """Whether each run learned what only the signal shows; see ``settings.LEARNED``."""
    return [result["right"] >= LEARNED for result in runs]


def hardest(result: dict) -> str:
    """The task whose AP decides: the last one of the model."""
    return list(result["ap"])[-1]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and range as text."""
    if not values:
        return "not run yet"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    low, high = min(values), max(values)
    return f"{mean(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def half_way(result: dict) -> float:
    """Iterations until half of the curve's last AP, interpolated linearly; 0 if that AP is 0."""
    task = hardest(result)
    points = [(0, 0.0), *((p["iteration"], p["ap"][task]) for p in result["curve"])]
    half = points[-1][1] / 2
    for (i0, a0), (i1, a1) in itertools.pairwise(points):
        if a1 >= half > a0:
            return i0 + (half - a0) / (a1 - a0) * (i1 - i0)
    return 0.0


def curve(runs: list[dict], read) -> tuple[list[int], list[list[float]]]:
    """Iterations at which every run has a point of its curve, and the runs' values there."""
    by_run = [{p["iteration"]: read(p) for p in result["curve"]} for result in runs]
    shared = sorted(set.intersection(*map(set, by_run))) if by_run else []
    return shared, [[values[i] for values in by_run] for i in shared]
