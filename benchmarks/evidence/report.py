"""Makes the tables and pictures of docs/evidence.md: ``python -m benchmarks.evidence.report``.

Each part stands between two markers, ``<!-- begin: A -->`` and ``<!-- end: A -->``.
"""

import argparse
import json
from collections.abc import Iterable, Iterator

from tabulate import tabulate

from nl_detectron.engine import build_on_meta
from nl_detectron.model_zoo.page import render

from . import attention, tokens
from . import settings as s
from .claims import claims
from .figures import CURVES, DISTANCE, draw
from .pace import RESULT as PACE
from .real import TWINS as TWINS_ON_PHOTOGRAPHS
from .receptive import receptive_fields
from .results import Results, aps, bands, half_way, learned, load, row, spread
from .runs import ROOT, RUNS, TABLES, jobs
from .sweep import state
from .train import FULL, QUICK

PAGE = ROOT / "docs" / "evidence.md"
ATTENTION_PAGE = ROOT / "docs" / "attention.md"
Pace = dict[str, dict[str, float]]  # by the run's name: median seconds an iteration
NOT_YET = "_Not run yet._"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--quick", action="store_true", help="print the quick sweep's table")
    args = parser.parse_args()
    if args.quick:
        print(table(load(QUICK.results), {}, "A"))
        return
    results = load(FULL.results)
    PAGE.write_text(render(PAGE.read_text(), parts(results, load_pace())))
    ATTENTION_PAGE.write_text(render(ATTENTION_PAGE.read_text(), attention_parts()))
    drawn = draw(results, PAGE.parent, reach())
    print("wrote", *(path.relative_to(ROOT) for path in (PAGE, ATTENTION_PAGE, *drawn)))


def load_pace() -> Pace:
    return json.loads(PACE.read_text())["seconds"] if PACE.exists() else {}


def attention_parts() -> Iterator[tuple[str, str]]:
    """Of docs/attention.md."""
    there = attention.RESULT.exists()
    found = json.loads(attention.RESULT.read_text())["subjects"] if there else {}
    for name, text in attention.tables(found):
        yield name, text if there else NOT_YET
    for name, file in attention.PICTURES.items():
        yield name, f"![Heat and arrows]({file})" if there else NOT_YET


def parts(results: Results, pace: Pace) -> Iterator[tuple[str, str]]:
    """Of docs/evidence.md, by their markers."""
    yield "summary", as_table(claims(results), ["", "measured", "aim", "met"])
    yield "runs", summarize_runs(results)
    for letter in TABLES:
        yield letter, distances(results) if letter == "F" else table(results, pace, letter)
    yield "tokens", tokens_table()
    yield "G", picture(CURVES, "Loss and validation AP", "A", results)
    yield "half", halves(results, pace)
    yield "real", photographs(results)


def summarize_runs(results: Results) -> str:
    """How many runs there are, how long they took, from which versions."""
    states = [state(job, FULL) for job in jobs()]
    there = [results[name][seed] for name, seed in jobs() if seed in results.get(name, {})]
    if not there:
        return NOT_YET
    minutes = sum(r["minutes"] for r in there)
    packages = sorted({f"{k} {v}" for r in there for k, v in r["versions"].items()})
    stale, diverged = states.count("stale"), sum(r["stopped"] == "diverged" for r in there)
    old = f" **{stale} are of earlier settings** and would be made anew." if stale else ""
    return (
        f"{len(there)} of {len(states)} runs, {minutes / 60:.1f} hours of one thread in all; "
        f"{diverged} diverged.{old} Versions: {', '.join(packages)}."
    )


def table(results: Results, pace: Pace, letter: str) -> str:
    """A row for each kind of model, as many runs as there are of it."""
    tasks = ("box", "keypoint") if letter.startswith("E") else ("box", "mask")
    rows = []
    for label, (_, seeds) in TABLES[letter].items():
        found = row(results, letter, label)
        cells = [label, f"{len(found)} of {len(seeds)}", share_learned(found)]
        cells += [spread(aps(found, task)) for task in tasks]
        cells.append(spread(aps(found, tasks[-1], "located")))
        rows.append([*cells, *costs(found), pace_of(found, pace)])
    heads = ["", "runs", "learned", *(f"{task} AP" for task in tasks)]
    heads.append("mask AP, any class" if "mask" in tasks else "keypoint AP, either way up")
    return as_table(rows, [*heads, "parameters", "GFLOPs", "s / iteration"])


def share_learned(found: list[dict]) -> str:
    """How many of the runs learned; those of earlier settings do not say."""
    known = [result for result in found if "right" in result]
    return f"{sum(learned(known))} of {len(known)}" if known else "–"


def tokens_table() -> str:
    there = tokens.RESULT.exists()
    return tokens.table(json.loads(tokens.RESULT.read_text())["runs"]) if there else NOT_YET


def costs(found: list[dict]) -> list[str]:
    if not found:
        return ["–"] * 2
    return [f"{found[0]['parameters']:,}", f"{found[0]['flops'] / 1e9:.3f}"]


def pace_of(found: list[dict], pace: Pace) -> str:
    """Median seconds an iteration, of a run measured in turns with all others."""
    seconds = pace.get(found[0]["run"]) if found else None
    return f"{seconds['median']:.3f}" if seconds else "–"


def distances(results: Results) -> str:
    """Figure F and its figures: mask AP by band, and how far the baseline can see."""
    by_label = {label: bands(row(results, "F", label)) for label in TABLES["F"]}
    rows = []
    for number, band in enumerate(next(filter(None, by_label.values()), [])):
        cells = [f"{band[0]['from']} to {band[0]['to']}", band[0]["images"]]
        found = [of[number] if of else [] for of in by_label.values()]
        chance = spread(aps(found[0], "mask", "chance"))
        third = spread([ap / 3 for ap in aps(found[0], "mask", "located")])
        rows.append([*cells, *(spread(aps(f, "mask")) for f in found), chance, third])
    heads = ["distance, pixels", "images", *by_label, "chance", "a third of any class"]
    seen = ", ".join(f"{pixels:.0f} pixels from {stage}" for stage, pixels in reach().items())
    found = as_table(rows, heads) if rows else NOT_YET
    image = picture(DISTANCE, "Mask AP by distance", "F", results)
    return f"{found}\n\nThe baseline sees {seen} to each side, in theory.\n\n{image}"


def reach() -> dict[str, float]:
    """Pixels to each side of an output position that the baseline's stages can see."""
    fields = receptive_fields(build_on_meta(RUNS["baseline"].config(1)).backbone.bottom_up)
    return {stage: (fields[stage] - 1) / 2 for stage in ("res4", "res5")}


def halves(results: Results, pace: Pace) -> str:
    rows = []
    for label, (name, _) in TABLES["A"].items():
        found = [half_way(r) for r in row(results, "A", label) if r["curve"]]
        seconds = pace.get(name)
        times = [i * seconds["median"] for i in found] if seconds else []
        rows.append([label, spread(found, 0), spread(times, 0) if times else "–"])
    return as_table(rows, ["half of the final mask AP", "iterations", "seconds"])


def photographs(results: Results) -> str:
    """The twins on real images: total loss in the first and in the last iterations, and AP on the
    images that they have learnt."""
    rows = []
    for name in TWINS_ON_PHOTOGRAPHS:
        found = [results[name][seed] for seed in s.REAL_SEEDS if seed in results.get(name, {})]
        first = [r["first"]["total_loss"] for r in found]
        points = [[p["losses"]["total_loss"] for p in r["curve"]] for r in found]
        cells = [name.removeprefix("real_"), f"{len(found)} of {len(s.REAL_SEEDS)}"]
        cells += [spread(first, 3), spread([max(p) for p in points], 2)]
        cells += [spread([p[-1] for p in points], 2)]
        rows.append([*cells, *(spread(aps(found, task)) for task in ("box", "mask"))])
    heads = [
        "",
        "runs",
        "loss at first",
        "greatest of its means",
        "loss at last",
        "box AP",
        "mask AP",
    ]
    return as_table(rows, heads)


def picture(name: str, title: str, letter: str, results: Results) -> str:
    drawn = any(row(results, letter, label) for label in TABLES[letter])
    return f"![{title}]({name})" if drawn else NOT_YET


def as_table(rows: Iterable[Iterable[object]], heads: list[str]) -> str:
    return tabulate(rows, heads, tablefmt="pipe", disable_numparse=True)


if __name__ == "__main__":
    main()
