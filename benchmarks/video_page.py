"""Makes docs/video_evidence.md and its figure from the results in docs/relay_video.json."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from tabulate import tabulate

from nl_detectron.engine import build_on_meta

from .seed_runs import count_threads, list_versions, spread
from .video_distance import frames_seen
from .video_runs import (
    BLOCK,
    C2D,
    FEW,
    GROUPS,
    I3D,
    LEARNED,
    SEEDS,
    THREADS,
    TUNING,
    Job,
    videos_of,
)

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FIGURE = DOCS / "video_evidence.md", "video_distance.png"
NOT_YET = "not run yet"
# Percent: of a guess; of a model whose output is a sum over frames, which has the least
# cross-entropy if it ignores the patch; and the most that one can have by any weights.
GUESS, SUM_OVER_FRAMES, MOST_OF_A_SUM = 100 / 3, 50.0, 500 / 6
Results = Mapping[Job, dict]

# A sentence below a row's table, by the group and the label of the row as in GROUPS.
REMARKS: dict[tuple[str, str], str] = {
    ("axes", "space"): "It relates positions of one frame, and the patch and the shape are in "
    "different frames. The output is still a sum over frames.",
    ("axes", "time"): "A position sees itself in all frames. That is enough here: before the "
    "block, a position spans 67 x 67 pixels, and a picture has 48 x 48.",
}

COMMANDS = """```bash
python -m benchmarks.video_seeds                    # trains the missing runs; it may be stopped
python -m benchmarks.video_seeds --only axes forms  # some of demo, arch, axes and forms
python -m benchmarks.video_seeds --report           # writes this page from the stored results
```"""
ONE_KEY = f"The demo's model with one key changed, seeds {FEW[0]} to {FEW[-1]}, one thread."
SECTIONS = {
    "arch": (
        "Architectures",
        f"Seeds {FEW[0]} to {FEW[-1]}, one thread. The block is the demo's, before the last "
        "residual block of res4.",
    ),
    "axes": ("Axes", f"`MODEL.NONLOCAL.AXES`: which positions a position sees. {ONE_KEY}"),
    "forms": ("Pairwise forms", f"`MODEL.NONLOCAL.PAIRWISE`. {ONE_KEY}"),
}
# Okabe and Ito's colours, which people with colour blindness can distinguish
STYLES = {
    "C2D": ("#D55E00", "--"),
    "C2D + 1 block": ("#0072B2", "-"),
    "I3D": ("#E69F00", "-."),
    "I3D + 1 block": ("#009E73", ":"),
}


def write_page(results: Results) -> None:
    """Write :data:`PAGE` and, if there are runs to draw, :data:`FIGURE`."""
    draw(results, DOCS / FIGURE)
    PAGE.write_text(page(results))


def page(results: Results) -> str:
    """The Markdown page of all runs."""
    parts = [
        "# Evidence: videos",
        "What a spacetime block gives a classifier of videos that must relate two frames: every "
        "run on the [spacetime relay](video_data.md#the-spacetime-relay), by seed, architecture, "
        "axes, pairwise form and distance in time.",
        COMMANDS,
        *describe(results),
        "## The demo",
        f"The model of `make demo-video` from seeds {SEEDS[0]} to {SEEDS[-1]}, with one thread and "
        "with two, whose sums round differently, and without its block, of `make demo-video-twin`.",
        *demo(results),
        *remarks("demo"),
    ]
    for group, (title, text) in SECTIONS.items():
        rows = {label: [Job(name, s, 1) for s in FEW] for label, name in GROUPS[group].items()}
        parts += [f"## {title}", text, summary(results, rows), *remarks(group)]
    parts += ["## Distance in time", *distances(results), *failures(results)]
    parts += list_versions(finished(results.values()))
    return "\n\n".join(parts) + "\n"


def describe(results: Results) -> Iterator[str]:
    """How the runs were made, and what the tables show."""
    cfg = Job(BLOCK, 0, 1).config()
    relay, solver, size = videos_of(cfg), cfg.SOLVER, cfg.INPUT.VIDEO.CROP_SIZE
    yield (
        f"A video has {relay.pictures} pictures of {relay.size} x {relay.size} pixels, and a clip "
        f"has each of them once. A run trains a thin ResNet-{cfg.MODEL.RESNETS.DEPTH} from random "
        f"weights for {solver.MAX_ITER} iterations of {solver.IMS_PER_BATCH} clips of {size} x "
        f"{size} pixels, which are drawn from {relay.train:,} videos. It is evaluated on "
        f"{relay.val} other videos, with {cfg.TEST.VIDEO.CROPS} crops of each. Tables show the "
        "top-1 accuracy in percent."
    )
    yield (
        f"Guessing gives {GUESS:.0f} %. A model whose output is a sum over frames, as a C2D's "
        f"without a block, has the least cross-entropy if it ignores the patch, which gives "
        f"{SUM_OVER_FRAMES:.0f} %, and by no weights more than {MOST_OF_A_SUM:.0f} %. A run counts "
        f"as **learned** if it reaches {LEARNED:.0f} %. "
        f"Settings are chosen on seeds {TUNING[0]} to {TUNING[-1]} (`--tune`), which no table "
        "shows. No run is left out, and one that ended with an error counts as not learned."
    )
    done = finished(results.values())
    hours = sum(r["seconds"] for r in done) / 3600
    yield (
        "All results are from `docs/relay_video.json`. Seconds are the wall-clock time of "
        "training, evaluation and pictures on a CPU which other runs shared. So far there are "
        f"{len(done)} runs, which took {hours:.1f} hours together."
    )


def demo(results: Results) -> Iterator[str]:
    """Two tables of the demo and its twin: over all seeds, and by seed."""
    columns = {f"C2D + 1 block, {count_threads(n)}": (BLOCK, n, SEEDS) for n in THREADS}
    columns[f"C2D, {count_threads(1)}"] = (C2D, 1, FEW)
    yield summary(
        results,
        {label: [Job(name, s, n) for s in seeds] for label, (name, n, seeds) in columns.items()},
    )
    rows = [
        [seed]
        + [
            accuracy(results, Job(name, seed, n)) if seed in seeds else "–"
            for name, n, seeds in columns.values()
        ]
        for seed in SEEDS
    ]
    yield as_table(rows, ["seed", *columns])


def summary(results: Results, rows: Mapping[str, Sequence[Job]]) -> str:
    """A table with a row for the runs of each label."""
    cells = []
    for label, jobs in rows.items():
        ended = [results[job] for job in jobs if job in results]
        done = finished(ended)
        failed = f", {len(ended) - len(done)} failed" if len(done) < len(ended) else ""
        learned = sum(r["video"] >= LEARNED for r in done)
        cells.append(
            [
                label,
                f"{len(done)} of {len(jobs)}{failed}",
                f"{learned} of {len(ended)}" if ended else "–",
                spread([r["video"] for r in done], nothing="–" if ended else NOT_YET),
                f"{done[0]['parameters']:,}" if done else "–",
                spread([r["seconds"] for r in done], 0),
            ]
        )
    heads = ["mean (range)", "runs", "learned", "accuracy, %", "parameters", "seconds"]
    return as_table(cells, heads)


def remarks(group: str) -> list[str]:
    """The list of :data:`REMARKS` on a group's rows."""
    lines = [
        f"- **{label}**: {REMARKS[group, label]}"
        for label in GROUPS[group]
        if (group, label) in REMARKS
    ]
    return ["\n".join(lines)] if lines else []


def distances(results: Results) -> Iterator[str]:
    """The table and the figure of accuracy by distance, and how far convs reach."""
    cfg = Job(BLOCK, 0, 1).config()
    relay = videos_of(cfg)
    farthest = relay.farthest or relay.pictures - 1
    spans = {label: reach(name) for label, name in (("C2D", C2D), ("I3D", I3D))}
    text = (
        "The distance is that from the picture with the patch to the one with the shape, in "
        "pictures, which are frames of the clip. Accuracies are those of the architectures above, "
        "by the scores of each video in the evaluation of each run."
    )
    text += "".join(
        f" In the {label}, by kernels and strides, one position of the last map spans {frames + 1} "
        f"frames, so convs and pools can relate frames that are at most {frames} apart"
        + (": all that these videos have." if frames >= farthest else ".")
        for label, frames in spans.items()
    )
    yield text
    by_label = {label: by_distance(results, name) for label, name in GROUPS["arch"].items()}
    videos = {
        d["distance"]: d["videos"] for r in finished(results.values()) for d in r["distances"]
    }
    rows = [
        [distance, videos[distance]]
        + [spread(found.get(distance, []), nothing=NOT_YET) for found in by_label.values()]
        for distance in sorted(videos)
    ]
    yield (
        as_table(rows, ["distance", "videos", *by_label]) if rows else f"_{NOT_YET.capitalize()}._"
    )
    if any(by_label.values()):
        yield f"![Accuracy by distance in time]({FIGURE})"


def by_distance(results: Results, name: str) -> dict[int, list[float]]:
    """Accuracy in percent of a model's runs with one thread, by distance."""
    found: dict[int, list[float]] = {}
    for run in finished(results[job] for s in FEW if (job := Job(name, s, 1)) in results):
        for one in run["distances"]:
            found.setdefault(one["distance"], []).append(100 * one["right"] / one["videos"])
    return found


@cache
def reach(name: str) -> int:
    """The largest distance in frames of two that the convs and pools of a model can relate."""
    cfg = Job(name, 0, 1).config()
    frames, side = cfg.INPUT.VIDEO.FRAMES, cfg.INPUT.VIDEO.CROP_SIZE
    clip = torch.empty(1, 3, frames, side, side, device="meta")
    return frames_seen(build_on_meta(cfg).backbone, clip) - 1


def failures(results: Results) -> Iterator[str]:
    """A list of the runs that ended with an error."""
    lines = [
        f"- {job.name}, seed {job.seed}, {count_threads(job.threads)}: {result['error']}"
        for job, result in results.items()
        if "error" in result
    ]
    if lines:
        yield "## Failed runs"
        yield "\n".join(lines)


def draw(results: Results, file: Path) -> None:
    """Draw accuracy by distance: means as lines, ranges as bands, and the I3D's reach."""
    from matplotlib.figure import Figure  # no window, and in any thread

    by_label = {label: by_distance(results, name) for label, name in GROUPS["arch"].items()}
    if not any(by_label.values()):
        file.unlink(missing_ok=True)
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for label, found in by_label.items():
        if not found:
            continue
        colour, style = STYLES[label]
        x = sorted(found)
        runs = [found[distance] for distance in x]
        named = f"{label} ({len(runs[0])})"
        means = [sum(values) / len(values) for values in runs]
        axis.plot(x, means, color=colour, ls=style, marker="o", ms=4, label=named)
        low, high = [min(values) for values in runs], [max(values) for values in runs]
        axis.fill_between(x, low, high, color=colour, alpha=0.2)
    axis.axhline(SUM_OVER_FRAMES, color="black", lw=1, ls=":", label="a sum over frames")
    axis.axvline(reach(I3D), color="#CC79A7", label="the I3D's convs reach to here")
    axis.set(xlabel="frames between patch and shape", ylabel="accuracy, %", ylim=(0, 103))
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right center", title="mean and range\n(number of runs)")
    figure.savefig(file, dpi=110)


def finished(results: Iterable[dict]) -> list[dict]:
    """The results of runs that came to their end."""
    return [result for result in results if "error" not in result]


def accuracy(results: Results, job: Job) -> str:
    """A run's accuracy for a table."""
    result = results.get(job)
    if result is None:
        return NOT_YET
    return "failed" if "error" in result else f"{result['video']:.1f}"


def as_table(rows: Iterable[Iterable[object]], heads: Sequence[str]) -> str:
    return tabulate(rows, heads, tablefmt="pipe", disable_numparse=True)
