"""Sections of the report, one for each benchmark."""

from collections.abc import Callable, Iterable

from .growth import curves, exponent, read_peak, read_seconds
from .tables import (
    NOTHING,
    duration,
    kernels,
    markdown_table,
    memory,
    ratio,
    reasons,
    size,
    spread,
    table,
    times,
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
    yield "## Convs that share an input, separate and joint"
    heads = ["", "separate", "joint", "times as fast"]
    for mode, rows in by_mode(records):
        yield f"**{mode}**"
        yield table(heads, rows, lambda r: [*times(r, "separate", "joint"), ratio(r, "joint")])


def limit(records: list[dict]) -> Iterable[str]:
    yield "## Distance from the limit"
    heads = ["", "time", "share of sgemm's rate", "dense's share", "computed / counted", "takes"]
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
        ("time", read_seconds, lambda r: duration(r["seconds"])),
        ("peak extra memory", read_peak, lambda r: size(read_peak(r))),
    ):
        rows = []
        for (form, way), curve in curves(records).items():
            at = {r["case"]["positions"]: show(r) for r in curve}
            k = exponent([r["case"]["positions"] for r in curve], [read(r) for r in curve])
            cells = [at.get(n, NOTHING) for n in sizes]
            rows.append([f"{form}, {way}", *cells, NOTHING if k is None else f"{k:.2f}"])
        yield f"**{title}**, forward, unpooled"
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
        name = "{task}, {images:,} images, {classes} classes, {detections} per image".format(**case)
        seconds = [f"{r['seconds'][way]:.1f} s" for way in heads[1:3]]
        rows.append([name, *seconds, f"{r['ratio']:.1f}", f"{r['difference']:.0e}"])
    yield markdown_table(rows, heads)
    versions = ", ".join(f"{way} {v}" for way, v in records[0]["versions"].items())
    yield f"Each ran once. The difference is over all precisions, recalls and scores. {versions}."


def video(records: list[dict]) -> Iterable[str]:
    yield "## Video: blocks and a C2D, against the plain formula and other projects'"
    heads = ["", "theirs", "ours", "ours: times as fast", "theirs", "ours"]
    for mode, of_mode in by_mode(records):
        yield f"**{mode}**: time, then peak extra memory"
        rows = []
        for r in of_mode:
            case, ways = r["case"], (r["case"]["peer"], "ours")
            what = case.get("model") or f"{case['shape']} of 32x2, {case['form']}"
            name = f"{what}, {case['peer']}"
            rows.append([name, *times(r, *ways), ratio(r, "ours"), *memory(r, *ways)])
        yield markdown_table(rows, heads)


SECTIONS: dict[str, Callable[[list[dict]], Iterable[str]]] = {
    "models": models,
    "block": block,
    "convs": convs,
    "op": op,
    "growth": growth,
    "limit": limit,
    "evaluation": evaluation,
    "video": video,
}


def by_mode(records: list[dict]) -> Iterable[tuple[str, list[dict]]]:
    """Each mode with its records."""
    for mode in dict.fromkeys(r["case"]["mode"] for r in records):
        yield mode, [r for r in records if r["case"]["mode"] == mode]
