"""What the sweeps over seeds share: a process for each run, and the record of the results.

A run is a named tuple ``(name, seed, threads)`` with a ``folder``.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

RESULTS = "demo.json"  # in a run's folder
OUTPUT = "output.txt"  # what its process printed
_writing = Lock()


@dataclass(frozen=True)
class Record:
    """A JSON file with the results of runs.

    Args:
        file: the file; it need not exist.
        jobs: all runs that it may have, in the order of the file.
        recipe: hash of what decides the results of runs with a name. Results with another hash do
            not count.
    """

    file: Path
    jobs: Sequence[Any]
    recipe: Callable[[str], str]

    def load(self) -> dict[Any, dict]:
        """Results of the current recipe, by run."""
        records = json.loads(self.file.read_text()) if self.file.exists() else []
        found = {(r["name"], r["seed"], r["threads"]): r for r in records}
        return {
            job: found[job]
            for job in self.jobs
            if job in found and found[job]["recipe"] == self.recipe(job.name)
        }

    def keep(self, job: Any, result: Mapping[str, Any]) -> None:
        """Add a run's result to the file, or replace it."""
        with _writing:
            kept = self.load()
            kept[job] = {**job._asdict(), "recipe": self.recipe(job.name), **result}
            text = json.dumps([kept[one] for one in self.jobs if one in kept], indent=1) + "\n"
            part = self.file.with_suffix(".part")
            part.write_text(text)
            part.rename(self.file)


def train_in_process(module: str, job: Any) -> dict[str, Any]:
    """Call ``python -m MODULE --one NAME SEED THREADS``, and return what it writes to
    :data:`RESULTS`.

    Raises:
        CalledProcessError: it fails; :data:`OUTPUT` in the run's folder has its output.
    """
    argv = [sys.executable, "-W", "ignore", "-m", module]
    argv += ["--one", job.name, str(job.seed), str(job.threads)]
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / OUTPUT).open("w") as log:
        env = {**os.environ, "OMP_NUM_THREADS": str(job.threads)}
        subprocess.run(argv, stdout=log, stderr=log, env=env, check=True)
    return json.loads((job.folder / RESULTS).read_text())


def perform_all(jobs: Iterable[Any], at_once: int, perform: Callable[[Any], Any]) -> list[Any]:
    """Call ``perform`` with each run, those with the fewest threads first; returns its results.

    Args:
        jobs: the runs.
        at_once: number of threads in use at a time.
        perform: it is called in several threads.
    """
    jobs, done = list(jobs), []
    for threads in sorted({job.threads for job in jobs}):
        with ThreadPoolExecutor(max(1, at_once // threads)) as pool:
            done += pool.map(perform, [job for job in jobs if job.threads == threads])
    return done


def count_threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def spread(values: Sequence[float], digits: int = 1, nothing: str = "–") -> str:
    """Mean and range as text."""
    if not values:
        return nothing
    low, high = (f"{v:.{digits}f}" for v in (min(values), max(values)))
    return f"{statistics.mean(values):.{digits}f} ({low} to {high})"


def list_versions(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each set of versions that runs were trained with."""
    versions = {json.dumps(r["versions"], sort_keys=True): r["versions"] for r in results}
    return [
        f"_{', '.join(f'{name} {version}' for name, version in packages.items())}_"
        for packages in versions.values()
    ]
