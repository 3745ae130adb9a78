"""What data sets of images, of videos and of relays share: ``--dataset``, and being registered."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog


def parse_argument(text: str, pattern: re.Pattern[str], form: str) -> dict[str, Any]:
    """Return the named groups of a value of ``--dataset``.

    Args:
        pattern: of the whole text.
        form: the same for people.

    Raises:
        ValueError: the text has another form.
    """
    match = pattern.fullmatch(text)
    if not match:
        raise ValueError(
            f"expected {form}, with letters, digits, '_', '-' and '.' in NAME, got {text!r}"
        )
    return match.groupdict()


def is_registered(name: str, files: Mapping[str, str]) -> bool:
    """Return whether a data set of these files is registered with Detectron2 under this name.

    Args:
        files: its paths by their keys in Detectron2's metadata.

    Raises:
        ValueError: another data set has this name.
    """
    if name not in DatasetCatalog.list():
        return False
    metadata = MetadataCatalog.get(name)
    if any(metadata.get(key) != path for key, path in files.items()):
        raise ValueError(f"data set name {name!r} is taken; give another one")
    return True


def register_on_demand(name: str, load: Callable[[], list[dict]], **metadata) -> None:
    """Register a data set with Detectron2 whose files ``load`` writes when they are first needed.

    Nothing is done if the name is registered already. Checks before a run skip such files
    (``made_on_demand``).
    """
    if name not in DatasetCatalog.list():
        DatasetCatalog.register(name, load)
        MetadataCatalog.get(name).set(made_on_demand=True, **metadata)
