"""What training survives: ``python -m benchmarks.faults --kills 25``.

Each case trains a thin relay detector for a few iterations, strikes it at a random moment, resumes
it until it ends, and compares what it leaves with a run that nothing struck, bit for bit. Results
go to benchmarks/results/faults.json and, as a Markdown table, to the output.
"""

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from nl_detectron.relay import Relay, write_dataset

from .machine import machine
from .training_process import Training

RESULTS = Path(__file__).parent / "results" / "faults.json"
RELAY = Relay(train=16, val=4, height=64, width=128, signal=9)
SETUPS = [(0, 1), (2, 1), (0, 2), (2, 2)]  # workers and processes
CLOCK = {"time", "data_time", "rank_data_time", "eta_seconds"}  # metrics that time decides
FINAL = "model_final.pth"
TRAINS = "Starting training from iteration"  # in the log


# --- faults ----------------------------------------------------------------------------------
# A fault strikes a running training and returns whether it did so before the end. It gets the
# training, random numbers, and how many seconds an undisturbed one trains.


def strike_at_random(
    number: int, only_first: bool
) -> Callable[[Training, random.Random, float], bool]:
    """A signal at a random moment, to the first process or to all of them."""

    def strike(run: Training, rng: random.Random, seconds: float) -> bool:
        run.wait_for(lambda: TRAINS in run.console)
        moment = time.monotonic() + rng.uniform(0, seconds)
        if not run.wait_for(lambda: time.monotonic() > moment):
            return False
        (os.kill if only_first else os.killpg)(run.process.pid, number)
        return True

    return strike


def kill_in_write(run: Training, rng: random.Random, seconds: float) -> bool:
    """SIGKILL as soon as a file of the n-th checkpoint appears, whatever its name while written."""
    skipped = rng.randrange(5)
    for _ in range(skipped + 1):
        known = run.files
        if not run.wait_for(lambda known=known: _checkpoints(run.files - known), pause=0.0002):
            return False
    os.killpg(run.process.pid, signal.SIGKILL)
    run.wait_for_all()
    return any(_is_torn(run.folder / name) for name in _checkpoints(run.files))


def _checkpoints(names: set[str]) -> set[str]:
    return {name for name in names if "model_0" in name}


def _is_torn(path: Path) -> bool:
    if path.suffix != ".pth":
        return True
    try:
        torch.load(path, weights_only=True)
    except Exception:  # each format of a torn file raises its own
        return True
    return False


# Name: the fault, the exit code of the run that it strikes, and what it prints.
FAULTS: dict[str, tuple[Callable[[Training, random.Random, float], bool], int, str]] = {
    "SIGKILL of all processes": (strike_at_random(signal.SIGKILL, False), -9, ""),
    "SIGKILL of the first process": (strike_at_random(signal.SIGKILL, True), -9, ""),
    "SIGKILL in a checkpoint's write": (kill_in_write, -9, ""),
    "SIGTERM to all processes": (
        strike_at_random(signal.SIGTERM, False),
        143,
        "Stopped by SIGTERM",
    ),
    "SIGTERM to the first process": (
        strike_at_random(signal.SIGTERM, True),
        143,
        "Stopped by SIGTERM",
    ),
    "SIGINT to all processes": (strike_at_random(signal.SIGINT, False), 130, "Stopped by SIGINT"),
}
SIGNALS = [name for name in FAULTS if "SIGKILL" not in name]


def plan(kills: int) -> Iterator[tuple[str, int, int]]:
    """Name of the fault, workers and processes of each case: every third kill is in a write."""
    for number in range(kills):
        workers, processes = SETUPS[number % len(SETUPS)]
        name = "SIGKILL of all processes"
        if number % 3 == 2:
            name = "SIGKILL in a checkpoint's write"
        elif (workers, processes) == (2, 1):
            name = "SIGKILL of the first process"
        yield name, workers, processes
    for number, name in enumerate(SIGNALS):
        yield name, *SETUPS[(number + 1) % len(SETUPS)]


# --- what a run leaves -----------------------------------------------------------------------


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that must be equal, by name."""
    final = torch.load(folder / FINAL, weights_only=True)
    trainer = final["trainer"]
    state = trainer["hooks"]["ResumeState"]
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    return {
        "weights": final["model"],
        "optimizer": trainer["_trainer"]["optimizer"],
        "schedule": trainer["hooks"]["LRScheduler"],
        "random states": state["ranks"],
        "place in the data": state["loaders"],
        "metrics": [{k: v for k, v in line.items() if k not in CLOCK} for line in lines],
    }


def count_differences(ours: Any, theirs: Any) -> int:
    """Number of values that are not equal bit for bit; NaN equals NaN."""
    if isinstance(ours, torch.Tensor):
        return int(not (isinstance(theirs, torch.Tensor) and torch.equal(ours, theirs)))
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        return sum(count_differences(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        if len(ours) != len(theirs):
            return 1
        return sum(map(count_differences, ours, theirs))
    return int(repr(ours) != repr(theirs))


# --- cases -----------------------------------------------------------------------------------


def perform(name: str, whole: Training, seconds: float, rng: random.Random) -> dict[str, Any]:
    """Strike a run like ``whole`` and resume it; returns what happened."""
    strike, code, words = FAULTS[name]
    for _ in range(20):  # a fault can come too late, or miss a write
        folder = whole.folder.with_name(f"{whole.folder.name}-{rng.getrandbits(32):08x}")
        run = Training(folder, whole.data, whole.workers, whole.processes).start()
        in_time = strike(run, rng, seconds)
        struck, printed = run.wait_for_all(), run.console
        # a signal in the last iteration or after it stops nothing: the run is finished
        if in_time and not (name in SIGNALS and FINAL in run.files):
            break
    else:
        raise RuntimeError(f"{name}: none of 20 attempts struck a training while it ran")
    ended = run.start().wait_for_all()
    ours, theirs = outcome(run.folder), outcome(whole.folder)
    different = {key: count_differences(ours[key], theirs[key]) for key in theirs}
    return {
        "fault": name,
        "workers": run.workers,
        "processes": run.processes,
        "exit code": struck,
        "as documented": struck == code and (not words or _prints_only(words, printed)),
        "different": {key: number for key, number in different.items() if number},
        "identical": not ended and not any(different.values()),
    }


def _prints_only(words: str, printed: str) -> bool:
    return printed.count(words) == 1 and "Traceback" not in printed


def table(records: list[dict[str, Any]]) -> str:
    """A row for each fault, number of workers and of processes."""
    keys = ("fault", "workers", "processes")
    rows: dict[tuple, list[dict]] = {}
    for record in records:
        rows.setdefault(tuple(record[key] for key in keys), []).append(record)
    lines = [
        [
            *key,
            ", ".join(sorted({str(one["exit code"]) for one in group})),
            *(
                f"{sum(one[k] for one in group)} of {len(group)}"
                for k in ("as documented", "identical")
            ),
        ]
        for key, group in rows.items()
    ]
    headers = [*keys, "exit code", "exit code and message as documented", "identical"]
    return tabulate(lines, headers, tablefmt="pipe")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=25, help="number of SIGKILLs (25)")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments (0)")
    parser.add_argument("--only", help="only faults whose name contains this")
    args = parser.parse_args()
    os.environ.update(CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1")
    rng, records = random.Random(args.seed), []
    cases = [case for case in plan(args.kills) if not args.only or args.only in case[0]]
    with tempfile.TemporaryDirectory() as folder:
        data = write_dataset(RELAY, Path(folder, "relay"))
        whole: dict[tuple[int, int], tuple[Training, float]] = {}
        for name, *setup in cases:
            if tuple(setup) not in whole:
                run = Training(Path(folder, "workers{}processes{}".format(*setup)), data, *setup)
                whole[tuple(setup)] = run, _time(run)
            records.append(perform(name, *whole[tuple(setup)], rng))
            print(json.dumps(records[-1]), flush=True)
            result = {"machine": machine(), "seed": args.seed, "cases": records}
            RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(table(records))


def _time(run: Training) -> float:
    """Let a training run to its end; returns the seconds of the training itself."""
    run.start().wait_for(lambda: TRAINS in run.console)
    start = time.monotonic()
    if run.wait_for_all():
        raise RuntimeError(run.console[-2000:])
    return time.monotonic() - start


if __name__ == "__main__":
    main()
