"""What the model zoo knows of each config: this package's index.yaml, and an index of your own."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..errors import UsageError

SHIPPED = Path(__file__).with_name("index.yaml")
OWN = "NL_DETECTRON_ZOO"  # the environment variable that names an index of your own
Index = dict[str, dict[str, Any]]  # entries by the config's name; their keys are told in index.yaml


@cache
def shipped() -> Index:
    """The entries of this package."""
    return read(SHIPPED)


def entries() -> Index:
    """The entries of this package, those of the index that NL_DETECTRON_ZOO names laid over them.

    Raises:
        UsageError: of :func:`read`.
    """
    file = os.environ.get(OWN)
    own = read(Path(file)) if file else {}
    return shipped() | {name: shipped().get(name, {}) | entry for name, entry in own.items()}


def read(file: Path) -> Index:
    """The entries of an index; paths in it are relative to its folder, and absolute here.

    Raises:
        UsageError: of :func:`parsed`.
    """
    index = parsed(file)
    for entry in index.values():
        for node, key in ((entry, "config"), (entry.get("trained", {}), "checkpoint")):
            if key in node and "://" not in node[key]:
                node[key] = str(file.parent.absolute() / node[key])
    return index


def parsed(file: Path) -> Index:
    """The entries of an index as they are written.

    Raises:
        UsageError: no such file, or no index.
    """
    try:
        index = yaml.safe_load(file.read_text())
    except OSError as error:
        reason = error.strerror
        raise UsageError(f"index {str(file)!r} of a model zoo cannot be read: {reason}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"index {str(file)!r} of a model zoo is no YAML: {reason}") from error
    if not isinstance(index, dict) or not all(isinstance(e, dict) for e in index.values()):
        raise UsageError(
            f"index {str(file)!r} of a model zoo: expected entries by the name of a config, as "
            "tools/publish_checkpoint.py writes them"
        )
    return index
