"""What runs recorded in metrics.json: values by iteration, and curves over several runs."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ..errors import UsageError

TASKS = ("keypoints/AP", "segm/AP", "bbox/AP")  # the hardest first
# of videos those of one view, which evaluations in training and at its end have in common
VIDEO_TASKS = ("video/mAP_1view", "video/top1_1view")
Records = dict[int, dict[str, Any]]  # of a run, by iteration
Groups = Mapping[str, Sequence[Records]]  # the records of all runs, by group


@dataclass(frozen=True)
class Curve:
    """The values of several runs: a row of ``values``, one for each run, for each iteration."""

    iterations: list[int]
    values: list[list[float]]


def load_records(
    groups: Mapping[str, Sequence[Path]], say: Callable[[str], None] = print
) -> dict[str, list[Records]]:
    """The records of all runs that have some, by group; a run that has just begun has none.

    Args:
        groups: the files by group.
        say: takes a line on each run that is left out.

    Raises:
        UsageError: no run has records.
    """
    found: dict[str, list[Records]] = {}
    for name, files in groups.items():
        for file in files:
            records = read_records(file)
            if records:
                found.setdefault(name, []).append(records)
            else:
                say(f"{file} has no records yet, and is left out")
    if not found:
        raise UsageError(
            "nothing to plot: no run has records yet; Detectron2 writes one every 20 iterations"
        )
    return found


def read_records(file: Path) -> Records:
    """A run's records in the order of iterations.

    Where a run was resumed or started again at an earlier iteration, what it had recorded from
    there on no longer counts. An evaluation's record may stand after that of a later iteration of
    training, as Detectron2 writes both at once, so only records of training tell that it went back.
    """
    records: Records = {}
    trained = -1  # up to which iteration
    for line in file.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
            iteration = int(record["iteration"])
        except (ValueError, KeyError, TypeError):  # cut off: it is being written, or was stopped
            continue
        if "total_loss" in record:
            if iteration <= trained:
                records = {i: kept for i, kept in records.items() if i < iteration}
            trained = iteration
        records.setdefault(iteration, {}).update(record)
    return dict(sorted(records.items()))


def smoothed_values(records: Records, key: str, smooth: int = 1) -> dict[int, float]:
    """A key's values by iteration, each the median of ``smooth`` records about it.

    NaN, the AP of a model that finds nothing, is left out.
    """
    numbers = {i: r[key] for i, r in records.items() if isinstance(r.get(key), int | float)}
    finite = {i: v for i, v in numbers.items() if math.isfinite(v)}
    values = list(finite.values())
    before, after = (smooth - 1) // 2, smooth // 2 + 1
    return {i: median(values[max(n - before, 0) : n + after]) for n, i in enumerate(finite)}


def common_curve(runs: Sequence[Records], key: str, smooth: int = 1) -> Curve:
    """The iterations at which all runs have a value: a mean of fewer would jump as one ends."""
    found = [smoothed_values(records, key, smooth) for records in runs]
    iterations = [i for i in found[0] if all(i in values for values in found)]
    return Curve(iterations, [[values[i] for values in found] for i in iterations])


def choose_metric(groups: Groups, say: Callable[[str], None] = print) -> str | None:
    """The AP of the hardest task that was evaluated, on the first of several test sets; of videos
    the accuracy, or the mAP, of one view.

    The order is keypoints, masks, boxes. ``say`` takes a line on the other test sets.
    """
    known = sorted(_recorded_keys(groups.values()))
    for task in (*TASKS, *VIDEO_TASKS):
        named = [key for key in known if key == task or key.endswith(f"/{task}")]
        if len(named) > 1:
            others = " or ".join(named[1:])
            say(f"several test sets: drawn is {named[0]}; --metric takes {others}, too")
        if named:
            return named[0]
    return None


def is_metric(key: str) -> bool:
    """Whether a recorded key is an AP, or an accuracy or mAP of videos."""
    return key.endswith("/AP") or "video" in key.split("/")


def check_key(key: str, groups: Groups, option: str, similar: Callable[[str], bool]) -> None:
    """Check that some run recorded a key.

    Args:
        key, groups: the key and the records.
        option: the command-line option that gave the key.
        similar: which of the recorded keys the message names.

    Raises:
        UsageError: no run did.
    """
    known = _recorded_keys(groups.values())
    if key not in known:
        names = ", ".join(sorted(filter(similar, known))) or "none"
        raise UsageError(f"{option} {key}: no run has recorded it; there are: {names}")


def _recorded_keys(groups: Iterable[Sequence[Records]]) -> set[str]:
    return {key for runs in groups for run in runs for record in run.values() for key in record}
