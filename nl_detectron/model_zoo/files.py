"""Fetches the files that an index lists, and checks that they are these."""

import os

from ..engine.checkpoint import locate_checkpoint
from ..engine.checkpoint_files import digest
from ..errors import UsageError
from .index import REMOTE, UNKNOWN


def fetch_verified(url: str, expected: str, name: str) -> tuple[str, str]:
    """Local path of a file and its SHA-256, which was checked.

    Args:
        url: a URL, or a path.
        expected: its SHA-256 in hexadecimal, the first digits of it, or "unknown".
        name: of the index's entry, for the message.

    Raises:
        UsageError: the file cannot be fetched, or is another one. A wrong file is removed from the
            cache.
    """
    file = locate_checkpoint(url)
    found = digest(file)
    if expected == UNKNOWN or found.startswith(expected):
        return file, found
    removed = ""
    if url.startswith(REMOTE):
        os.remove(file)
        removed = ", and was removed from the cache"
    raise UsageError(
        f"checkpoint {url!r} is not the one that the model zoo's index lists for {name}: "
        f"its SHA-256 is {found}, not {expected}. It is damaged or was replaced{removed}"
    )
