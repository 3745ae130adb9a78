"""Train the demo from seeds that no setting was chosen on: ``python -m benchmarks.demo_seeds``.

It takes hours and may be stopped at any time: the same command goes on with the runs that are
missing. Every run is kept in docs/relay_demo.json and shown in docs/demo_seeds.md, failures
included. ``--report`` makes the page alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from tabulate import tabulate

from nl_detectron.engine import load_config
from nl_detectron.relay import RELAY_DATASETS
from nl_detectron.relay_demo import TASKS, train_relay_demo

from .evidence.runs import DEFAULTS, fingerprint, non_default

ROOT = Path(__file__).parent
RECORD = ROOT.parent / "docs" / "relay_demo.json"
PAGE = ROOT.parent / "docs" / "demo_seeds.md"
OUTPUT = Path("output/demo_seeds")
SEEDS, KEYPOINT_SEEDS = range(101, 121), range(101, 106)
LEAST = 75.0  # AP of every task that a run of the demo promises
THREADS = (1, 2)


class Job(NamedTuple):
    """A run of the demo: a config in configs/Demo, a seed and a number of threads."""

    name: str
    seed: int
    threads: int

    @property
    def start(self) -> "Job | None":
        """The run whose weights this one starts from."""
        if "keypoint" not in self.name:
            return None
        return self._replace(name=self.name.replace("keypoint", "mask"))

    @property
    def folder(self) -> Path:
        return OUTPUT / f"{self.name}-{self.threads}-seed{self.seed}"

    def config(self):
        words = ["MODEL.DEVICE", "cpu", "SEED", str(self.seed), "OUTPUT_DIR", str(self.folder)]
        if self.start:
            words += ["MODEL.WEIGHTS", str(self.start.folder / "model_final.pth")]
        return load_config(str(ROOT.parent / f"configs/Demo/{self.name}.yaml"), words)


@cache
def recipe(name: str) -> str:
    """Hash of what decides the results of a config: those of another recipe are made anew."""
    job = Job(name, 0, 1)
    cfg = job.config().clone()
    cfg.defrost()
    cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = "", ""
    images = RELAY_DATASETS[cfg.DATASETS.TRAIN[0].removesuffix("_train")]
    parts = [
        non_default(cfg, DEFAULTS),
        fingerprint(images),
        recipe(job.start.name) if job.start else "",
    ]
    return sha256(json.dumps(parts).encode()).hexdigest()[:16]


def jobs() -> list[Job]:
    """All runs, so that one comes after the run that it starts from."""
    found = [Job("relay_mask_rcnn_nl", s, threads) for threads in THREADS for s in SEEDS]
    found += [Job("relay_mask_rcnn", seed, 1) for seed in SEEDS]
    found += [Job("relay_keypoint_rcnn_nl", s, n) for n in THREADS for s in KEYPOINT_SEEDS]
    found += [Job("relay_keypoint_rcnn", seed, 1) for seed in KEYPOINT_SEEDS]
    return sorted(found, key=lambda job: (job.threads, job.seed, job.name.replace("mask", "a")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--report", action="store_true", help="the page alone, from the results")
    parser.add_argument("--jobs", type=int, default=2, help="threads in use at a time (2)")
    parser.add_argument("--one", nargs=3, metavar=("NAME", "SEED", "THREADS"), help="in here")
    args = parser.parse_args()
    if args.one:
        name, seed, threads = args.one
        job = Job(name, int(seed), int(threads))
        results = train_relay_demo(job.config())
        (job.folder / "demo.json").write_text(json.dumps(results))
        return
    if not args.report:
        sweep(args.jobs)
    PAGE.write_text(page(load_results()))
    print(f"wrote {PAGE}")


def sweep(at_once: int) -> None:
    """Train what is missing, first runs of one thread, several at a time."""
    have = load_results()
    lock, done = Lock(), {job for job in jobs() if job in have}
    needed = {job.start for job in jobs() if job not in done and job.start}
    missing = [
        job
        for job in jobs()
        if job not in done or (job in needed and not (job.folder / "model_final.pth").exists())
    ]
    print(f"{len(done)} runs are there, {len(missing)} to do", flush=True)
    for threads in THREADS:
        todo = [job for job in missing if job.threads == threads]
        for keypoints in (False, True):  # after the runs that they start from
            with ThreadPoolExecutor(max(1, at_once // threads)) as pool:
                batch = [job for job in todo if bool(job.start) == keypoints]
                list(pool.map(lambda job: perform(job, lock), batch))


def perform(job: Job, lock: Lock) -> None:
    """Train in a process of its own and keep the result."""
    words = [sys.executable, "-W", "ignore", "-m", "benchmarks.demo_seeds"]
    words += ["--one", job.name, str(job.seed), str(job.threads)]
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / "output.txt").open("w") as log:
        env = {**os.environ, "OMP_NUM_THREADS": str(job.threads)}
        subprocess.run(words, stdout=log, stderr=log, env=env, check=True)
    results = json.loads((job.folder / "demo.json").read_text())
    with lock:
        have = load_results()
        have[job] = {**job._asdict(), "recipe": recipe(job.name), **results}
        text = json.dumps([have[job] for job in jobs() if job in have], indent=1) + "\n"
        aside = RECORD.with_suffix(".part")
        aside.write_text(text)
        aside.rename(RECORD)
    print(f"{job.name}, seed {job.seed}, {job.threads} threads: {aps(results)}", flush=True)


def load_results() -> dict[Job, dict]:
    """Results of the recipe of today."""
    records = json.loads(RECORD.read_text()) if RECORD.exists() else []
    found = {Job(r["name"], r["seed"], r["threads"]): r for r in records}
    return {job: r for job, r in found.items() if job in jobs() and r["recipe"] == recipe(job.name)}


def aps(result: dict | None) -> str:
    """AP of box and mask or keypoints, as "80.1 / 82.3"."""
    return " / ".join(f"{result[task]:.1f}" for task in TASKS if task in result) if result else "–"


def page(have: dict[Job, dict]) -> str:
    """The Markdown page of all runs."""
    parts = [
        "# The demo from seeds that nobody had used",
        f"`python -m benchmarks.demo_seeds` trains the relay demo from seeds {SEEDS[0]} to "
        f"{SEEDS[-1]}, which no setting was chosen on (those were 1 to 20), with one thread and "
        "with two, and its twin without a block. Box / mask AP on the far validation images. "
        f"A run has learned when every AP is at least {LEAST:.0f}. No run is left out. Minutes are "
        "wall-clock time on two cores that other work shared.",
        *section(have, "relay_mask_rcnn", SEEDS),
        "## Keypoints",
        "Box / keypoint AP. Each run starts from the Mask R-CNN above of its seed and number of "
        "threads.",
        *section(have, "relay_keypoint_rcnn", KEYPOINT_SEEDS),
    ]
    versions = {json.dumps(r["versions"], sort_keys=True): r["versions"] for r in have.values()}
    for found in versions.values():
        parts.append(f"_{', '.join(f'{name} {version}' for name, version in found.items())}_")
    return "\n\n".join(parts) + "\n"


def section(have: dict[Job, dict], name: str, seeds: Iterable[int]) -> Iterator[str]:
    """Two tables of a config and its twin: over all seeds, and seed by seed."""
    columns = {f"block, {_threads(n)}": (f"{name}_nl", n) for n in THREADS}
    columns["twin, 1 thread"] = (name, 1)
    rows = []
    for label, (config, threads) in columns.items():
        found = [have[job] for s in seeds if (job := Job(config, s, threads)) in have]
        tasks = [task for task in TASKS if found and task in found[0]]
        learned = sum(all(r[task] >= LEAST for task in tasks) for r in found)
        spread = [_spread([r[task] for r in found], 1) for task in tasks] or ["–", "–"]
        minutes = _spread([r["minutes"] for r in found], 1)
        rows.append([label, f"{len(found)} of {len(seeds)}", f"{learned} of {len(found)}"])
        rows[-1] += [*spread, minutes]
    headers = ["mean (range)", "runs", f"at least {LEAST:.0f}", "box AP"]
    headers += ["keypoint AP" if "keypoint" in name else "mask AP", "minutes"]
    yield tabulate(rows, headers, tablefmt="pipe")
    by_seed = [
        [seed, *(aps(have.get(Job(config, seed, n))) for config, n in columns.values())]
        for seed in seeds
    ]
    yield tabulate(by_seed, ["seed", *columns], tablefmt="pipe")


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _spread(values: list[float], digits: int) -> str:
    if not values:
        return "–"
    low, high = (f"{v:.{digits}f}" for v in (min(values), max(values)))
    return f"{statistics.mean(values):.{digits}f} ({low} to {high})"


if __name__ == "__main__":
    main()
