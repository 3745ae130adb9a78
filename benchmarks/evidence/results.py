"""Reading the results: of a table's row and its seeds, and what was reached when."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from .runs import TABLES
from .settings import LEARNED

Results = dict[str, dict[int, dict]]  # by the run's name and seed


def load(folder: Path) -> Results:
    found: Results = {}
    for path in sorted(folder.glob("*-seed*.json")):
        result = json.loads(path.read_text())
        found.setdefault(result["run"], {})[result["seed"]] = result
    return found


def row(results: Results, letter: str, label: str) -> list[dict]:
    """Those of a table's row that there are, of its own seeds."""
    name, seeds = TABLES[letter][label]
    return [results[name][seed] for seed in seeds if seed in results.get(name, {})]


def bands(found: list[dict]) -> list[list[dict]]:
    """Of Table F: each band that has images, in all the runs."""
    return [list(b) for b in zip(*(r["bands"] for r in found), strict=True) if b[0]["images"]]


def aps(found: list[dict], task: str, kind: str = "ap") -> list[float]:
    """Of ``kind`` "ap", or "located" whatever the class."""
    return [r[kind][task] for r in found if task in r.get(kind, {})]


def learned(found: list[dict]) -> list[bool]:
    """Whether each run learned what only a signal can tell: see ``settings.LEARNED``."""
    return [result["right"] >= LEARNED for result in found]


def hardest(result: dict) -> str:
    """The task whose AP counts, the last of those that a model has."""
    return list(result["ap"])[-1]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and range."""
    if not values:
        return "not run yet"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    low, high = min(values), max(values)
    return f"{mean(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def half_way(result: dict) -> float:
    """Iterations to half of the curve's last AP, between its points by a straight line; 0 where
    that is 0."""
    task = hardest(result)
    points = [(0, 0.0), *((p["iteration"], p["ap"][task]) for p in result["curve"])]
    half = points[-1][1] / 2
    for (i0, a0), (i1, a1) in itertools.pairwise(points):
        if a1 >= half > a0:
            return i0 + (half - a0) / (a1 - a0) * (i1 - i0)
    return 0.0


def curve(found: list[dict], read) -> tuple[list[int], list[list[float]]]:
    """Iterations that every run has looked at, and the runs' values there."""
    by_run = [{p["iteration"]: read(p) for p in result["curve"]} for result in found]
    shared = sorted(set.intersection(*map(set, by_run))) if by_run else []
    return shared, [[values[i] for values in by_run] for i in shared]
