"""Train the missing runs, one thread for each: ``python -m benchmarks.evidence.sweep``.

It may be stopped at any time: finished runs are kept, unfinished ones start again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from .runs import RUNS, TABLES, TWINS, jobs
from .train import FULL, QUICK, Folders

Job = tuple[str, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES), metavar="TABLE")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (2)")
    parser.add_argument("--list", action="store_true", help="list the state of all runs")
    parser.add_argument(
        "--quick", action="store_true", help="short runs of three models, into output/"
    )
    args = parser.parse_args()
    folders = QUICK if args.quick else FULL
    wanted = [(name, 1) for name in TWINS] if args.quick else jobs(args.only)
    states = {job: state(job, folders) for job in wanted}
    if args.list:
        for (name, seed), known in states.items():
            print(f"{known:8} {name}, seed {seed}")
        return
    missing = [job for job in wanted if states[job] != "done" or needed(job, states, folders)]
    print(f"{len(wanted) - len(missing)} runs are done, {len(missing)} to do", flush=True)
    failed = sweep(missing, folders, args.jobs)
    if failed:
        sys.exit(f"failed: {', '.join(f'{name}, seed {seed}' for name, seed in sorted(failed))}")


def state(job: Job, folders: Folders) -> str:
    """State of a run: "done", "missing", or "stale" if its result is from other settings."""
    name, seed = job
    path = folders.result(name, seed)
    if not path.exists():
        return "missing"
    key = folders.run(name).key(seed)
    return "done" if json.loads(path.read_text())["key"] == key else "stale"


def needed(job: Job, states: dict[Job, str], folders: Folders) -> bool:
    """Whether a run that is not done starts from this one, whose weights do not exist here. They
    are missing if the result was made on another machine."""
    name, seed = job
    is_start = any(states[n, s] != "done" for n, s in states if (RUNS[n].start, s) == job)
    return is_start and not folders.weights(RUNS[name], seed).exists()


def sweep(missing: list[Job], folders: Folders, at_once: int) -> list[Job]:
    """Train runs, ``at_once`` at a time; returns those that failed."""
    failed, futures, began = [], {}, time.perf_counter()
    pool = ThreadPoolExecutor(at_once)
    try:
        for name, seed in missing:  # a run comes after the one that it starts from
            first = futures.get((RUNS[name].start, seed))
            futures[name, seed] = pool.submit(train, (name, seed), folders, first)
        jobs_of = {future: job for job, future in futures.items()}
        for done, future in enumerate(as_completed(jobs_of), 1):
            job = jobs_of[future]
            if future.result():
                failed.append(job)
            minutes = (time.perf_counter() - began) / done / 60
            name = f"[{done}/{len(missing)}] {job[0]}, seed {job[1]}"
            failure = f"FAILED, see {log_of(job, folders)}"
            result = failure if job in failed else format_result(job, folders)
            left = f"{minutes * (len(missing) - done):.0f} minutes left"
            print(f"{name}: {result}; {left}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    return failed


def train(job: Job, folders: Folders, first: Future | None) -> int:
    """Train a run in a separate process after ``first`` has ended; returns the exit code."""
    if first:
        first.result()
    name, seed = job
    argv = [sys.executable, "-W", "ignore", "-m", "benchmarks.evidence.train", name]
    argv += ["--seed", str(seed), *(["--quick"] if folders.quick else [])]
    path = log_of(job, folders)
    path.parent.mkdir(parents=True, exist_ok=True)
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    with path.open("w") as log:
        return subprocess.run(argv, stdout=log, stderr=log, env=one_thread).returncode


def log_of(job: Job, folders: Folders) -> Path:
    return folders.work / "logs" / f"{job[0]}-seed{job[1]}.txt"


def format_result(job: Job, folders: Folders) -> str:
    result = json.loads(folders.result(*job).read_text())
    aps = ", ".join(f"{task} AP {ap:.1f}" for task, ap in result["ap"].items())
    return f"{aps}, {result['minutes']:.1f} minutes"


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command continues from here")
