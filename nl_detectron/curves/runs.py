"""The runs to plot: their metrics.json, grouped by what they are seeds of."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import UsageError

METRICS = "metrics.json"
SEED = re.compile(r"seed[-_]?\d+")  # the folder of one of several runs of a group


def group_runs(
    runs: Sequence[str], groups: Sequence[str] = (), say: Callable[[str], None] | None = None
) -> dict[str, list[Path]]:
    """The metrics.json of every run by the name of its group, each once.

    Args:
        runs: output folders, or their metrics.json. NAME/seed1, NAME/seed2 and so on are seeds of
            NAME, and NAME alone is all of them.
        groups: ``NAME=RUN,RUN,...``.
        say: takes a line for each of the runs that is not there, if others are; by default each
            such run is an error.

    Raises:
        UsageError: a run that is not there, or a group that is malformed or has a name twice.
    """
    found: dict[Path, list[Path]] = {}  # by folder: others may have the same name
    there = [run for run in runs if os.path.exists(run)]
    if there and say:
        for run in runs:
            if run not in there:
                say(f"there is no run {run} yet, so the others are plotted without it")
        runs = there
    for run in runs:
        for file in find_metrics(run):
            folder = file.parent if file.name == METRICS else file.with_suffix("")
            group = folder.parent if SEED.fullmatch(folder.name) else folder
            found.setdefault(group, []).append(file)
    named = {name: found[folder] for name, folder in shorten_names(list(found)).items()}
    for group in groups:
        name, _, members = group.partition("=")
        if not name or "" in members.split(","):
            raise UsageError(f"--group {group}: expected NAME=RUN,RUN,...")
        if name in named:
            raise UsageError(
                f"two kinds of runs are called {name!r}; give one another --group NAME"
            )
        named[name] = [file for run in members.split(",") for file in find_metrics(run)]
    return {name: list(dict.fromkeys(files)) for name, files in named.items()}


def find_metrics(run: str) -> list[Path]:
    """The metrics.json of a run, or of all seeds in a folder.

    Raises:
        UsageError: there is none.
    """
    path = Path(os.path.abspath(run))  # "." has no name
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"there is no run {run}; a RUN is the OUTPUT_DIR of a training")
    if (path / METRICS).is_file():
        return [path / METRICS]
    seeds = [f for f in path.glob(f"*/{METRICS}") if SEED.fullmatch(f.parent.name)]
    if not seeds:
        raise UsageError(
            f"{run} has no {METRICS}, nor folders seed1, seed2, ... that have one; Detectron2 "
            "writes it into OUTPUT_DIR as a training begins"
        )
    return sorted(seeds, key=lambda f: int(re.sub(r"\D", "", f.parent.name)))


def shorten_names(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders by as few of their last names as tell them apart."""
    for count in range(1, max((len(f.parts) for f in folders), default=0) + 1):
        names = {"/".join(f.parts[-count:]): f for f in folders}
        if len(names) == len(folders):
            return names
    return {}
