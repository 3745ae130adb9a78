"""Training the runs of a plan that are not finished, with an estimate of time and memory first."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import torch
from tabulate import tabulate

from ..engine import preflight
from ..errors import UsageError
from .plan import Plan
from .report import write_table
from .training_run import RunFailed, TrainingRun


def train_plan(plan: Plan, say: Callable[[str], None] = print) -> list[RunFailed]:
    """Train what is not finished, and write the table after each run.

    Args:
        plan: the runs.
        say: takes the estimate of time and memory, and a line on each run.

    Returns:
        The errors of runs that failed; the others are trained nevertheless.

    Raises:
        UsageError: GPUs, data sets or weights that are missing, or a run that does not even train
            for the few iterations of the estimate.
    """
    left = [run for run in plan.runs if not run.finished]
    if left:
        check_machine(left, plan.settings.num_gpus)
        say(estimate_training(left, say))
    failures = []
    for number, run in enumerate(left, 1):
        say(f"[{number} of {len(left)}] {run}: {run.state}; log: {run.console}")
        try:
            run.train()
        except RunFailed as error:
            failures.append(error)
        write_table(plan)
    return failures


def check_machine(runs: Sequence[TrainingRun], num_gpus: int) -> None:
    """Raises UsageError for GPUs, data sets or weights that are missing."""
    if num_gpus > torch.cuda.device_count():
        raise UsageError(f"--num-gpus {num_gpus}: torch sees {torch.cuda.device_count()} here")
    args = Namespace(num_gpus=num_gpus, num_machines=1, eval_only=False, resume=False)
    for run in {run.config: run for run in runs}.values():
        preflight(run.cfg, args)


def estimate_training(runs: Sequence[TrainingRun], say: Callable[[str], None] = print) -> str:
    """A table of time and memory, from a few measured iterations of each config.

    Args:
        runs: those to train.
        say: takes a line on each measurement.

    Raises:
        RunFailed: a config does not even train those.
    """
    rows, total = [], timedelta()
    for config in dict.fromkeys(run.config for run in runs):
        same = [run for run in runs if run.config == config]
        say(f"measuring {config}")
        seconds, memory = same[0].measure()
        iterations = sum(run.cfg.SOLVER.MAX_ITER - run.iterations_done for run in same)
        time = timedelta(seconds=round(iterations * seconds))
        total += time
        cells = (f"{seconds:.3f}", f"{memory / 1024:.1f}", len(same), f"{iterations:,}", time)
        rows.append([Path(config).stem, *cells])
    heads = ["", "s / iteration", "memory, GiB", "runs", "iterations left", "time"]
    shown = tabulate(rows, heads, colalign=("left", *("right",) * 5), disable_numparse=True)
    what = "evaluations come on top; the memory is the first GPU's, or on a CPU the process's"
    return f"\n{shown}\n\nTraining takes about {total} in all ({what}).\n"
