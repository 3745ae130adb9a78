"""The model zoo's entries: this package's index.yaml, and an index of your own."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..errors import UsageError

SHIPPED = Path(__file__).with_name("index.yaml")
REMOTE = ("http://", "https://", "detectron2://")  # how a checkpoint's URL starts
OWN = "NL_DETECTRON_ZOO"  # the environment variable that names an index of your own
Index = dict[str, dict[str, Any]]  # entries by the config's name; index.yaml describes their keys


@cache
def shipped() -> Index:
    """The entries of this package."""
    return read(SHIPPED)


def entries() -> Index:
    """The entries of this package, updated with the index that NL_DETECTRON_ZOO names.

    Raises:
        UsageError: as in :func:`read`.
    """
    file = os.environ.get(OWN)
    own = read(Path(file)) if file else {}
    return shipped() | {name: shipped().get(name, {}) | entry for name, entry in own.items()}


def read(file: Path) -> Index:
    """Read the entries of an index and make the paths in it, relative to its folder, absolute.

    Raises:
        UsageError: as in :func:`parsed`, or an entry names a file outside the index's folder, a
            config that is not YAML, a checkpoint without its SHA-256, or no checkpoint in trained.
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
    return index


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
            "written by tools/publish_checkpoint.py"
        )
    return index
