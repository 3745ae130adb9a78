"""A full disk ends a run with one message instead of tracebacks."""

import atexit
import errno
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ..errors import UsageError
from .atomic_files import WriteError
from .checkpoint_files import list_checkpoints

CLOCK_TICK = 0.02  # seconds that a file's time may be behind the clock
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def report_full_disk(folder: str, advice: str = "") -> Iterator[None]:
    """Turn the errors of a disk that is full or read-only into one UsageError.

    Detectron2's training loop logs such an error and every other UsageError with a traceback, which
    is left out here. So is that of TensorBoard's thread, which raises its error again when the next
    event is written.

    Args:
        folder: folder of the run's files.
        advice: what to do once there is room; by default how to continue the training.

    Raises:
        UsageError: a file could not be written. The message has the file, the free space, and how
            to continue.
    """
    loop, hook = logging.getLogger("detectron2.engine.train_loop"), threading.excepthook
    loop.addFilter(_is_news)
    threading.excepthook = lambda args: None if find_disk_error(args.exc_value) else hook(args)
    try:
        yield
    except Exception as error:
        if full := find_disk_error(error):
            raise UsageError(describe_full_disk(full, folder, advice)) from None
        raise
    finally:
        threading.excepthook = hook
        loop.removeFilter(_is_news)


def find_disk_error(error: BaseException | None) -> OSError | None:
    """The OSError of a full or read-only disk that an exception began with, if it did.

    An error that is raised while another one is handled, such as torch's when its file cannot be
    written, or that of the next write, has the other one as its context.
    """
    chain = []
    while error:
        chain.append(error)
        error = error.__context__
    full = [e for e in chain if isinstance(e, OSError) and e.errno in DISK_ERRORS]
    if not full or full[-1] is not chain[-1]:
        return None
    return next((e for e in reversed(full) if isinstance(e, WriteError)), full[-1])


@contextmanager
def remove_unfinished_files(folder: str) -> Iterator[None]:
    """Remove the files that were written into a folder when the disk became full meanwhile."""
    began = time.time() - CLOCK_TICK
    try:
        yield
    except Exception as error:
        if find_disk_error(error):
            for path in filter(Path.is_file, Path(folder).rglob("*")):
                if path.stat().st_mtime >= began:
                    path.unlink()
        raise


def describe_full_disk(error: OSError, folder: str, advice: str = "") -> str:
    """The message of :func:`report_full_disk`."""
    what, size = error.filename or f"the run's files in {folder}", ""
    checkpoints = [path for path in list_checkpoints(folder) if os.path.isfile(path)]
    if checkpoints and error.errno != errno.EROFS:
        size = f", and a checkpoint takes {format_size(os.path.getsize(checkpoints[0]))}"
    rest = advice or "start the run again"
    if checkpoints and not advice:
        rest = f"the same command with --resume continues from {checkpoints[0]}"
    return (
        f"cannot write {what}: {error.strerror} ({format_size(free_space(folder))} are free there"
        f"{size}). Make room, or raise your quota; then {rest}"
    )


def free_space(folder: str) -> int:
    """Free bytes for this user on the disk of a folder, which need not exist yet."""
    while not os.path.exists(folder):
        folder = os.path.dirname(os.path.abspath(folder))
    return shutil.disk_usage(folder).free


def format_size(size: int) -> str:
    """Bytes in MiB, as text."""
    return f"{size / 2**20:,.1f} MiB"


def quiet_full_logs(loggers: Iterable[logging.Logger]) -> None:
    """Keep loggers' file handlers from printing a traceback for each line that a full disk cannot
    take. The other files of the run report it."""
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        stream = getattr(handler, "stream", sys.stdout)
        if stream not in (sys.stdout, sys.stderr):
            handler.handleError = partial(_handle_log_error, handler)
            atexit.unregister(stream.close)  # Detectron2's, which would print it at the end
            atexit.register(_close_quietly, stream)


def _handle_log_error(handler: logging.Handler, record: logging.LogRecord) -> None:
    if not find_disk_error(sys.exc_info()[1]):
        type(handler).handleError(handler, record)


def _close_quietly(stream) -> None:
    with suppress(OSError):
        stream.close()


def _is_news(record: logging.LogRecord) -> bool:
    """A log filter: whether the exception of a record has no message of its own later."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, UsageError) or find_disk_error(error))
