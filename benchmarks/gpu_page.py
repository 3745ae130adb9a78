"""Makes docs/gpu.md from the stored results of gpu_proof."""

from collections.abc import Callable, Iterator, Sequence

from . import bench_gpu, bench_padding
from .attention_kernels import attention_backend
from .tables import NOTHING, conditions, duration, markdown_table, memory, ratio, times

NOT_YET = "not measured yet"
ABOUT = """\
`make gpu-proof` runs the tests that need a GPU and measures the tables below, in at most ten
minutes on one card and without a network. It writes `benchmarks/results/gpu_proof_CARD.json` and
this page, which has a section for each card.
Alternatives are timed in turns, ratios are taken within a turn, and figures are medians with
quartiles in brackets, as [benchmarks](../benchmarks/README.md) describes. Float32 convs and matrix
products use TF32, as in runs of `train_net.py`; fp16 and bf16 are autocast's. "Train" is a forward
and a backward pass."""
Columns = dict[str, Callable[[dict], str]]


def page(results: Sequence[dict]) -> str:
    """Markdown with a section for each card, or with empty tables if there are no results."""
    text = ["# On a GPU", ABOUT]
    for result in results or [{}]:
        text += section(result)
    return "\n\n".join(text) + "\n"


def section(result: dict) -> Iterator[str]:
    parts = result.get("parts", {})
    quick = result.get("quick", False)
    records = {name: part["records"] for name, part in parts.items()}
    yield f"## {result['machine']['device'] if result else 'No card yet'}"
    if result:
        yield conditions(result)
    for title, part, cases, columns in tables(quick):
        by_name = {name(record["case"]): record for record in records.get(part, [])}
        rows = [(label(case) or part, by_name.get(name(case))) for case in cases]
        table = [[head, *(cell(r, read) for read in columns.values())] for head, r in rows]
        yield f"### {title}"
        yield markdown_table(table, ["", *columns])
    yield "### What was skipped"
    yield "\n".join(skipped(parts)) if result else "Nothing was run yet."


def _speed(record: dict, way: str) -> str:
    """Seconds of a training step, or images per second of inference."""
    if record["case"]["mode"].startswith("train"):
        return times(record, way)[0]
    return f"{record['case']['images'] / record['seconds'][way]['median']:.1f} images/s"


def _later_calls(record: dict, way: str) -> str:
    """Duration of later calls. There are none if the first used up the budget."""
    first, later = record["first_seconds"][way], record["seconds"][way]
    return NOTHING if first == later else duration(later)


def _peak_ratio(peaks: dict[str, float]) -> str:
    return f"{peaks['nonlocal'] / peaks['baseline']:.3f}"


TESTS: Columns = {
    "tests": lambda r: str(r["tests"]),
    "failures": lambda r: str(r["failures"] + r["errors"]),
    "skipped": lambda r: str(r["skipped"]),
    "seconds": lambda r: f"{r['seconds']:.0f}",
}
DENSE_AND_FUSED: Columns = {
    "dense": lambda r: times(r, "tiled")[0],
    "fused": lambda r: times(r, "sdpa")[0],
    "dense / fused": lambda r: ratio(r, "sdpa"),
    "dense, peak": lambda r: memory(r, "tiled")[0],
    "fused, peak": lambda r: memory(r, "sdpa")[0],
    "fused kernels": lambda r: attention_backend(r["kernels"]["sdpa"]),
}
MODELS: Columns = {
    "twin": lambda r: _speed(r, "baseline"),
    "non-local": lambda r: _speed(r, "nonlocal"),
    "time over twin's": lambda r: ratio(r, "baseline"),
    "twin, peak": lambda r: memory(r, "baseline")[0],
    "non-local, peak": lambda r: memory(r, "nonlocal")[0],
    "peak over twin's": lambda r: _peak_ratio(r["peak_bytes"]),
}
RELAY: Columns = {
    "box AP": lambda r: f"{r['results']['box']:.1f}",
    "mask AP": lambda r: f"{r['results']['mask']:.1f}",
    "minutes": lambda r: f"{r['results']['minutes']:.1f}",
}
PADDING: Columns = {
    "off": lambda r: times(r, "off")[0],
    "on": lambda r: times(r, "on")[0],
    "on / off": lambda r: ratio(r, "off"),
}
CHANGING: Columns = {
    "dense, first": lambda r: duration(r["first_seconds"]["tiled"]),
    "dense, again": lambda r: _later_calls(r, "tiled"),
    "fused, first": lambda r: duration(r["first_seconds"]["sdpa"]),
    "fused, again": lambda r: _later_calls(r, "sdpa"),
}


def tables(quick: bool) -> Iterator[tuple[str, str, list[dict], Columns]]:
    """Title, part of gpu_proof, cases of the rows, and columns of each table."""
    block_cases = bench_gpu.block_cases
    rules = {"rules take": lambda r: r["takes"]}
    yield "Tests", "tests", [{}], TESTS
    yield "Whole models, two images", "models", bench_gpu.model_cases(quick), MODELS
    yield "The relay demo", "relay", [{}], RELAY
    yield "The sum, pooled", "blocks", block_cases("sum", quick), DENSE_AND_FUSED
    yield "The block", "blocks", block_cases("block", quick), {**DENSE_AND_FUSED, **rules}
    yield (
        "The block, mean over six changing shapes",
        "blocks",
        block_cases("changing", quick),
        CHANGING,
    )
    padding = bench_padding.cases(quick)
    yield "The block, MODEL.NONLOCAL.MASK_PADDING off and on", "padding", padding, PADDING
    yield "Several processes", "processes", [{}], TESTS


def cell(record: dict | None, read: Callable[[dict], str]) -> str:
    if record is None:
        return NOT_YET
    try:
        return read(record)
    except KeyError:  # the section of skipped parts has the reason
        return NOTHING


def skipped(parts: dict[str, dict]) -> Iterator[str]:
    """Parts that were stopped, comparisons that failed, and tests that did not pass."""
    lines = [f"- {title}: {part['stopped']}" for title, part in parts.items() if part["stopped"]]
    for title, part in parts.items():
        for record in part["records"]:
            refused = record.get("refused", {}).items()
            where = ", ".join(filter(None, [title, name(record["case"])]))
            lines += [f"- {where}, {way}: {why}" for way, why in refused]
            lines += [f"- {where}: {test} failed" for test in record.get("unsuccessful", ())]
    return iter(lines or ["Nothing."])


def label(case: dict) -> str:
    """Label of a case's row."""
    return ", ".join(case[key] for key in ("shape", "model", "form", "mode") if key in case)


def name(case: dict) -> str:
    """Name of a case, unique in its part; "" if it is the part's only case."""
    return f"{case['what']}, {label(case)}" if "what" in case else label(case)
