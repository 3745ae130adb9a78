"""A lock on a run's folder, so that two runs do not mix their files."""

import atexit
import errno
import fcntl
import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from ..errors import UsageError

NAME = ".lock"
_held: dict[str, int] = {}  # file descriptors of the locks of this process, by the file's path


def lock_folder(folder: str, key: str) -> str:
    """Lock the folder of a training for this process, until :func:`unlock_folder` or its end.

    The operating system locks the file ``.lock`` and unlocks it when the process ends, also on most
    network file systems. The file's JSON names the process for the message. Where the file system
    has no locks, the JSON alone decides.

    Args:
        folder: made if it does not exist.
        key: the config's key of the folder, for the message.

    Returns:
        A line on a lock of a dead run that was taken over, or "".

    Raises:
        UsageError: another run has the folder.
        OSError: the folder or the file cannot be written.
    """
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(os.path.realpath(folder), NAME)
    if path in _held:  # a process does not exclude itself; opening the file again would unlock it
        return ""
    descriptor, state = _open_and_lock(path)
    try:
        owner = _read_owner(descriptor)
        if state == "taken" or (owner and _may_run(owner, locked=state == "locked")):
            raise UsageError(_describe_refusal(folder, path, owner, key))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(_describe_process()).encode(), 0)
        os.fsync(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    _held[path] = descriptor
    atexit.register(unlock_folder, folder)
    return f"took over {path} of a run that is dead: {_format_owner(owner)}" if owner else ""


def describe_owner(folder: str) -> str:
    """The process of another run that trains into a folder, as text; "" if there is none."""
    with suppress(OSError):
        descriptor = os.open(os.path.join(folder, NAME), os.O_RDONLY)
        try:
            owner = _read_owner(descriptor)
        finally:
            os.close(descriptor)
        if owner and _may_run(owner, locked=False):
            return _format_owner(owner)
    return ""


def unlock_folder(folder: str) -> None:
    """Remove the lock of this process on a folder, if it has one."""
    path = os.path.join(os.path.realpath(folder), NAME)
    descriptor = _held.pop(path, None)
    if descriptor is not None:
        with suppress(OSError):  # first the name: who opens it now makes a new file
            os.unlink(path)
        os.close(descriptor)


def _open_and_lock(path: str) -> tuple[int, str]:
    """Open a file and lock it without waiting.

    A POSIX lock, unlike that of flock(), is not inherited by the workers of a data loader, which
    may outlive a killed run for a moment.

    Returns:
        The file descriptor, and "locked", "taken" by another process, or "unknown" if the file
        system has no locks.
    """
    while True:
        descriptor, state = os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "locked"
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            state = "taken" if error.errno in (errno.EACCES, errno.EAGAIN) else "unknown"
        with suppress(OSError):
            if state != "locked" or os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor, state
        os.close(
            descriptor
        )  # its owner has removed it in between: another process may have a new one


def _describe_process() -> dict:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "process_start": _read_start(os.getpid()),
        "command": " ".join(sys.argv),
    }


def _read_owner(descriptor: int) -> dict | None:
    """The JSON of a lock file; {} if it cannot be read, None if the file is empty."""
    text = os.pread(descriptor, 2**16, 0)
    try:
        owner = json.loads(text) if text else None
    except ValueError:
        return {}
    return owner if isinstance(owner, dict | None) else {}


def _may_run(owner: dict, locked: bool) -> bool:
    """Whether the process that a lock file names may still run.

    On this host, its number and its start decide, because numbers are used again. Of another host
    only the operating system's lock can tell.
    """
    if owner.get("host") != socket.gethostname():
        return not locked and bool(owner)
    pid = owner.get("pid")
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        pass
    return _read_start(pid) == owner.get("process_start")


def _read_start(pid: int) -> str | None:
    """Start of a process in clock ticks since the machine's, where /proc has it; None for a zombie,
    which has ended."""
    with suppress(OSError):
        # the name of the program, in parentheses, may have spaces
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state == "Z" else fields[18]
    return None


def _format_owner(owner: dict | None) -> str:
    if not owner:
        return "a process that has not written its name"
    known = {key: owner.get(key, "unknown") for key in ("pid", "host", "since", "command")}
    return "process {pid} on {host}, since {since} ({command})".format(**known)


def _describe_refusal(folder: str, path: str, owner: dict | None, key: str) -> str:
    advice = f"Wait for it, stop it, or give another {key}"
    if owner and owner.get("host") != socket.gethostname():
        advice += f"; if that run is dead, remove {path}"
    return f"{key} {folder} is in use by another run: {_format_owner(owner)}. {advice}"
