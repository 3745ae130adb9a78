"""Train the models of one of the paper's tables and fill the table in.

nl-detectron reproduce table5 --num-gpus 8 --dry-run
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .. import names
from ..options import add_overrides, make_parser

INTERRUPTED = "stopped; the same command goes on from here"

# the keys and schedules of nl_detectron.reproduce.TABLES
SCHEDULES = {
    "table5": ("1x", "3x"),
    "table6": ("1x", "3x"),
    "table2a": ("1x",),
    "table2b": ("1x",),
    "table2c": ("1x",),
    "table2a_kinetics": (),
    "table2b_kinetics": (),
    "table2c_kinetics": (),
    "table2d": (),
    "table2e": (),
    "table2f": (),
    "table2g": (),
    "table3": (),
    "table4": (),
    "relay": (),
}
OWN_OPTIONS = {"SEED": "--seeds", "OUTPUT_DIR": "--output"}  # not for --opts


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    args = parse_arguments(words)
    # takes seconds, which --help need not
    from nl_detectron.reproduce import (
        Settings,
        describe_runs,
        plan_table,
        train_plan,
        write_table,
    )

    settings = Settings(
        args.table, args.schedule, args.num_gpus, args.seeds, args.output, args.opts
    )
    plan = plan_table(settings, args.only)
    if args.dry_run:
        print(describe_runs(plan.runs))
        return 0
    failures = train_plan(plan, partial(print, flush=True))
    print(f"\n{write_table(plan)}")
    for failure in failures:
        print(f"{names.short_program_name('reproduce')}: error: {failure}", file=sys.stderr)
    if failures:
        print("The same command trains what is missing.", file=sys.stderr)
    return 1 if failures else 0


def parse_arguments(words: Sequence[str] | None) -> Namespace:
    parser = make_parser(
        __doc__,
        epilog="relay: the same on the relay data set, in minutes on a CPU (--num-gpus 0)",
    )
    add = parser.add_argument
    add("table", choices=SCHEDULES)
    add("--num-gpus", type=int, required=True, help="of this machine; 0: the CPU")
    add("--schedule", help="1x (by default) or 3x, where there are configs of it")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add(
        "--only",
        nargs="+",
        default=(),
        metavar="PART",
        help="rows with this in their config's name: R_50",
    )
    add("--output", type=Path, default=Path("output/reproduce"), help="folder of runs and tables")
    add("--dry-run", action="store_true", help="print the plan alone")
    add_overrides(parser, "of all runs")
    args = parser.parse_args(words)
    schedules = SCHEDULES[args.table]
    if args.schedule and args.schedule not in schedules:
        known = ", ".join(schedules) or "one of its own, so leave --schedule out"
        parser.error(f"--schedule {args.schedule}: {args.table} has {known}")
    args.schedule = args.schedule or next(iter(schedules), "")
    if args.num_gpus < 0 or min(args.seeds) < 0 or len(set(args.seeds)) < len(args.seeds):
        parser.error("expected a --num-gpus and --seeds of 0 or more, and each seed once")
    for key in OWN_OPTIONS.keys() & set(args.opts[::2]):
        parser.error(f"--opts {key}: give {OWN_OPTIONS[key]} instead")
    return args
