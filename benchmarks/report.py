"""Tables and the growth plot, from the results alone: ``python -m benchmarks.report``."""

import argparse
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tabulate import tabulate

from . import summary

ROOT = Path(__file__).parent
NOTHING = "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of the JSON")
    parser.add_argument(
        "--output", type=Path, default=ROOT, help="folder of results.md, growth.png"
    )
    args = parser.parse_args()
    print(f"wrote {write(args.results, args.output)}")


def write(results: Path, output: Path) -> Path:
    """Of the benchmarks whose results are there, in the order of SECTIONS; and into the README
    the summary alone."""
    parts = [
        "# Results",
        "Made by `make bench-report`; [README.md](README.md) tells how to read it.",
    ]
    found = {
        n: json.loads(p.read_text()) for n in SECTIONS if (p := results / f"{n}.json").exists()
    }
    records = {name: result["records"] for name, result in found.items()}
    aims = markdown_table([line.cells for line in summary.lines(records)], summary.HEADS)
    parts.append(aims)
    for name, section in SECTIONS.items():
        if name in found:
            result = found[name]
            parts += [*filter(None, section(result["records"])), conditions(result)]
            if name == "growth":
                plot(result["records"], output / "growth.png")
                parts.append("![Time and memory against positions](growth.png)")
    target = output / "results.md"
    target.write_text("\n\n".join(parts) + "\n")
    readme = output / "README.md"
    if readme.exists():
        before, begin, rest = readme.read_text().partition("<!-- made by make bench-report -->\n")
        _, end, after = rest.partition("<!-- so far -->\n")
        readme.write_text(f"{before}{begin}\n{aims}\n\n{end}{after}")
    return target


def conditions(result: dict) -> str:
    about = result["machine"]
    packages = ("python", "torch", "torchvision", "mmcv-lite")
    versions = ", ".join(f"{p} {about[p]}" for p in packages if about.get(p))
    device = about["cpu"] if about["device"] == "CPU" else f"{about['device']}, {about['cpu']}"
    quick = " **Tiny shapes: these figures say nothing.**" if result["quick"] else ""
    return (
        f"_{device}, {about['threads']} threads of {about['cores']} cores; {versions}; "
        f"{result['took_seconds']:.0f} s in all._{quick}"
    )


def op(records: list[dict]) -> Iterable[str]:
    yield "## The sum alone"
    heads = ["", "dense", "forward", "times as fast", "dense", "forward", "takes"]
    for mode, rows in by_mode(records):
        yield f"**{mode}**: time, then peak extra memory"
        yield table(
            heads,
            rows,
            lambda r: [
                *times(r, "dense", "forward"),
                ratio(r, "forward"),
                *memory(r, "dense", "forward"),
                r["takes"],
            ],
        )
    yield kernels(records)


def block(records: list[dict]) -> Iterable[str]:
    yield "## The block, against mmcv's"
    ways = ["mmcv", "ours", "ours, before"]
    heads = ["", *ways, "ours: times as fast", "before: times as fast", *ways]
    for mode, rows in by_mode(records):
        yield f"**{mode}**: time, then peak extra memory"
        yield table(heads, rows, _block_row)
    yield reasons(records)


def _block_row(record: dict) -> list[str]:
    same = "after" if record["case"]["pooled"] else "none"
    ways = ("mmcv", same, "before")
    return [
        *times(record, *ways),
        ratio(record, same),
        ratio(record, "before"),
        *memory(record, *ways),
    ]


def convs(records: list[dict]) -> Iterable[str]:
    yield "## Convs that share an input, apart and as one"
    heads = ["", "apart", "as one", "times as fast"]
    for mode, rows in by_mode(records):
        yield f"**{mode}**"
        yield table(heads, rows, lambda r: [*times(r, "separate", "joint"), ratio(r, "joint")])


def limit(records: list[dict]) -> Iterable[str]:
    yield "## Distance from the limit"
    heads = ["", "time", "share of sgemm's rate", "dense's share", "done / counted", "takes"]
    for mode, rows in by_mode(records):
        yield f"**{mode}**"
        yield table(
            heads,
            rows,
            lambda r: [
                *times(r, "forward"),
                spread(r["share"]["forward"]),
                spread(r["share"]["dense"]),
                f"{r['macs']['done'] / r['macs']['forward']:.2f}",
                r["macs"]["takes"],
            ],
        )


def growth(records: list[dict]) -> Iterable[str]:
    yield "## Growth with positions"
    sizes = sorted({r["case"]["positions"] for r in records})
    for title, read, show in (
        ("time", _seconds, lambda r: duration(r["seconds"])),
        ("peak extra memory", _peak, lambda r: size(_peak(r))),
    ):
        rows = []
        for (form, way), curve in curves(records).items():
            at = {r["case"]["positions"]: show(r) for r in curve}
            k = exponent([r["case"]["positions"] for r in curve], [read(r) for r in curve])
            cells = [at.get(n, NOTHING) for n in sizes]
            rows.append([f"{form}, {way}", *cells, NOTHING if k is None else f"{k:.2f}"])
        yield f"**{title}**, forward, nothing pooled"
        yield markdown_table(rows, ["", *(f"{n:,}" for n in sizes), "exponent"])


def models(records: list[dict]) -> Iterable[str]:
    yield "## Whole models"
    heads = ["", "baseline", "non-local", "time added", "baseline", "non-local", "memory added"]
    rows = []
    for r in records:
        case = r["case"]
        cells = [NOTHING, NOTHING]
        if "ratio" in r:
            added = {k: f"{100 * (v - 1):+.0f} %" for k, v in r["ratio"]["baseline"].items()}
            peaks = r["peak_bytes"]
            cells = [
                f"{added['median']} ({added['q1']} to {added['q3']})",
                f"{100 * (peaks['nonlocal'] / peaks['baseline'] - 1):+.0f} %",
            ]
        ways = ("baseline", "nonlocal")
        size_of_image = f"{case['height']}x{case['width']}"
        name = ", ".join([case["model"], case["mode"], size_of_image, f"{case['weights']} weights"])
        rows.append([name, *times(r, *ways), cells[0], *memory(r, *ways), cells[1]])
    yield "Time, then peak extra memory."
    yield markdown_table(rows, heads)


def evaluation(records: list[dict]) -> Iterable[str]:
    yield "## Evaluation by COCO's metrics"
    heads = ["", "pycocotools", "faster-coco-eval", "times as fast", "largest difference"]
    rows = []
    for r in records:
        case = r["case"]
        name = "{task}, {images:,} images, {classes} classes, {detections} an image".format(**case)
        seconds = [f"{r['seconds'][way]:.1f} s" for way in heads[1:3]]
        rows.append([name, *seconds, f"{r['ratio']:.1f}", f"{r['difference']:.0e}"])
    yield markdown_table(rows, heads)
    versions = ", ".join(f"{way} {v}" for way, v in records[0]["versions"].items())
    yield f"Once each; the difference is of all precisions, recalls and scores. {versions}."


SECTIONS: dict[str, Callable[[list[dict]], Iterable[str]]] = {
    "models": models,
    "block": block,
    "convs": convs,
    "op": op,
    "growth": growth,
    "limit": limit,
    "evaluation": evaluation,
}


def by_mode(records: list[dict]) -> Iterable[tuple[str, list[dict]]]:
    for mode in dict.fromkeys(r["case"]["mode"] for r in records):
        yield mode, [r for r in records if r["case"]["mode"] == mode]


def table(heads: list[str], records: list[dict], row: Callable[[dict], list[str]]) -> str:
    return markdown_table([[label(r["case"]), *row(r)] for r in records], heads)


def markdown_table(rows: list[list[str]], heads: list[str]) -> str:
    return tabulate(rows, heads, tablefmt="pipe", disable_numparse=True)


def label(case: dict) -> str:
    return f"{case['shape']}, {'pooled' if case['pooled'] else 'all'}, {case['form']}"


def memory(record: dict, *ways: str) -> list[str]:
    found = record["peak_bytes"]
    return [size(found[way]) if way in found else NOTHING for way in ways]


def ratio(record: dict, way: str) -> str:
    found = record.get("ratio", {})
    return spread(found[way]) if way in found else NOTHING


def reasons(records: list[dict]) -> str:
    """What was left out, and why."""
    found: dict[str, list[str]] = {}
    for r in records:
        for way, why in r["refused"].items():
            found.setdefault(why, []).append(f"{way} {label(r['case'])}, {r['case']['mode']}")
    lines = [f"- {why}: {'; '.join(cases)}" for why, cases in found.items()]
    return "\n".join(["Left out:", "", *lines]) if lines else "Nothing was left out."


def kernels(records: list[dict]) -> str:
    """On a CUDA device: which fused attention ran, and where."""
    found: dict[str, list[str]] = {}
    for r in records:
        for name in r.get("kernels", {}).get("forward", ()):
            found.setdefault(name, []).append(f"{label(r['case'])}, {r['case']['mode']}")
    return "\n".join(f"- {name}: {'; '.join(cases)}" for name, cases in found.items())


def spread(values: dict[str, float]) -> str:
    return "{median:.2f} ({q1:.2f} to {q3:.2f})".format(**values)


def times(record: dict, *ways: str) -> list[str]:
    found = record.get("seconds", {})
    return [duration(found[way]) if way in found else NOTHING for way in ways]


def duration(values: dict[str, float]) -> str:
    unit, scale = ("s", 1) if values["median"] >= 1 else ("ms", 1000)
    median, q1, q3 = (f"{scale * values[k]:#.3g}".rstrip(".") for k in ("median", "q1", "q3"))
    return f"{median} ({q1} to {q3}) {unit}"


def size(value: float) -> str:
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"


def curves(records: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """By form and way, in order of positions."""
    found: dict[tuple[str, str], list[dict]] = {}
    for r in sorted(records, key=_positions):
        found.setdefault((r["case"]["form"], r["case"]["way"]), []).append(r)
    return found


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """k of values ~ sizes^k, by least squares of the logarithms; None for fewer than two points."""
    points = [(math.log(s), math.log(v)) for s, v in zip(sizes, values, strict=True) if v > 0]
    if len(points) < 2:
        return None
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return above / sum((x - mean_x) ** 2 for x, _ in points)


def _positions(record: dict) -> int:
    return record["case"]["positions"]


def _seconds(record: dict) -> float:
    return record["seconds"]["median"]


def _peak(record: dict) -> float:
    return record["peak_bytes"]


def plot(records: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    forms = list(dict.fromkeys(r["case"]["form"] for r in records))
    for axis, read, title in zip(
        axes, (_seconds, _peak), ("seconds", "peak extra bytes"), strict=True
    ):
        for (form, way), curve in curves(records).items():
            axis.loglog(
                [_positions(r) for r in curve],
                [read(r) for r in curve],
                color=f"C{forms.index(form)}",
                linestyle="-" if way == "forward" else ":",
                marker="o" if way == "forward" else "x",
                label=f"{form}, {way}",
            )
        axis.set(xlabel="positions (N = M)", title=title)
        ticks = sorted({_positions(r) for r in records})
        axis.set_xticks(ticks, [f"{n:,}" for n in ticks], fontsize=8)
        axis.set_xticks([], minor=True)  # their labels would overlap
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
