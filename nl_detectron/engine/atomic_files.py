"""Files that appear under their name only when they are complete and on the disk."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

SUFFIX = ".tmp"  # of a temporary file, whose name also begins with a dot


class WriteError(OSError):
    """A file could not be written; ``filename`` is its final name."""


@contextmanager
def open_atomically(path: str, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file in the folder of ``path``, and rename it to ``path`` at the end.

    If the process is killed at any moment, ``path`` is the old file or the complete new one. After
    an exception, ``path`` is the old file and the temporary file is removed.

    Raises:
        OSError: the file cannot be written.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}{SUFFIX}")
    try:
        with open(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def write_text(path: str, text: str) -> None:
    """Write a text file as :func:`open_atomically` does.

    Raises:
        WriteError: the file cannot be written.
    """
    try:
        with open_atomically(path, "w") as file:
            file.write(text)
    except OSError as error:
        raise WriteError(error.errno, error.strerror, path) from error


def sync_folder(folder: str) -> None:
    """Make renamed and removed files of a folder permanent, where its file system can do so."""
    with suppress(OSError):
        descriptor = os.open(folder or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_temporary_files(folder: str) -> list[str]:
    """Remove what killed writes have left in a folder, and return the names."""
    named = sorted(Path(folder).glob(f".*{SUFFIX}"))
    left = [file for file in named if re.fullmatch(rf"\..+\.\d+\{SUFFIX}", file.name)]
    for file in left:
        file.unlink(missing_ok=True)
    return [file.name for file in left]
