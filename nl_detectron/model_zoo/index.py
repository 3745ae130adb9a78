"""The model zoo's entries: this package's index.yaml, and an index of your own."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from nl_detectron_cli.names import program_name

from ..errors import UsageError

SHIPPED = Path(__file__).with_name("index.yaml")
REMOTE = ("http://", "https://", "detectron2://")  # how a checkpoint's URL starts
UNKNOWN = "unknown"  # the SHA-256 of a checkpoint whose publisher does not state it
NEEDED = {"checkpoint", "source", "sha256"}  # keys of another project's checkpoint
OWN = "NL_DETECTRON_ZOO"  # the environment variable that names an index of your own
Index = dict[str, dict[str, Any]]  # entries by the config's name; index.yaml describes their keys


@cache
def shipped() -> Index:
    """The entries of this package."""
    return read(SHIPPED)


def entries() -> Index:
    """The entries of this package, updated with the index that NL_DETECTRON_ZOO names.

    Raises:
        UsageError: as in :func:`read`, or ``converted`` of an entry lacks a key.
    """
    file = os.environ.get(OWN)
    own = read(Path(file)) if file else {}
    own = {name: _laid_over(shipped().get(name, {}), own[name]) for name in own}
    for name, entry in own.items():
        if "converted" in entry and (missing := NEEDED - entry["converted"].keys()):
            raise UsageError(
                f"index {file!r}: converted of {name} lacks {', '.join(sorted(missing))}"
            )
    return shipped() | own


def _laid_over(entry: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """An entry with one's own keys over it, one by one of those of ``converted``."""
    both = {key: entry[key] | own[key] for key in entry.keys() & own.keys() & {"converted"}}
    return entry | own | both


def read(file: Path) -> Index:
    """Read the entries of an index and make the paths in it, relative to its folder, absolute.

    Raises:
        UsageError: as in :func:`parsed`, or an entry names a file outside the index's folder, a
            config that is not YAML, a checkpoint without its SHA-256, or no checkpoint in trained.
            That of ``converted``, which another project published, may be "unknown".
    """
    index = parsed(file)
    for name, entry in index.items():
        source, trained = f"entry {name!r} of index {str(file)!r}", entry.get("trained", {})
        if not isinstance(trained, dict):
            raise UsageError(f"{source}: trained has no keys")
        if "trained" in entry and "checkpoint" not in trained:
            raise UsageError(
                f"{source}: trained has no checkpoint; give a path or a URL, and its sha256"
            )
        if "config" in entry:
            config = str(entry["config"])
            if not config.endswith((".yaml", ".yml")):
                raise UsageError(
                    f"{source}: config {config} is refused: expected a YAML file, because a "
                    "LazyConfig is Python code"
                )
            entry["config"] = _resolve(file.parent, config, source)
        if "checkpoint" in trained:
            checkpoint = str(trained["checkpoint"])
            if not checkpoint.startswith(REMOTE):
                trained["checkpoint"] = _resolve(file.parent, checkpoint, source)
            if not re.fullmatch("[0-9a-f]{64}", str(trained.get("sha256"))):
                raise UsageError(f"{source}: its checkpoint needs sha256, 64 hexadecimal digits")
        if "converted" in entry:
            _check_converted(entry["converted"], file, source)
    return index


def _check_converted(converted: Any, file: Path, source: str) -> None:
    """Check the keys that an entry's ``converted`` has, and make a path absolute."""
    if not isinstance(converted, dict):
        raise UsageError(f"{source}: converted has no keys")
    checkpoint = str(converted.get("checkpoint", ""))
    if checkpoint and not checkpoint.startswith(REMOTE):
        converted["checkpoint"] = _resolve(file.parent, checkpoint, source)
    known = str(converted.get("sha256", UNKNOWN))
    if known != UNKNOWN and not re.fullmatch("[0-9a-f]{8,64}", known):
        raise UsageError(
            f"{source}: sha256 of converted: expected 64 hexadecimal digits, the first ones, at "
            f"least 8, or {UNKNOWN}, got {known}"
        )


def _resolve(folder: Path, path: str, source: str) -> str:
    """Absolute path of a file in the folder of an index."""
    inside = folder.resolve()
    if not (inside / path).resolve().is_relative_to(inside):
        raise UsageError(f"{source}: {path} leaves its folder, which is refused")
    return str(folder.absolute() / path)


def parsed(file: Path) -> Index:
    """Read the entries of an index as they are written.

    Raises:
        UsageError: the file cannot be read or is not an index.
    """
    try:
        index = yaml.safe_load(file.read_text())
    except OSError as error:
        reason = error.strerror
        raise UsageError(f"index {str(file)!r} of a model zoo cannot be read: {reason}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"index {str(file)!r} of a model zoo is not YAML: {reason}") from error
    if not isinstance(index, dict) or not all(isinstance(e, dict) for e in index.values()):
        raise UsageError(
            f"index {str(file)!r} of a model zoo: expected entries by the name of a config, as "
            f"written by {program_name('publish')}"
        )
    return index
