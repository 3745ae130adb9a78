"""Train the demo from seeds that no setting was chosen on: ``python -m benchmarks.demo_seeds``.

It takes hours and may be stopped at any time; the same command continues with the missing runs.
Every run is kept in docs/relay_demo.json and shown in docs/demo_seeds.md, including runs that do
not learn. ``--report`` only writes the page.
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from nl_detectron.engine import load_config
from nl_detectron.relay import RELAY_DATASETS
from nl_detectron.relay_demo import TASKS, train_relay_demo

from .evidence.runs import DEFAULTS, fingerprint, non_default
from .seed_runs import (
    RESULTS,
    Record,
    count_threads,
    list_versions,
    perform_all,
    spread,
    train_in_process,
)

ROOT = Path(__file__).parent
RECORD = ROOT.parent / "docs" / "relay_demo.json"
PAGE = ROOT.parent / "docs" / "demo_seeds.md"
OUTPUT = Path("output/demo_seeds")
SEEDS, KEYPOINT_SEEDS = range(101, 121), range(101, 106)
LEAST = 75.0  # AP of every task with which a run counts as learned
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
        opts = ["MODEL.DEVICE", "cpu", "SEED", str(self.seed), "OUTPUT_DIR", str(self.folder)]
        if self.start:
            opts += ["MODEL.WEIGHTS", str(self.start.folder / "model_final.pth")]
        return load_config(str(ROOT.parent / f"configs/Demo/{self.name}.yaml"), opts)


@cache
def recipe(name: str) -> str:
    """Hash of what decides a config's results. Runs with another hash are trained again."""
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
    """All runs; each comes after the run that it starts from."""
    all_jobs = [Job("relay_mask_rcnn_nl", s, threads) for threads in THREADS for s in SEEDS]
    all_jobs += [Job("relay_mask_rcnn", seed, 1) for seed in SEEDS]
    all_jobs += [Job("relay_keypoint_rcnn_nl", s, n) for n in THREADS for s in KEYPOINT_SEEDS]
    all_jobs += [Job("relay_keypoint_rcnn", seed, 1) for seed in KEYPOINT_SEEDS]
    return sorted(all_jobs, key=lambda job: (job.threads, job.seed, job.name.replace("mask", "a")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--report", action="store_true", help="only write the page, from the results"
    )
    parser.add_argument("--jobs", type=int, default=2, help="threads in use at a time (2)")
    parser.add_argument("--one", nargs=3, metavar=("NAME", "SEED", "THREADS"), help="train one run")
    args = parser.parse_args()
    if args.one:
        name, seed, threads = args.one
        job = Job(name, int(seed), int(threads))
        results = train_relay_demo(job.config())
        (job.folder / RESULTS).write_text(json.dumps(results))
        return
    if not args.report:
        sweep(args.jobs)
    PAGE.write_text(page(load_results()))
    print(f"wrote {PAGE}")


def sweep(at_once: int) -> None:
    """Train the missing runs, those with one thread first; ``at_once`` is the number of threads."""
    results = load_results()
    done = {job for job in jobs() if job in results}
    needed = {job.start for job in jobs() if job not in done and job.start}
    missing = [
        job
        for job in jobs()
        if job not in done or (job in needed and not (job.folder / "model_final.pth").exists())
    ]
    print(f"{len(done)} runs are done, {len(missing)} to do", flush=True)
    for threads in THREADS:
        todo = [job for job in missing if job.threads == threads]
        for keypoints in (False, True):  # keypoint runs start from the others
            perform_all([job for job in todo if bool(job.start) == keypoints], at_once, perform)


def perform(job: Job) -> None:
    """Train a run in a separate process and add its result to the record."""
    results = train_in_process("benchmarks.demo_seeds", job)
    _record().keep(job, results)
    threads = count_threads(job.threads)
    print(f"{job.name}, seed {job.seed}, {threads}: {aps(results)}", flush=True)


def load_results() -> dict[Job, dict]:
    """Results of the current recipe, by job."""
    return _record().load()


def _record() -> Record:
    return Record(RECORD, jobs(), recipe)


def aps(result: dict | None) -> str:
    """AP of boxes and of masks or keypoints, as "80.1 / 82.3"."""
    return " / ".join(f"{result[task]:.1f}" for task in TASKS if task in result) if result else "–"


def page(results: dict[Job, dict]) -> str:
    """The Markdown page of all runs."""
    parts = [
        "# The demo from many seeds",
        f"`python -m benchmarks.demo_seeds` trains the relay demo from seeds {SEEDS[0]} to "
        f"{SEEDS[-1]}, with one thread and with two, and its twin without a block. All settings "
        "were chosen on seeds 1 to 20. The tables show box / mask AP on the far validation "
        f"images. A run counts as learned if every AP is at least {LEAST:.0f}. No run is left out. "
        "Minutes are wall-clock time on two cores that were also used for other work.",
        *section(results, "relay_mask_rcnn", SEEDS),
        "## Keypoints",
        "These tables show box / keypoint AP. Each run starts from the Mask R-CNN above with the "
        "same seed and number of threads.",
        *section(results, "relay_keypoint_rcnn", KEYPOINT_SEEDS),
    ]
    parts += list_versions(results.values())
    return "\n\n".join(parts) + "\n"


def section(results: dict[Job, dict], name: str, seeds: Iterable[int]) -> Iterator[str]:
    """Two tables of a config and its twin: over all seeds, and by seed."""
    columns = {f"block, {count_threads(n)}": (f"{name}_nl", n) for n in THREADS}
    columns["twin, 1 thread"] = (name, 1)
    rows = []
    for label, (config, threads) in columns.items():
        done = [results[job] for s in seeds if (job := Job(config, s, threads)) in results]
        tasks = [task for task in TASKS if done and task in done[0]]
        learned = sum(all(r[task] >= LEAST for task in tasks) for r in done)
        by_task = [spread([r[task] for r in done]) for task in tasks] or ["–", "–"]
        minutes = spread([r["minutes"] for r in done])
        rows.append([label, f"{len(done)} of {len(seeds)}", f"{learned} of {len(done)}"])
        rows[-1] += [*by_task, minutes]
    headers = ["mean (range)", "runs", f"at least {LEAST:.0f}", "box AP"]
    headers += ["keypoint AP" if "keypoint" in name else "mask AP", "minutes"]
    yield tabulate(rows, headers, tablefmt="pipe")
    by_seed = [
        [seed, *(aps(results.get(Job(config, seed, n))) for config, n in columns.values())]
        for seed in seeds
    ]
    yield tabulate(by_seed, ["seed", *columns], tablefmt="pipe")


if __name__ == "__main__":
    main()
