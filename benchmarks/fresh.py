"""Peak memory, measured on the CPU in a process of its own: nothing is left over from another call.

The extra memory of a call is the peak of the process's resident memory during it, less what was
resident before. Where Linux tells the peak (VmHWM, which can be reset), that is taken:
``getrusage``'s maximum is handed down from a parent to its children, and a large parent's hides
the child's own. On CUDA it is the peak of torch's allocator.
"""

import ctypes
import multiprocessing
import resource
import sys
import textwrap
import time
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from .timing import take_turns

STATUS = Path("/proc/self/status")

# Imported once, before processes are forked. No bench module may be among them: they ask for the
# CUDA device when they are imported, and a process forked after that can no longer use it.
PRELOADED = ["torch", "nl_detectron.layers"]


class Failed(Exception):
    """The call raised, or its process was killed; the message says which in a line."""


def measure(module: str, way: str, case: dict, budget: tuple | None = None) -> dict[str, Any]:
    """Do a case of a bench module in a fresh process.

    Args:
        module: with ``build`` and ``small``, as in ``comparison``.
        way: an argument of ``build``.
        case: the others.
        budget: time the call too, as ``timing.take_turns`` does.

    Returns:
        peak_bytes and first_seconds, the extra memory and the seconds of the first call; with a
        budget also seconds, of each later call, or of the first where it exceeds the budget.

    Raises:
        Failed: no result came.
    """
    # The server imports torch once and forks for each call. It never computes anything itself.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe(duplex=False)
    job = (theirs, torch.get_num_threads(), module, way, case, budget)
    process = context.Process(target=_work, args=job)
    process.start()
    theirs.close()
    try:
        kind, answer = ours.recv()
    except EOFError:
        process.join()
        kind, answer = "error", f"its process ended with exit code {process.exitcode}"
    process.join()
    if kind == "error":
        raise Failed(answer)
    return answer


def measure_peak(module: str, way: str, case: dict) -> int:
    """Peak extra memory of a case, in a fresh process, or on CUDA in this one.

    torch's allocator counts exactly whatever ran before, once libraries have their workspaces.

    Raises:
        Failed: no result came.
    """
    if not torch.cuda.is_available():
        return measure(module, way, case)["peak_bytes"]
    try:
        call = import_module(module).build(way, **case)
        call()
        return peak_extra(call)
    except Exception as error:
        raise Failed(in_one_line(error)) from error


def _work(to_parent: Connection, threads: int, *job: Any) -> None:
    torch.set_num_threads(threads)
    try:
        to_parent.send(("result", _measure(*job)))
    except Exception as error:  # whatever a benchmarked library raises is a result too
        to_parent.send(("error", in_one_line(error)))


def _measure(module: str, way: str, case: dict, budget: tuple | None) -> dict[str, Any]:
    bench = import_module(module)
    if getattr(bench, "MANY_TENSORS", False):
        _return_memory_at_once()
    bench.build(way, **bench.small(case))()  # threads, kernels and code pages are there from now on
    call = bench.build(way, **case)
    start = time.perf_counter()
    found = {"peak_bytes": peak_extra(call), "first_seconds": time.perf_counter() - start}
    if budget is not None:
        measured = found["first_seconds"] >= budget.seconds  # one call is enough
        turns = [] if measured else take_turns({way: call}, budget)[0]
        found["seconds"] = [turn[way] for turn in turns] or [found["first_seconds"]]
    return found


def in_one_line(error: Exception) -> str:
    line = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
    return textwrap.shorten(line, 120, placeholder=" ...")


def peak_extra(call: Callable[[], Any]) -> int:
    """Bytes that a call needs at its peak, beyond what was there before, its result included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = call()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated()
    else:
        before = _settle()
        result = call()
        peak = _peak()
    del result
    return max(peak - before, 0)


def _return_memory_at_once() -> None:
    """Of freed tensors. Else the C library keeps it, and the holes between many tensors, which are
    others each time, change a peak by some percent."""
    if sys.platform == "linux":
        mmap_threshold = -3  # M_MMAP_THRESHOLD of malloc.h: larger ones get pages of their own
        getattr(ctypes.CDLL(None), "mallopt", lambda what, value: None)(mmap_threshold, 2**16)


def _settle() -> int:
    """Give free memory back to the system and forget the peak so far; bytes resident now."""
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: None)(0)
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    return _peak()


def _peak() -> int:
    if sys.platform == "linux":
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(key: str) -> int:
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def available() -> int:
    """Bytes that a call may take."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    if sys.platform == "linux":
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:"))
    return sys.maxsize


def too_large(needed: float) -> str:
    """Why a call that needs so many bytes is not tried; "" if it is."""
    room = 0.8 * available()
    if needed <= room:
        return ""
    return f"needs about {needed / 1e9:.0f} GB; there were {room / 1e9:.0f} GB for it"
