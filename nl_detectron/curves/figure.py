"""The figure: a panel for each loss and metric, the mean and range of each group's runs."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..errors import UsageError
from .records import (
    Curve,
    Groups,
    check_key,
    choose_metric,
    common_curve,
    is_metric,
    smoothed_values,
)

FORMATS = (".png", ".svg")
# Okabe and Ito's colours, which people with colour-blindness can tell apart, without the yellow,
# which is faint on white. The number of dashes has no divisor in common with theirs, so that no two
# of 35 groups look alike.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("--", "-", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
MARKERS = "os^Dv"


def output_files(path: str) -> list[Path]:
    """The files that ``--output`` asks for; both formats where it names none.

    Raises:
        UsageError: another format, or a folder that does not exist.
    """
    file = Path(path)
    if file.suffix not in ("", *FORMATS) or not file.name:
        raise UsageError(f"--output {path}: expected a name in .png or .svg, or without: for both")
    if not file.parent.is_dir():
        raise UsageError(f"--output {path}: there is no folder {file.parent}; make it first")
    return [file] if file.suffix else [file.with_suffix(suffix) for suffix in FORMATS]


def save_figure(figure: Figure, file: Path) -> None:
    """Raises UsageError if the file cannot be written."""
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise UsageError(f"--output {file}: it cannot be written ({error.strerror})") from error


def draw_curves(
    groups: Groups,
    losses: Sequence[str],
    metric: str | None = None,
    smooth: int = 1,
    say: Callable[[str], None] = print,
) -> Figure:
    """Draw losses and an AP, or the accuracy of videos, over iterations, as the paper's Figure 4.

    Args:
        groups: the records of all runs, by group.
        losses: keys such as total_loss.
        metric: a key such as segm/AP; by default that of :func:`choose_metric`.
        smooth: losses are the median of this many records.
        say: takes a line on what is not drawn.

    Raises:
        UsageError: a key that no run recorded, or runs with nothing in common.
    """
    panels = {key: f"training {key}" for key in losses}
    for key in losses:
        check_key(key, groups, "--loss", lambda known: "loss" in known or "accuracy" in known)
    if metric:
        check_key(metric, groups, "--metric", is_metric)
    else:
        metric = choose_metric(groups, say)
    if metric:
        panels[metric] = f"validation {metric}, %"
        runs = [run for group in groups.values() for run in group]
        if all(len(smoothed_values(run, metric)) < 2 for run in runs):
            say(f"{metric} is a point, not a curve: each run was evaluated once (TEST.EVAL_PERIOD)")
    else:
        say("no run has evaluations, so there is no AP panel (TEST.EVAL_PERIOD asks for them)")
    return draw_panels(groups, panels, metric, smooth, say)


def draw_panels(
    groups: Groups,
    panels: dict[str, str],
    metric: str | None,
    smooth: int = 1,
    say: Callable[[str], None] = print,
) -> Figure:
    """Draw a panel for each key, its label on the y axis.

    The panel of ``metric`` has a marker for each evaluation and is not smoothed.
    """
    columns = len(panels) if len(panels) <= 3 else math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(1 + 4.5 * columns, 0.8 + 3.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    end = 1.03 * max(i for runs in groups.values() for run in runs for i in run)
    legend: dict[str, Line2D] = {}  # one entry for each group
    for key, label in panels.items():
        axis = next(axes)
        for number, (name, runs) in enumerate(groups.items()):
            found = common_curve(runs, key, 1 if key == metric else smooth)
            if not found.iterations:
                say(f"{name} is not in the panel of {key}: at no iteration do all its runs have it")
                continue
            last = max(i for run in runs for i in smoothed_values(run, key))
            if found.iterations[-1] < last:
                say(
                    f"{name}: {key} to iteration {found.iterations[-1]:,}, where its first run "
                    f"ends; its last ends at {last:,}"
                )
            marked = key == metric or len(found.iterations) == 1
            legend.setdefault(f"{name} ({len(runs)})", _plot_curve(axis, number, found, marked))
        smoothed = f", median of {smooth} records" if smooth > 1 and key != metric else ""
        axis.set(xlabel="iteration", ylabel=f"{label}{smoothed}", xlim=(0, end))
        axis.grid(alpha=0.3)
    for axis in axes:
        axis.axis("off")
    if not legend:
        raise UsageError(f"nothing to plot: no kind's runs have {', '.join(panels)} in common")
    figure.legend(
        legend.values(),
        legend.keys(),
        loc="outside lower center",
        ncols=columns,
        title="mean and range (number of runs)",
        handlelength=4,  # as long as the longest dash takes
    )
    return figure


def _plot_curve(axis: Axes, number: int, found: Curve, marked: bool) -> Line2D:
    """Draw the mean as a line, which is returned, and the range as a band."""
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
