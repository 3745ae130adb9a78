"""The two figures of docs/evidence.md: training curves, and AP against distance.

Lines are means over runs, and bands their ranges. Colours are Okabe and Ito's, which people with
colour blindness can distinguish; line styles differ too.
"""

from pathlib import Path

from .results import Results, aps, bands, curve, mean, row
from .runs import TABLES

CURVES, DISTANCE = "evidence_curves.png", "evidence_distance.png"
LEGEND = "mean and range (number of runs)"
STYLES = {
    "baseline": ("#D55E00", "--"),
    "control": ("#999999", ":"),
    "embedded_gaussian": ("#0072B2", "-"),
}
STAGES = {"res4": "#CC79A7", "res5": "#009E73"}


def draw(results: Results, folder: Path, reach: dict[str, float]) -> list[Path]:
    """Draw the figures that have at least one run; returns their files."""
    import matplotlib

    matplotlib.use("Agg")
    drawn = []
    for name, letter, plot in ((CURVES, "A", curves), (DISTANCE, "F", distance)):
        if any(row(results, letter, label) for label in TABLES[letter]):
            figure = plot(results, reach)
            figure.savefig(folder / name, dpi=110)
            drawn.append(folder / name)
    return drawn


def curves(results: Results, _: dict[str, float]):
    """Figure G: training loss and validation mask AP, at iterations that all runs of a row have."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    reads = {
        "training loss": lambda point: point["losses"]["total_loss"],
        "validation mask AP": lambda point: point["ap"]["mask"],
    }
    for axis, (title, read) in zip(axes, reads.items(), strict=True):
        for label in STYLES:
            iterations, values = curve(row(results, "A", label), read)
            _draw_line(axis, label, iterations, values)
        axis.set(xlabel="iteration", title=title)
    lines = axes[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=3, title=LEGEND)
    return figure


def distance(results: Results, reach: dict[str, float]):
    """Figure F: mask AP by distance, and the reach of the baseline's stages in pixels."""
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for label in TABLES["F"]:
        runs = row(results, "F", label)
        by_band = bands(runs)
        middles = [(b[0]["from"] + b[0]["to"]) / 2 for b in by_band]
        _draw_line(axis, label, middles, [aps(b, "mask") for b in by_band])
        if label == "baseline" and runs:
            chance = [mean(aps(b, "mask", "chance")) for b in by_band]
            axis.plot(middles, chance, color="black", lw=1, ls=":", label="chance")
    for stage, pixels in reach.items():
        axis.axvline(pixels, color=STAGES[stage], ls="-.", label=f"{stage}'s receptive field ends")
    axis.set(xlabel="pixels between object and signal", ylabel="mask AP", ylim=(0, 100))
    figure.legend(loc="outside right center", title=LEGEND)
    return figure


def _draw_line(axis, label: str, x: list, values: list[list[float]]) -> None:
    if not x:
        return
    colour, style = STYLES[label]
    means = [mean(v) for v in values]
    named = f"{label} ({len(values[0])})"
    axis.plot(x, means, color=colour, ls=style, marker="o", ms=3, label=named)
    axis.fill_between(
        x, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.2
    )
    axis.grid(alpha=0.3)
