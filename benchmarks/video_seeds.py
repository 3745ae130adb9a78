"""Train the demo of videos and its variants from many seeds: ``python -m benchmarks.video_seeds``.

It takes hours and may be stopped at any time; the same command continues with the missing runs.
Every run is kept in docs/relay_video.json and shown in docs/video_evidence.md, including runs that
do not learn, and those that end with an error, which the same command trains again.
"""

import argparse
import json
import signal
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from nl_detectron.engine import build_on_meta
from nl_detectron.engine.video_scores import read_scores
from nl_detectron.relay_demo import train_relay_demo
from nl_detectron.video_relay import cache_folder, write_videos
from nl_detectron_cli.program import run

from . import video_runs
from .seed_runs import OUTPUT, RESULTS, Record, count_threads, perform_all, train_in_process
from .video_distance import accuracy_by_distance
from .video_page import PAGE, write_page
from .video_runs import BLOCK, GROUPS, TUNING, Job, videos_of

MODULE = "benchmarks.video_seeds"
# what subprocess has of a run that Ctrl-C or SIGTERM stopped
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 if a run ended with an error."""
    args = parse_arguments(words)
    if args.one:
        name, seed, threads = args.one
        job = Job(name, int(seed), int(threads))
        result = train_one(job.config())
        (job.folder / RESULTS).write_text(json.dumps(result))
        return 0
    if args.tune:
        return sweep(args.jobs, video_runs.tuning_record(), args.workers)
    try:
        return 0 if args.report else sweep(args.jobs, video_runs.record(), args.workers)
    finally:
        write_page(video_runs.record().load())
        print(f"wrote {PAGE}")


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with ``jobs``: the runs that it asks for."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(GROUPS),
        metavar="GROUP",
        help=f"some of {', '.join(GROUPS)}",
    )
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="only these seeds")
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        metavar="N",
        help="runs of one thread at a time (2); of two threads half as many",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--report", action="store_true", help="only write the page, from the results")
    what.add_argument(
        "--tune",
        action="store_true",
        help=f"only print the demo's accuracy for seeds {TUNING[0]} to {TUNING[-1]}, which the "
        "page does not show",
    )
    what.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # a run: NAME SEED THREADS
    args = parser.parse_args(words)
    if args.tune and args.only:
        parser.error("--tune is of the demo alone: give it without --only")
    if args.workers < 1:
        parser.error(f"--workers: expected 1 or more, got {args.workers}")
    jobs = (
        [Job(BLOCK, seed, 1) for seed in TUNING]
        if args.tune
        else video_runs.jobs(args.only or GROUPS)
    )
    known = sorted({job.seed for job in jobs})
    unknown = set(args.seeds or ()) - set(known)
    if unknown:
        parser.error(f"--seeds: expected some of {known}, got {sorted(unknown)}")
    args.jobs = [job for job in jobs if not args.seeds or job.seed in args.seeds]
    return args


def sweep(jobs: Sequence[Job], record: Record, workers: int) -> int:
    """Train the runs that the record lacks; returns the exit code.

    Args:
        jobs: the runs that are wanted.
        record: gets their results.
        workers: number of threads in use at a time.
    """
    results = record.load()
    missing = [job for job in jobs if "video" not in results.get(job, {})]
    print(f"{len(jobs) - len(missing)} runs are done, {len(missing)} to do", flush=True)
    if not missing:
        return 0
    prepare_videos(missing)
    done = perform_all(missing, workers, partial(perform, record=record))
    if failed := done.count(False):
        print(f"{failed} of {len(done)} runs ended with an error; the same command repeats them")
    return 1 if failed else 0


def prepare_videos(jobs: Sequence[Job]) -> None:
    """Write the videos before the first run, whose seconds would have this time too."""
    for relay in {videos_of(Job(name, 0, 1).config()) for name in {job.name for job in jobs}}:
        began = time.perf_counter()
        folder = write_videos(relay)
        print(f"videos: {folder}, {time.perf_counter() - began:.0f} seconds", flush=True)


def perform(job: Job, record: Record) -> bool:
    """Train a run in a process of its own and keep its result, or the last line of its error.

    Returns:
        Whether it came to its end.

    Raises:
        CalledProcessError: a signal stopped it; nothing is kept.
    """
    title = f"{job.name}, seed {job.seed}, {count_threads(job.threads)}"
    try:
        result = train_in_process(MODULE, job)
    except subprocess.CalledProcessError as error:
        if error.returncode in STOPPED:
            raise
        lines = (job.folder / OUTPUT).read_text().split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        record.keep(job, {"error": last[:200]})
        print(f"{title}: failed, see {job.folder / OUTPUT}: {last}", flush=True)
        return False
    record.keep(job, result)
    print(f"{title}: {result['video']:.1f} % in {result['seconds']:.0f} s", flush=True)
    return True


def train_one(cfg: CfgNode) -> dict:
    """Train and evaluate a run.

    Returns:
        ``video``, the top-1 accuracy in percent; ``distances``, of :func:`accuracy_by_distance`;
        ``seconds``, ``parameters`` and ``versions``.

    Raises:
        RuntimeError: the scores on disk have another accuracy than the evaluation.
    """
    began = time.perf_counter()
    results = train_relay_demo(cfg)
    seconds = time.perf_counter() - began
    distances = measure_distances(cfg)
    right, videos = (sum(d[key] for d in distances) for key in ("right", "videos"))
    if abs(100 * right / videos - results["video"]) > 0.06:  # it is rounded to 0.1
        raise RuntimeError(
            f"the scores of {cfg.OUTPUT_DIR} are right for {right} of {videos} videos, but the "
            f"evaluation's accuracy is {results['video']}"
        )
    return {
        "video": results["video"],
        "distances": distances,
        "seconds": round(seconds, 1),
        "parameters": sum(p.numel() for p in build_on_meta(cfg).parameters()),
        "versions": results["versions"],
    }


def measure_distances(cfg: CfgNode) -> list[dict[str, int]]:
    """Accuracy by distance of a run's evaluation, from the scores that it has left."""
    [name] = cfg.DATASETS.TEST
    places = json.loads((cache_folder(videos_of(cfg)) / "val.json").read_text())
    return accuracy_by_distance(
        read_scores(Path(cfg.OUTPUT_DIR, "inference", name)),
        {record["video_id"]: record["label"] for record in DatasetCatalog.get(name)},
        {place["video_id"]: abs(place["patch"] - place["shape"]) for place in places},
    )


if __name__ == "__main__":
    run(main)
