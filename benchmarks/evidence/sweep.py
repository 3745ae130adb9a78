"""Train what is missing, in processes of one thread each: ``python -m benchmarks.evidence.sweep``.

It may be stopped at any time: a run that has ended is kept, one in the middle begins anew.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from .runs import RUNS, TABLES, TWINS, jobs
from .train import FULL, QUICK, Folders

Job = tuple[str, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES), metavar="TABLE")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (2)")
    parser.add_argument("--list", action="store_true", help="what there is and what is missing")
    parser.add_argument(
        "--quick", action="store_true", help="baseline, control and one block, short, into output/"
    )
    args = parser.parse_args()
    folders = QUICK if args.quick else FULL
    wanted = [(name, 1) for name in TWINS] if args.quick else jobs(args.only)
    states = {job: state(job, folders) for job in wanted}
    if args.list:
        for (name, seed), said in states.items():
            print(f"{said:8} {name}, seed {seed}")
        return
    missing = [job for job in wanted if states[job] != "done" or needed(job, states, folders)]
    print(f"{len(wanted) - len(missing)} runs are there, {len(missing)} to do", flush=True)
    failed = Sweep(missing, folders).run(args.jobs)
    if failed:
        sys.exit(f"failed: {', '.join(f'{name}, seed {seed}' for name, seed in failed)}")


def state(job: Job, folders: Folders) -> str:
    """done, missing, or stale: made from other settings."""
    name, seed = job
    path = folders.result(name, seed)
    if not path.exists():
        return "missing"
    key = folders.run(name).key(seed)
    return "done" if json.loads(path.read_text())["key"] == key else "stale"


def needed(job: Job, states: dict[Job, str], folders: Folders) -> bool:
    """Whether a run yet to come starts from weights that are not here (results may be copied)."""
    name, seed = job
    waiting = [n for n, s in states if s == seed and RUNS[n].start == name]
    return any(states[n, seed] != "done" for n in waiting) and not ready(waiting[0], seed, folders)


def ready(name: str, seed: int, folders: Folders) -> bool:
    """Whether the weights that a run starts from are there."""
    start = RUNS[name].start
    return not start or folders.weights(RUNS[start], seed).exists()


class Sweep:
    """Jobs, the oldest that is ready first."""

    def __init__(self, missing: list[Job], folders: Folders):
        self.left, self.folders = list(missing), folders
        self.running: dict[Job, subprocess.Popen] = {}
        self.failed: list[Job] = []
        self.total, self.began = len(missing), time.perf_counter()

    def run(self, at_once: int) -> list[Job]:
        """All of them; returns those that failed."""
        try:
            while self.left or self.running:
                while len(self.running) < at_once and (job := self.next()):
                    self.left.remove(job)
                    self.running[job] = self.start(job)
                if not self.running:  # what they wait for has failed
                    return self.failed + self.left
                time.sleep(0.2)
                for job in [j for j, process in self.running.items() if process.poll() is not None]:
                    self.finish(job, self.running.pop(job).returncode)
        finally:
            for process in self.running.values():
                process.terminate()
        return self.failed

    def next(self) -> Job | None:
        return next((job for job in self.left if ready(*job, self.folders)), None)

    def log(self, job: Job) -> Path:
        return self.folders.work / "logs" / f"{job[0]}-seed{job[1]}.txt"

    def start(self, job: Job) -> subprocess.Popen:
        name, seed = job
        words = [sys.executable, "-W", "ignore", "-m", "benchmarks.evidence.train", name]
        words += ["--seed", str(seed), *(["--quick"] if self.folders.quick else [])]
        path = self.log(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        with path.open("w") as log:
            return subprocess.Popen(words, stdout=log, stderr=log, env=one_thread)

    def finish(self, job: Job, code: int) -> None:
        """Say what came of it, and how long the others may take at the pace so far."""
        if code:
            self.failed.append(job)
            said = f"FAILED, see {self.log(job)}"
        else:
            result = json.loads(self.folders.result(*job).read_text())
            aps = ", ".join(f"{task} AP {ap:.1f}" for task, ap in result["ap"].items())
            said = f"{aps} in {result['minutes']:.1f} minutes"
        unfinished = len(self.left) + len(self.running)
        done = self.total - unfinished
        left = (time.perf_counter() - self.began) / done * unfinished / 60
        print(
            f"[{done}/{self.total}] {job[0]}, seed {job[1]}: {said}; {left:.0f} min left",
            flush=True,
        )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from here")
