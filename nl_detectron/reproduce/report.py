"""A table with the results that there are, as Markdown and JSON."""

import json

from ..config import is_video
from ..engine import make_output
from .paper_tables import fill_table, format_markdown
from .plan import Plan


def write_table(plan: Plan) -> str:
    """Write the table of a plan into its output folder; returns the Markdown."""
    settings = plan.settings
    finished = {
        name: {run.seed: run.summary for run in runs if run.finished}
        for name, runs in plan.rows.items()
    }
    results = {
        name: {seed: summary["results"] for seed, summary in runs.items()}
        for name, runs in finished.items()
    }
    rows = fill_table(plan.table, settings.schedule, results)
    for row in rows:
        runs = {s: {**summary, "config": None} for s, summary in finished[row["name"]].items()}
        row |= {"config": plan.rows[row["name"]][0].config, "runs": runs}
    text = format_markdown(plan.table, rows, describe_conditions(plan))
    file = settings.output / "_".join(filter(None, [settings.table, settings.schedule]))
    about = {
        "title": plan.table["title"],
        "opts": settings.opts,
        "num_gpus": settings.num_gpus,
    }
    make_output(settings.output)
    file.with_suffix(".json").write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    file.with_suffix(".md").write_text(text)
    return text


def describe_conditions(plan: Plan) -> str:
    """What all runs of a table have in common, in a sentence."""
    settings, cfg = plan.settings, plan.runs[0].cfg
    solver, sets = cfg.SOLVER, cfg.DATASETS
    where = f"{settings.num_gpus} GPUs" if settings.num_gpus else "the CPU"
    what = "clips" if is_video(cfg) else "images"
    overrides = f" Overrides: `{' '.join(settings.opts)}`." if settings.opts else ""
    return (
        f"{solver.MAX_ITER:,} iterations of {solver.IMS_PER_BATCH} {what} at a rate of "
        f"{solver.BASE_LR:g} on {where}, {' and '.join(sets.TRAIN)} to {' and '.join(sets.TEST)}; "
        f"mean (min to max) of the seeds {', '.join(map(str, settings.seeds))}.{overrides}"
    )
