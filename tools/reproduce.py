#!/usr/bin/env python3
"""Train the models of one of the paper's tables and fill the table in.

python tools/reproduce.py table5 --num-gpus 8 --dry-run
"""

import argparse
import json
import sys
from argparse import Namespace
from datetime import timedelta
from pathlib import Path

import torch
from paper_tables import TABLES, fill, markdown
from tabulate import tabulate
from training_run import CONFIGS, Run, RunFailed, scaled

from nl_detectron.engine import make_output, preflight
from nl_detectron.errors import UsageError

OURS = {"SEED": "--seeds", "OUTPUT_DIR": "--output"}  # not for --opts
Plan = dict[str, list[Run]]  # by row's name, a run for each seed


def main(words: list[str] | None = None) -> int:
    """Returns the exit code."""
    args = parsed(words)
    table = select_rows(TABLES[args.table], args.only)
    plan = planned(table, args)
    # by seed, so that a whole table of one seed is there early
    runs = [run for seed in zip(*plan.values(), strict=True) for run in seed]
    for run in runs:
        run.check_folder()
    if args.dry_run:
        print(describe_runs(runs))
        return 0
    left = [run for run in runs if not run.finished]
    if left:
        check_machine(left, args.num_gpus)
        print(estimate(left), flush=True)
    failures = []
    for number, run in enumerate(left, 1):
        print(f"[{number} of {len(left)}] {run}: {run.state}; log: {run.console}", flush=True)
        try:
            run.train()
        except RunFailed as error:  # the others may well do
            failures.append(str(error))
        write(table, plan, args)  # what there is, now
    print(f"\n{write(table, plan, args)}")
    for failure in failures:
        print(f"reproduce.py: error: {failure}", file=sys.stderr)
    if failures:
        print("The same command trains what is missing.", file=sys.stderr)
    return 1 if failures else 0


def parsed(words: list[str] | None) -> Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        epilog="relay: the same on the relay data set, in minutes on a CPU (--num-gpus 0)",
    )
    add = parser.add_argument
    add("table", choices=TABLES)
    add("--num-gpus", type=int, required=True, help="of this machine; 0: the CPU")
    add("--schedule", help="1x (by default) or 3x, where there are configs of it")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add("--only", nargs="+", metavar="PART", help="rows with this in their config's name: R_50")
    add("--output", type=Path, default=Path("output/reproduce"), help="folder of runs and tables")
    add("--dry-run", action="store_true", help="print the plan alone")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE overrides, of all runs")
    args = parser.parse_args(words)
    schedules = TABLES[args.table]["schedules"]
    if args.schedule and args.schedule not in schedules:
        known = ", ".join(schedules) or "one of its own, so leave --schedule out"
        parser.error(f"--schedule {args.schedule}: {args.table} has {known}")
    args.schedule = args.schedule or next(iter(schedules), "")
    if args.num_gpus < 0 or min(args.seeds) < 0 or len(set(args.seeds)) < len(args.seeds):
        parser.error("expected a --num-gpus and --seeds of 0 or more, and each seed once")
    for key in OURS.keys() & set(args.opts[::2]):
        parser.error(f"--opts {key}: give {OURS[key]} instead")
    return args


def select_rows(table: dict, parts: list[str] | None) -> dict:
    """A table's rows whose config has one of ``parts`` in its name, and their twins."""
    if not parts:
        return table
    chosen = [row for row in table["rows"] if any(part in row["config"] for part in parts)]
    names = {row["name"] for row in chosen} | {row.get("twin") for row in chosen}
    if not chosen:
        configs = ", ".join(Path(row["config"]).name for row in table["rows"])
        raise UsageError(f"--only {' '.join(parts)}: none of this table's configs: {configs}")
    return {**table, "rows": [row for row in table["rows"] if row["name"] in names]}


def planned(table: dict, args: Namespace) -> Plan:
    """Rows of different tables that are the same model share their runs."""
    plan = {}
    for row in table["rows"]:
        config = "_".join(filter(None, [row["config"], args.schedule]))
        words = scaled(CONFIGS / f"{config}.yaml", args.opts, args.num_gpus, table["gpus"])
        folder = args.output / Path(config).name
        plan[row["name"]] = [
            Run(f"{config}.yaml", words, seed, folder / f"seed{seed}", args.num_gpus)
            for seed in args.seeds
        ]
    return plan


def describe_runs(runs: list[Run]) -> str:
    finished = sum(run.finished for run in runs)
    parts = [f"{len(runs)} runs, {finished} of them finished"]
    parts += [f"{run}: {run.state}\n  in {run.folder}\n  {run.command_line}" for run in runs]
    return "\n\n".join(parts)


def check_machine(runs: list[Run], num_gpus: int) -> None:
    """Raises UsageError for GPUs, data sets or weights that are not there."""
    if num_gpus > torch.cuda.device_count():
        raise UsageError(f"--num-gpus {num_gpus}: torch sees {torch.cuda.device_count()} here")
    args = Namespace(num_gpus=num_gpus, num_machines=1, eval_only=False, resume=False)
    for run in {run.config: run for run in runs}.values():
        preflight(run.cfg, args)


def estimate(runs: list[Run]) -> str:
    """Time and memory of training them, from a few measured iterations of each config.

    Raises:
        RunFailed: a config does not even train those.
    """
    rows, total = [], timedelta()
    for config in dict.fromkeys(run.config for run in runs):
        same = [run for run in runs if run.config == config]
        print(f"measuring {config}", flush=True)
        seconds, memory = same[0].measure()
        iterations = sum(run.cfg.SOLVER.MAX_ITER - run.done for run in same)
        time = timedelta(seconds=round(iterations * seconds))
        total += time
        cells = (f"{seconds:.3f}", f"{memory / 1024:.1f}", len(same), f"{iterations:,}", time)
        rows.append([Path(config).stem, *cells])
    heads = ["", "s / iteration", "memory, GiB", "runs", "iterations left", "time"]
    shown = tabulate(rows, heads, colalign=("left", *("right",) * 5), disable_numparse=True)
    what = "evaluations come on top; the memory is the first GPU's, or on a CPU the process's"
    return f"\n{shown}\n\nTraining takes about {total} in all ({what}).\n"


def write(table: dict, plan: Plan, args: Namespace) -> str:
    """Write the table as Markdown and JSON; returns it."""
    found = {name: {r.seed: r.summary for r in of if r.finished} for name, of in plan.items()}
    results = {name: {s: run["results"] for s, run in of.items()} for name, of in found.items()}
    rows = fill(table, args.schedule, results)
    for row in rows:
        runs = {s: {**run, "config": None} for s, run in found[row["name"]].items()}
        row |= {"config": plan[row["name"]][0].config, "runs": runs}
    text = markdown(table, rows, conditions(next(iter(plan.values()))[0], args))
    file = args.output / "_".join(filter(None, [args.table, args.schedule]))
    about = {"title": table["title"], "opts": args.opts, "num_gpus": args.num_gpus}
    make_output(args.output)
    file.with_suffix(".json").write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    file.with_suffix(".md").write_text(text)
    return text


def conditions(run: Run, args: Namespace) -> str:
    """What all runs of a table have in common, in a sentence."""
    solver, sets = run.cfg.SOLVER, run.cfg.DATASETS
    where = f"{args.num_gpus} GPUs" if args.num_gpus else "the CPU"
    overrides = f" Overrides: `{' '.join(args.opts)}`." if args.opts else ""
    return (
        f"{solver.MAX_ITER:,} iterations of {solver.IMS_PER_BATCH} images at a rate of "
        f"{solver.BASE_LR:g} on {where}, {' and '.join(sets.TRAIN)} to {' and '.join(sets.TEST)}; "
        f"mean (min to max) of the seeds {', '.join(map(str, args.seeds))}.{overrides}"
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UsageError as error:
        sys.exit(f"reproduce.py: error: {error}")
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
