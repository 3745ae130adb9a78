#!/usr/bin/env python3
"""Draw training loss and validation AP over iterations, as the paper's Figure 4: kinds of runs
against each other, the mean of a kind's seeds and a band from the least to the most.

python tools/plot_curves.py output/relay_demo/relay_mask_rcnn output/relay_demo/relay_mask_rcnn_nl
"""

import argparse
import json
import math
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

METRICS = "metrics.json"
SEED = re.compile(r"seed[-_]?\d+")  # the folder of one of several runs of a kind
TASKS = ("keypoints/AP", "segm/AP", "bbox/AP")  # the hardest first
FORMATS = (".png", ".svg")
# Okabe and Ito's colours, told apart by those who see fewer, less the yellow, faint on white. As
# many dashes as have no divisor in common with them: no two of 35 kinds look alike.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("--", "-", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
MARKERS = "os^Dv"
Records = dict[int, dict]  # by iteration


class PlotError(ValueError):
    """Something the user can put right: its text is all that they need."""


@dataclass(frozen=True)
class Curve:
    """What the runs of a kind have in common: a row of ``values`` for each of ``iterations``."""

    iterations: list[int]
    values: list[list[float]]


def main(words: list[str] | None = None) -> None:
    args = parsed(words)
    files = outputs(args.output)
    kinds = recorded(grouped(args.runs, args.group))
    panels = {key: f"training {key}" for key in args.loss}
    for key in args.loss:
        check_key(key, kinds, "--loss", lambda key: "loss" in key)
    metric = args.metric or hardest(kinds)
    if args.metric:
        check_key(metric, kinds, "--metric", lambda key: key.endswith("/AP"))
    if metric:
        panels[metric] = f"validation {metric}, %"
    else:
        say("no run has evaluations, so there is no AP panel (TEST.EVAL_PERIOD asks for them)")
    figure = draw(kinds, panels, metric, args.smooth)
    for file in files:
        try:
            figure.savefig(file, dpi=150)
        except OSError as error:
            raise PlotError(f"--output {file}: it cannot be written ({error.strerror})") from error
        print(file)


def parsed(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=" ".join(__doc__.split("\n\n")[0].split()),
        epilog="Runs in NAME/seed1, NAME/seed2 and so on are seeds of NAME; NAME alone is all of "
        "them. A kind's curve ends with the first of its runs to end.",
    )
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="*", help="an OUTPUT_DIR, or its metrics.json")
    add("--group", metavar="NAME=RUN,RUN,...", action="append", default=[], help="seeds of NAME")
    add("--output", metavar="FILE", default="curves", help="curves.png, .svg, or curves: both")
    add("--loss", metavar="KEY", action="append", help="total_loss, loss_mask, ...; repeatable")
    add("--metric", metavar="KEY", help="segm/AP, ...; by default the hardest task's AP")
    add("--smooth", metavar="N", type=int, default=1, help="losses: the median of N records")
    args = parser.parse_args(words)
    args.loss = args.loss or ["total_loss"]
    if not (args.runs or args.group):
        raise PlotError("nothing to plot: give a RUN, the OUTPUT_DIR of a training, or --group")
    if args.smooth < 1:
        raise PlotError(f"--smooth: expected 1 (as it is) or more records, got {args.smooth}")
    return args


def outputs(path: str) -> list[Path]:
    file = Path(path)
    if file.suffix not in ("", *FORMATS) or not file.name:
        raise PlotError(f"--output {path}: expected a name in .png or .svg, or without: for both")
    if not file.parent.is_dir():
        raise PlotError(f"--output {path}: there is no folder {file.parent}; make it first")
    return [file] if file.suffix else [file.with_suffix(suffix) for suffix in FORMATS]


# --- which runs ------------------------------------------------------------------------------


def grouped(runs: list[str], groups: list[str]) -> dict[str, list[Path]]:
    """metrics.json of every run by the name of its kind, each once."""
    found: dict[Path, list[Path]] = {}  # by folder: others may have the same name
    for run in runs:
        for file in metrics_files(run):
            folder = file.parent if file.name == METRICS else file.with_suffix("")
            kind = folder.parent if SEED.fullmatch(folder.name) else folder
            found.setdefault(kind, []).append(file)
    named = {name: found[kind] for name, kind in short_names(list(found)).items()}
    for group in groups:
        name, _, members = group.partition("=")
        if not name or "" in members.split(","):
            raise PlotError(f"--group {group}: expected NAME=RUN,RUN,...")
        if name in named:
            raise PlotError(f"two kinds of runs are called {name!r}; give one another --group NAME")
        named[name] = [file for run in members.split(",") for file in metrics_files(run)]
    return {name: list(dict.fromkeys(files)) for name, files in named.items()}


def metrics_files(run: str) -> list[Path]:
    """Of a run, or of all seeds in a folder."""
    path = Path(os.path.abspath(run))  # "." has no name
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise PlotError(f"there is no run {run}; a RUN is the OUTPUT_DIR of a training")
    if (path / METRICS).is_file():
        return [path / METRICS]
    seeds = [f for f in path.glob(f"*/{METRICS}") if SEED.fullmatch(f.parent.name)]
    if not seeds:
        raise PlotError(
            f"{run} has no {METRICS}, nor folders seed1, seed2, ... that have one; Detectron2 "
            "writes it into OUTPUT_DIR as a training begins"
        )
    return sorted(seeds, key=lambda f: int(re.sub(r"\D", "", f.parent.name)))


def short_names(folders: list[Path]) -> dict[str, Path]:
    """Folders by as few of their last names as tell them apart."""
    for count in range(1, max((len(f.parts) for f in folders), default=0) + 1):
        names = {"/".join(f.parts[-count:]): f for f in folders}
        if len(names) == len(folders):
            return names
    return {}


# --- what they recorded ----------------------------------------------------------------------


def recorded(kinds: dict[str, list[Path]]) -> dict[str, list[Records]]:
    """Of the runs that have records: one that has just begun has none."""
    found: dict[str, list[Records]] = {}
    for name, files in kinds.items():
        for file in files:
            records = read(file)
            if records:
                found.setdefault(name, []).append(records)
            else:
                say(f"{file} has no records yet, and is left out")
    if not found:
        raise PlotError(
            "nothing to plot: no run has records yet; Detectron2 writes one every 20 iterations"
        )
    return found


def read(file: Path) -> Records:
    """A run's records, in order. One that was resumed, or begun again, has gone back: what it had
    recorded from there on no longer counts.

    An evaluation's record may well stand after that of a later iteration of training: Detectron2
    writes both at once. So only those of training tell that a run has gone back.
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


def series(records: Records, key: str, smooth: int = 1) -> dict[int, float]:
    """A key's values by iteration, each the median of those about it. NaN, the AP of a model that
    found nothing, is none."""
    numbers = {i: r[key] for i, r in records.items() if isinstance(r.get(key), int | float)}
    finite = {i: v for i, v in numbers.items() if math.isfinite(v)}
    values = list(finite.values())
    before, after = (smooth - 1) // 2, smooth // 2 + 1
    return {i: median(values[max(n - before, 0) : n + after]) for n, i in enumerate(finite)}


def curve(runs: list[Records], key: str, smooth: int = 1) -> Curve:
    """Where all runs have a value: a mean of fewer would jump as one ends."""
    found = [series(records, key, smooth) for records in runs]
    iterations = [i for i in found[0] if all(i in values for values in found)]
    return Curve(iterations, [[values[i] for values in found] for i in iterations])


def keys(kinds: dict[str, list[Records]]) -> set[str]:
    return {k for runs in kinds.values() for run in runs for record in run.values() for k in record}


def hardest(kinds: dict[str, list[Records]]) -> str | None:
    """The AP of keypoints, else masks, else boxes; of several test sets, of one."""
    there = sorted(keys(kinds))
    for task in TASKS:
        named = [key for key in there if key == task or key.endswith(f"/{task}")]
        if len(named) > 1:
            others = " or ".join(named[1:])
            say(f"several test sets: drawn is {named[0]}; --metric takes {others}, too")
        if named:
            return named[0]
    return None


def check_key(key: str, kinds: dict[str, list[Records]], option: str, like) -> None:
    there = keys(kinds)
    if key not in there:
        known = ", ".join(sorted(filter(like, there))) or "none"
        raise PlotError(f"{option} {key}: no run has recorded it; there are: {known}")


# --- the figure ------------------------------------------------------------------------------


def draw(
    kinds: dict[str, list[Records]], panels: dict[str, str], metric: str | None, smooth: int
) -> Figure:
    """A panel for each key, titled on its axis; the metric's with a marker for each evaluation."""
    columns = len(panels) if len(panels) <= 3 else math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(1 + 4.5 * columns, 0.8 + 3.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    end = 1.03 * max(i for runs in kinds.values() for run in runs for i in run)
    shown = {}  # one entry of the legend for each kind
    for key, label in panels.items():
        axis = next(axes)
        for number, (name, runs) in enumerate(kinds.items()):
            found = curve(runs, key, 1 if key == metric else smooth)
            if not found.iterations:
                say(f"{name} is not in the panel of {key}: at no iteration do all its runs have it")
                continue
            last = max(i for run in runs for i in series(run, key))
            if found.iterations[-1] < last:
                say(
                    f"{name}: {key} to iteration {found.iterations[-1]:,}, where its first run "
                    f"ends; its last ends at {last:,}"
                )
            line = plot(axis, number, found, marked=key == metric or len(found.iterations) == 1)
            shown.setdefault(f"{name} ({len(runs)})", line)
        smoothed = f", median of {smooth} records" if smooth > 1 and key != metric else ""
        axis.set(xlabel="iteration", ylabel=f"{label}{smoothed}", xlim=(0, end))
        axis.grid(alpha=0.3)
    for axis in axes:
        axis.axis("off")
    if not shown:
        raise PlotError(f"nothing to plot: no kind's runs have {', '.join(panels)} in common")
    figure.legend(
        shown.values(),
        shown.keys(),
        loc="outside lower center",
        ncols=columns,
        title="mean and range (number of runs)",
        handlelength=4,  # as long as the longest dash takes
    )
    return figure


def plot(axis, number: int, found: Curve, marked: bool):
    """Returns the line."""
    colour = COLOURS[number % len(COLOURS)]
    means = [sum(values) / len(values) for values in found.values]
    [line] = axis.plot(
        found.iterations,
        means,
        color=colour,
        ls=DASHES[number % len(DASHES)],
        marker=MARKERS[number % len(MARKERS)] if marked else None,
        ms=4,
    )
    low, high = [min(v) for v in found.values], [max(v) for v in found.values]
    axis.fill_between(found.iterations, low, high, color=colour, alpha=0.2, lw=0)
    return line


def say(note: str) -> None:
    print(f"plot_curves.py: {note}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except PlotError as error:
        sys.exit(f"plot_curves.py: error: {error}")
