"""Cells and tables of the report, from records."""

from collections.abc import Callable

from tabulate import tabulate

NOTHING = "–"


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
