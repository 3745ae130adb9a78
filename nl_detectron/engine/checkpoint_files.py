"""The checkpoint files of a run: written whole with a checksum, and found again in good order."""

import hashlib
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from detectron2.utils.file_io import PathManager

from ..errors import UsageError
from .atomic_files import WriteError, open_atomically, sync_folder, write_text

BEST = "model_best"  # the one checkpoint that last_checkpoint never names
LAST = "last_checkpoint"


def write_checkpoint(path: str, content: dict[str, Any]) -> None:
    """Write a checkpoint, and beside it its SHA-256 in the format of ``sha256sum``.

    A kill at any moment leaves the old file or the new one, either with its own checksum or with
    none.

    Raises:
        WriteError: the file cannot be written; the error says how far it came.
    """
    writer = _HashingWriter()
    try:
        with open_atomically(path) as writer.file:
            torch.save(content, cast(IO[bytes], writer))
            writer.flush()
            remove_checksum(path)  # that of an older file of this name
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):  # torch raises its own error for a write that failed
            raise
        written, total = (f"{n / 2**20:,.1f}" for n in (writer.count, _count_bytes(content)))
        reason = f"{cause.strerror} after {written} of {total} MiB"
        raise WriteError(cause.errno, reason, path) from error
    write_text(checksum_file(path), f"{writer.sha256.hexdigest()}  {os.path.basename(path)}\n")


class _HashingWriter:
    """What ``torch.save`` needs of a file, with the SHA-256 of what was written."""

    file: IO[bytes]

    def __init__(self):
        self.sha256, self.count = hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.file.write(data)
        self.sha256.update(data)
        self.count += len(data)
        return len(data)

    def flush(self) -> None:
        self.file.flush()


def _count_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(_count_bytes, value.values()))
    return sum(map(_count_bytes, value)) if isinstance(value, list | tuple) else 0


def digest(path: str) -> str:
    """SHA-256 of a checkpoint file in hexadecimal, which identifies the weights of a result."""
    sha256 = hashlib.sha256()
    with cast(IO[bytes], PathManager.open(path.split("?")[0], "rb")) as file:
        while chunk := file.read(2**20):
            sha256.update(chunk)
    return sha256.hexdigest()


def checksum_file(path: str) -> str:
    return f"{path}.sha256"


def remove_checksum(path: str) -> None:
    Path(checksum_file(path)).unlink(missing_ok=True)


def verify_checksum(path: str) -> None:
    """Compare a file with the checksum beside it, if there is one.

    Raises:
        UsageError: they differ.
    """
    beside = Path(checksum_file(path))
    try:
        text = beside.read_text(errors="replace")
    except FileNotFoundError:
        return
    if text.split()[:1] != [digest(path)]:
        raise UsageError(
            f"checkpoint {path!r} does not match its checksum in {beside.name}: it is damaged. "
            f"Restore it; or remove {beside}, if you have changed the checkpoint yourself"
        )


def find_non_finite(tensors: Mapping[str, Any]) -> str | None:
    """Name of the first tensor or array with a NaN or infinite value."""
    for name, value in tensors.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            value = torch.from_numpy(np.ascontiguousarray(value))
        if isinstance(value, torch.Tensor) and not value.isfinite().all():
            return name
    return None


def read_last_checkpoint(folder: str) -> str:
    """Path of the checkpoint that last_checkpoint names, or "".

    Raises:
        UsageError: it is outside the folder.
    """
    try:
        name = Path(folder, LAST).read_text(errors="replace").strip()
    except OSError:
        return ""
    if os.path.isabs(name) or os.path.normpath(name).split(os.sep)[0] == os.pardir:
        raise UsageError(
            f"{os.path.join(folder, LAST)} names {name!r}, which is outside its folder: write the "
            f"name of a checkpoint in {folder} into it, or remove it"
        )
    return os.path.join(folder, name) if name else ""


def list_checkpoints(folder: str) -> list[str]:
    """Paths of a run's checkpoints, in the order in which a resumed run tries them.

    First comes the one that last_checkpoint names, then those before it, the newest first, and
    then any others. An empty list means that the folder has no run.

    Raises:
        UsageError: as in :func:`read_last_checkpoint`.
    """
    last, folder = read_last_checkpoint(folder), folder or "."
    paths = (str(path) for path in Path(folder).glob("*.pth"))
    named = (path for path in paths if re.search(r"_(\d{7,}|final|best)\.pth$", path))
    others = {p: _iteration_of(p) for p in named if os.path.normpath(p) != os.path.normpath(last)}
    newest = _iteration_of(last) if last else math.inf
    order = sorted(others, key=lambda p: (others[p] > newest, -others[p], BEST in p))
    return [last, *order] if last else order


def _iteration_of(path: str) -> float:
    """The iteration that a checkpoint was saved after, by its name or from the file.

    It is infinite for an unreadable file other than model_best.pth.
    """
    if number := re.search(r"_(\d{7,})\.pth$", path):
        return int(number[1])
    unknown = -1 if BEST in path else math.inf
    return read_trainer_state(path).get("iteration", unknown)


def read_trainer_state(path: str) -> dict[str, Any]:
    """The trainer's state in a checkpoint, without reading its tensors; {} if it has none or cannot
    be read."""
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        return content.get("trainer", content)
    except Exception:  # zip, pickle and torch each raise their own
        return {}


def choose_checkpoint(
    folder: str,
    read: Callable[[str], dict[str, Any]],
    say: Callable[[str], object] = lambda line: None,
) -> tuple[str, dict[str, Any]] | None:
    """Choose the newest good checkpoint of a run.

    Args:
        folder: folder of the run.
        read: reads a checkpoint, and raises UsageError for one that cannot be used.
        say: called with one line if it is not the one that last_checkpoint names.

    Returns:
        Its path and content; None if the folder has no checkpoints.

    Raises:
        UsageError: there are checkpoints, but none is good; or as in :func:`read_last_checkpoint`.
    """
    last, reasons = read_last_checkpoint(folder), []
    paths = list_checkpoints(folder)
    for path in paths:
        try:
            content = read(path)
        except UsageError as error:
            reasons.append(str(error))
            continue
        if not last:
            reasons.insert(0, f"{os.path.join(folder, LAST)} is missing")
        if reasons:
            iteration = content.get("trainer", content).get("iteration")
            at = "" if iteration is None else f" at iteration {iteration + 1}"
            say(f"{'; '.join(reasons)}. The run continues from {path}{at}")
        return path, content
    if paths:
        raise UsageError(
            f"no checkpoint in {folder} can be used: {'; '.join(reasons)}. "
            "Restore one of them, or start a new run in another folder"
        )
    return None


def remove_old_checkpoints(folder: str, prefix: str, newest: int, keep: int) -> None:
    """Remove periodic checkpoints and their checksums, except for the newest.

    Args:
        prefix: of the files' names, before the iteration.
        newest: iteration of the newest; checkpoints of later ones, from another run, are not
            touched.
        keep: number of checkpoints to keep, 1 or more.
    """
    found = {}
    for path in Path(folder or ".").glob(f"{prefix}_*.pth"):
        number = re.fullmatch(rf"{re.escape(prefix)}_(\d{{7,}})\.pth", path.name)
        if number and int(number[1]) <= newest:
            found[int(number[1])] = path
    for number in sorted(found)[:-keep]:
        remove_checksum(str(found[number]))
        found[number].unlink(missing_ok=True)
    sync_folder(folder)
