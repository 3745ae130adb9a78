"""Cells and tables of the report, from records."""

from collections.abc import Callable

from tabulate import tabulate

NOTHING = "–"


def table(heads: list[str], records: list[dict], row: Callable[[dict], list[str]]) -> str:
    return markdown_table([[label(r["case"]), *row(r)] for r in records], heads)


def markdown_table(rows: list[list[str]], heads: list[str]) -> str:
    return tabulate(rows, heads, tablefmt="pipe", disable_numparse=True)


def label(case: dict) -> str:
    return f"{case['shape']}, {'pooled' if case['pooled'] else 'unpooled'}, {case['form']}"


def memory(record: dict, *ways: str) -> list[str]:
    peaks = record["peak_bytes"]
    return [size(peaks[way]) if way in peaks else NOTHING for way in ways]


def ratio(record: dict, way: str) -> str:
    ratios = record.get("ratio", {})
    return spread(ratios[way]) if way in ratios else NOTHING


def reasons(records: list[dict]) -> str:
    """The cases that were left out, by reason."""
    by_reason: dict[str, list[str]] = {}
    for r in records:
        for way, why in r["refused"].items():
            by_reason.setdefault(why, []).append(f"{way} {label(r['case'])}, {r['case']['mode']}")
    lines = [f"- {why}: {'; '.join(cases)}" for why, cases in by_reason.items()]
    return "\n".join(["Left out:", "", *lines]) if lines else "Nothing was left out."


def kernels(records: list[dict]) -> str:
    """Kernels of fused attention on a CUDA device, and the cases in which they ran."""
    by_kernel: dict[str, list[str]] = {}
    for r in records:
        for name in r.get("kernels", {}).get("forward", ()):
            by_kernel.setdefault(name, []).append(f"{label(r['case'])}, {r['case']['mode']}")
    return "\n".join(f"- {name}: {'; '.join(cases)}" for name, cases in by_kernel.items())


def spread(values: dict[str, float]) -> str:
    return "{median:.2f} ({q1:.2f} to {q3:.2f})".format(**values)


def times(record: dict, *ways: str) -> list[str]:
    seconds = record.get("seconds", {})
    return [duration(seconds[way]) if way in seconds else NOTHING for way in ways]


def duration(values: dict[str, float]) -> str:
    unit, scale = ("s", 1) if values["median"] >= 1 else ("ms", 1000)
    median, q1, q3 = (f"{scale * values[k]:#.3g}".rstrip(".") for k in ("median", "q1", "q3"))
    return f"{median} ({q1} to {q3}) {unit}"


def size(value: float) -> str:
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"


def conditions(result: dict) -> str:
    machine = result["machine"]
    packages = ("python", "torch", "torchvision", "mmcv-lite")
    versions = ", ".join(f"{p} {machine[p]}" for p in packages if machine.get(p))
    cpu, device = machine["cpu"], machine["device"]
    hardware = cpu if device == "CPU" else f"{device}, {cpu}"
    quick = " **Tiny shapes: these figures mean nothing.**" if result["quick"] else ""
    return (
        f"_{hardware}, {machine['threads']} threads of {machine['cores']} cores; {versions}; "
        f"{result['took_seconds']:.0f} s in all._{quick}"
    )
