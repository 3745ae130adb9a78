"""Measures peak memory, on the CPU in a fresh process, which has no memory left from other calls.

The extra memory of a call is the peak of the process's resident memory during the call, minus the
resident memory before it. On Linux the peak is VmHWM, which can be reset: a child process inherits
the maximum of ``getrusage`` from its parent. On CUDA it is the peak of PyTorch's allocator.
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

# Imported once, before processes are forked. They must not be bench modules, which query CUDA when
# they are imported: a process that is forked after that cannot use CUDA.
PRELOADED = ["torch", "nl_detectron.layers"]


class Failed(Exception):
    """A call raised an error, or its process was killed; the message says which in one line."""


def measure(module: str, way: str, case: dict, budget: tuple | None = None) -> dict[str, Any]:
    """Run a case of a bench module in a fresh process.

    Args:
        module: a bench module with ``build`` and ``small``, as in ``comparison``.
        way: the first argument of ``build``.
        case: the other arguments.
        budget: also time the call, as ``timing.take_turns`` does.

    Returns:
        peak_bytes and first_seconds: extra memory and seconds of the first call. With a budget also
        seconds: a list of the later calls' seconds, or of the first's if it exceeds the budget.

    Raises:
        Failed: there is no result.
    """
    # The server imports torch once and forks for each call. It never computes anything itself.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    receiver, sender = context.Pipe(duplex=False)
    job = (sender, torch.get_num_threads(), module, way, case, budget)
    process = context.Process(target=_send_measurement, args=job)
    process.start()
    sender.close()
    try:
        kind, answer = receiver.recv()
    except EOFError:
        process.join()
        kind, answer = "error", f"its process ended with exit code {process.exitcode}"
    process.join()
    if kind == "error":
        raise Failed(answer)
    return answer


def measure_peak(module: str, way: str, case: dict) -> int:
    """Peak extra memory of a case in bytes, in a fresh process, or on CUDA in this process.

    PyTorch's CUDA allocator counts exactly, also after other calls. A first call lets libraries
    allocate their workspaces.

    Raises:
        Failed: there is no result.
    """
    if not torch.cuda.is_available():
        return measure(module, way, case)["peak_bytes"]
    try:
        call = import_module(module).build(way, **case)
        call()
        return peak_extra(call)
    except Exception as error:
        raise Failed(in_one_line(error)) from error


def _send_measurement(sender: Connection, threads: int, *job: Any) -> None:
    torch.set_num_threads(threads)
    try:
        sender.send(("result", _measure(*job)))
    except Exception as error:  # any error of a benchmarked library is reported
        sender.send(("error", in_one_line(error)))


def _measure(module: str, way: str, case: dict, budget: tuple | None) -> dict[str, Any]:
    bench = import_module(module)
    if getattr(bench, "MANY_TENSORS", False):
        _return_memory_at_once()
    bench.build(way, **bench.small(case))()  # starts threads, loads kernels and code
    call = bench.build(way, **case)
    start = time.perf_counter()
    measured = {"peak_bytes": peak_extra(call), "first_seconds": time.perf_counter() - start}
    if budget is not None:
        enough = measured["first_seconds"] >= budget.seconds  # one call is enough
        turns = [] if enough else take_turns({way: call}, budget)[0]
        measured["seconds"] = [turn[way] for turn in turns] or [measured["first_seconds"]]
    return measured


def in_one_line(error: Exception) -> str:
    """Type and first line of an error, in at most 120 characters."""
    line = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
    return textwrap.shorten(line, 120, placeholder=" ...")


def peak_extra(call: Callable[[], Any]) -> int:
    """Peak memory of a call in bytes, minus the memory before it; its result counts."""
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
    """Let malloc return the memory of freed tensors at once. Otherwise holes between many tensors,
    which differ from run to run, change a peak by some percent."""
    if sys.platform == "linux":
        mmap_threshold = -3  # M_MMAP_THRESHOLD of malloc.h: larger blocks get their own pages
        getattr(ctypes.CDLL(None), "mallopt", lambda what, value: None)(mmap_threshold, 2**16)


def _settle() -> int:
    """Return free memory to the system and reset the peak; returns the bytes resident now."""
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
    """Bytes of free memory."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    if sys.platform == "linux":
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:"))
    return sys.maxsize


def too_large(needed: float) -> str:
    """Why a call that needs ``needed`` bytes is not run; "" if it may run."""
    limit = 0.8 * available()
    if needed <= limit:
        return ""
    return f"needs about {needed / 1e9:.0f} GB; there were {limit / 1e9:.0f} GB for it"
