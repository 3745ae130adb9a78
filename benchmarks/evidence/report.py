"""Makes the tables and figures of docs/evidence.md: ``python -m benchmarks.evidence.report``.

Each part is between two markers, such as ``<!-- begin: A -->`` and ``<!-- end: A -->``.
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
Seconds = dict[str, dict[str, float]]  # of an iteration, by the run's name: median, least, most
NOT_YET = "_Not run yet._"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--quick", action="store_true", help="print the quick sweep's table")
    args = parser.parse_args()
    if args.quick:
        print(table(load(QUICK.results), {}, "A"))
        return
    results = load(FULL.results)
    PAGE.write_text(render(PAGE.read_text(), parts(results, load_seconds())))
    ATTENTION_PAGE.write_text(render(ATTENTION_PAGE.read_text(), attention_parts()))
    drawn = draw(results, PAGE.parent, reach())
    print("wrote", *(path.relative_to(ROOT) for path in (PAGE, ATTENTION_PAGE, *drawn)))


def load_seconds() -> Seconds:
    return json.loads(PACE.read_text())["seconds"] if PACE.exists() else {}


def attention_parts() -> Iterator[tuple[str, str]]:
    """Name and text of each part of docs/attention.md."""
    measured = attention.RESULT.exists()
    subjects = json.loads(attention.RESULT.read_text())["subjects"] if measured else {}
    for name, text in attention.tables(subjects):
        yield name, text if measured else NOT_YET
    for name, file in attention.PICTURES.items():
        yield name, f"![Heat and arrows]({file})" if measured else NOT_YET


def parts(results: Results, seconds: Seconds) -> Iterator[tuple[str, str]]:
    """Name and text of each part of docs/evidence.md."""
    yield "summary", as_table(claims(results), ["", "measured", "aim", "met"])
    yield "runs", summarize_runs(results)
    for letter in TABLES:
        yield letter, distances(results) if letter == "F" else table(results, seconds, letter)
    yield "tokens", tokens_table()
    yield "G", picture(CURVES, "Loss and validation AP", "A", results)
    yield "half", halves(results, seconds)
    yield "real", photographs(results)


def summarize_runs(results: Results) -> str:
    """The number of runs, how long they took, and their versions."""
    states = [state(job, FULL) for job in jobs()]
    done = [results[name][seed] for name, seed in jobs() if seed in results.get(name, {})]
    if not done:
        return NOT_YET
    minutes = sum(r["minutes"] for r in done)
    packages = sorted({f"{k} {v}" for r in done for k, v in r["versions"].items()})
    stale, diverged = states.count("stale"), sum(r["stopped"] == "diverged" for r in done)
    old = f" **{stale} have earlier settings** and will be trained again." if stale else ""
    return (
        f"{len(done)} of {len(states)} runs, {minutes / 60:.1f} hours of one thread in total; "
        f"{diverged} diverged.{old} Versions: {', '.join(packages)}."
    )


def table(results: Results, seconds: Seconds, letter: str) -> str:
    """A table with a row for each kind of model, over the runs that exist."""
    tasks = ("box", "keypoint") if letter.startswith("E") else ("box", "mask")
    rows = []
    for label, (_, seeds) in TABLES[letter].items():
        runs = row(results, letter, label)
        cells = [label, f"{len(runs)} of {len(seeds)}", share_learned(runs)]
        cells.append(spread([100 * result["right"] for result in runs if "right" in result], 0))
        cells += [spread(aps(runs, task)) for task in tasks]
        cells.append(spread(aps(runs, tasks[-1], "located")))
        rows.append([*cells, *costs(runs), format_seconds(runs, seconds)])
    heads = ["", "runs", "learned", "recognised, %", *(f"{task} AP" for task in tasks)]
    heads.append("mask AP, any class" if "mask" in tasks else "keypoint AP, either way up")
    return as_table(rows, [*heads, "parameters", "GFLOPs", "s / iteration"])


def share_learned(runs: list[dict]) -> str:
    """How many of the runs learned; results of earlier settings do not have this."""
    known = [result for result in runs if "right" in result]
    return f"{sum(learned(known))} of {len(known)}" if known else "–"


def tokens_table() -> str:
    measured = tokens.RESULT.exists()
    return tokens.table(json.loads(tokens.RESULT.read_text())["runs"]) if measured else NOT_YET


def costs(runs: list[dict]) -> list[str]:
    """Parameters and GFLOPs of the runs' model."""
    if not runs:
        return ["–"] * 2
    return [f"{runs[0]['parameters']:,}", f"{runs[0]['flops'] / 1e9:.3f}"]


def format_seconds(runs: list[dict], seconds: Seconds) -> str:
    """Median seconds per iteration of the runs' model, measured in turns with all others."""
    measured = seconds.get(runs[0]["run"]) if runs else None
    return f"{measured['median']:.3f}" if measured else "–"


def distances(results: Results) -> str:
    """Table F, the baseline's receptive field and Figure F: mask AP by band of distances."""
    by_label = {label: bands(row(results, "F", label)) for label in TABLES["F"]}
    rows = []
    for number, band in enumerate(next(filter(None, by_label.values()), [])):
        cells = [f"{band[0]['from']} to {band[0]['to']}", band[0]["images"]]
        models = [label_bands[number] if label_bands else [] for label_bands in by_label.values()]
        chance = spread(aps(models[0], "mask", "chance"))
        third = spread([ap / 3 for ap in aps(models[0], "mask", "located")])
        rows.append([*cells, *(spread(aps(runs, "mask")) for runs in models), chance, third])
    heads = ["distance, pixels", "images", *by_label, "chance", "a third of the AP for any class"]
    fields = ", ".join(f"{pixels:.0f} pixels from {stage}" for stage, pixels in reach().items())
    text = as_table(rows, heads) if rows else NOT_YET
    image = picture(DISTANCE, "Mask AP by distance", "F", results)
    return f"{text}\n\nThe baseline's receptive field reaches {fields} to each side.\n\n{image}"


def reach() -> dict[str, float]:
    """Pixels that the receptive field of the baseline's stages reaches to each side."""
    fields = receptive_fields(build_on_meta(RUNS["baseline"].config(1)).backbone.bottom_up)
    return {stage: (fields[stage] - 1) / 2 for stage in ("res4", "res5")}


def halves(results: Results, seconds: Seconds) -> str:
    """A table of the iterations and seconds until half of the final mask AP."""
    rows = []
    for label, (name, _) in TABLES["A"].items():
        iterations = [half_way(r) for r in row(results, "A", label) if r["curve"]]
        measured = seconds.get(name)
        times = [i * measured["median"] for i in iterations] if measured else []
        rows.append([label, spread(iterations, 0), spread(times, 0) if times else "–"])
    return as_table(rows, ["until half of the final mask AP", "iterations", "seconds"])


def photographs(results: Results) -> str:
    """A table of the runs on photographs: total losses, and AP on the images trained on."""
    rows = []
    for name in TWINS_ON_PHOTOGRAPHS:
        runs = [results[name][seed] for seed in s.REAL_SEEDS if seed in results.get(name, {})]
        first = [r["first"]["total_loss"] for r in runs]
        points = [[p["losses"]["total_loss"] for p in r["curve"]] for r in runs]
        cells = [name.removeprefix("real_"), f"{len(runs)} of {len(s.REAL_SEEDS)}"]
        cells += [spread(first, 3), spread([max(p) for p in points], 2)]
        cells += [spread([p[-1] for p in points], 2)]
        rows.append([*cells, *(spread(aps(runs, task)) for task in ("box", "mask"))])
    heads = ["", "runs", "first loss", "largest mean loss", "last mean loss", "box AP", "mask AP"]
    return as_table(rows, heads)


def picture(name: str, title: str, letter: str, results: Results) -> str:
    drawn = any(row(results, letter, label) for label in TABLES[letter])
    return f"![{title}]({name})" if drawn else NOT_YET


def as_table(rows: Iterable[Iterable[object]], heads: list[str]) -> str:
    return tabulate(rows, heads, tablefmt="pipe", disable_numparse=True)


if __name__ == "__main__":
    main()
