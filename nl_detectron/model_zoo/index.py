"""The model zoo's entries: this package's index.yaml, and an index of your own."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..errors import UsageError

SHIPPED = Path(__file__).with_name("index.yaml")
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
        UsageError: as in :func:`parsed`.
    """
    index = parsed(file)
    for entry in index.values():
        for node, key in ((entry, "config"), (entry.get("trained", {}), "checkpoint")):
            if key in node and "://" not in node[key]:
                node[key] = str(file.parent.absolute() / node[key])
    return index


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
