"""Growth of time and memory with the number of positions: curves, exponents and a plot."""

import math
from collections.abc import Sequence
from pathlib import Path


def curves(records: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """Records by form and way, each list in order of positions."""
    grouped: dict[tuple[str, str], list[dict]] = {}
    for r in sorted(records, key=read_positions):
        grouped.setdefault((r["case"]["form"], r["case"]["way"]), []).append(r)
    return grouped


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """k of values ~ sizes^k, a least-squares fit of logarithms; None for fewer than two points."""
    points = [(math.log(s), math.log(v)) for s, v in zip(sizes, values, strict=True) if v > 0]
    if len(points) < 2:
        return None
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return above / sum((x - mean_x) ** 2 for x, _ in points)


def read_positions(record: dict) -> int:
    return record["case"]["positions"]


def read_seconds(record: dict) -> float:
    return record["seconds"]["median"]


def read_peak(record: dict) -> float:
    return record["peak_bytes"]


def plot(records: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    forms = list(dict.fromkeys(r["case"]["form"] for r in records))
    for axis, read, title in zip(
        axes, (read_seconds, read_peak), ("seconds", "peak extra bytes"), strict=True
    ):
        for (form, way), curve in curves(records).items():
            axis.loglog(
                [read_positions(r) for r in curve],
                [read(r) for r in curve],
                color=f"C{forms.index(form)}",
                linestyle="-" if way == "forward" else ":",
                marker="o" if way == "forward" else "x",
                label=f"{form}, {way}",
            )
        axis.set(xlabel="positions (N = M)", title=title)
        ticks = sorted({read_positions(r) for r in records})
        axis.set_xticks(ticks, [f"{n:,}" for n in ticks], fontsize=8)
        axis.set_xticks([], minor=True)  # their labels would overlap
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
