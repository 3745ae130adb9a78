"""How everything here is timed: the alternatives take turns, and every figure has its spread.

A bench module gives ``build(way, **case)``, which makes the inputs of a case and returns a call
without arguments: it does the work once and returns a tuple of tensors, the output first and
gradients after it. ``small(case)`` is the same case at a size that costs nothing.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import fresh

Call = Callable[[], tuple[Tensor, ...]]
HALF_PRECISION = 100  # times the tolerances below
OUTPUT_TOLERANCE = 1e-4  # of the largest difference, over the largest value
GRADIENT_TOLERANCE = 1e-2  # of norms: a ReLU's gradient jumps where rounding moves its input past 0


class Budget(NamedTuple):
    """Number of turns: ``at_least``, then more until ``seconds`` are spent, up to ``at_most``.

    With ``within``, turns also continue until the quartiles of every call's ratio to the last call
    differ from the median by at most this share of it.
    """

    seconds: float = 1.5
    at_least: int = 3
    at_most: int = 50
    within: float = float("inf")

    def is_enough(self, turns: list[dict[str, float]], seconds: float) -> bool:
        if len(turns) >= self.at_most:
            return True
        if len(turns) < self.at_least or seconds < self.seconds:
            return False
        *calls, last = turns[0]
        ratios = (spread([turn[name] / turn[last] for turn in turns]) for name in calls)
        return all(
            max(r["q3"] - r["median"], r["median"] - r["q1"]) <= self.within * r["median"]
            for r in ratios
        )


def take_turns(
    calls: dict[str, Call], budget: Budget, clock: Callable[[], float] = time.perf_counter
) -> tuple[list[dict[str, float]], dict[str, tuple[Tensor, ...]]]:
    """Call A, B, A, B, ...: drifting noise of the machine hits all alike.

    The first turn warms up and is not counted, unless it alone takes longer than the budget.

    Returns:
        The seconds of each call in each turn, and what each call returned at first.
    """
    turns, outputs = [], {}
    began = clock()
    warm = False
    while True:
        turn = {}
        for name, call in calls.items():
            turn[name], output = timed(call, clock)
            outputs.setdefault(name, output)
            del output
        if not warm:
            warm = True
            if clock() - began < budget.seconds:
                began = clock()
                continue
        turns.append(turn)
        if budget.is_enough(turns, clock() - began):
            return turns, outputs


def timed(call: Call, clock: Callable[[], float]) -> tuple[float, tuple[Tensor, ...]]:
    """Seconds by the clock, or on a CUDA device by its own events; and what the call returned."""
    if not torch.cuda.is_available():
        start = clock()
        output = call()
        return clock() - start, output
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    output = call()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / 1000, output


def attention_kernels(call: Call) -> list[str]:
    """Names of the CUDA kernels, or on the CPU the operators, of fused attention in a call.

    Raises:
        RuntimeError: the profiler saw no kernel at all, so that it cannot tell.
    """
    activities = torch.profiler.ProfilerActivity
    cuda = torch.cuda.is_available()
    with torch.profiler.profile(
        activities=[activities.CUDA if cuda else activities.CPU]
    ) as profile:
        call()
        if cuda:
            torch.cuda.synchronize()
    names = {event.key.split("<")[0].split("(")[0] for event in profile.key_averages()}
    if not names:
        raise RuntimeError("the profiler saw no kernels: is CUPTI allowed to this user?")
    words = ("fmha", "flash", "attn", "sdpa")
    return sorted(name for name in names if any(word in name.lower() for word in words))


def attention_backend(kernels: Sequence[str]) -> str:
    """Which of PyTorch's backends the kernels of :func:`attention_kernels` belong to.

    cuDNN's kernels are called flash too, so that cuDNN comes first.
    """
    backends = {"cudnn": "cuDNN", "flash": "flash", "fmha": "memory-efficient"}
    names = " ".join(kernels).lower()
    found = next((backend for word, backend in backends.items() if word in names), "none")
    return found if found != "none" or not kernels else "unknown"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) < 2:
        q1 = q3 = values[0]
    else:
        q1, _, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": statistics.median(values), "q1": q1, "q3": q3}


def compare(
    module: str, case: dict, ways: Sequence[str], budget: Budget, *, memory: bool = True
) -> dict[str, Any]:
    """One record: the ways of a bench module to do a case, against each other.

    Each way is first done once by itself, which tells its memory (:func:`fresh.measure_peak`). A
    way that the module's ``refuse(way, case)`` refuses, or that fails there, is left out, with the
    reason. The outputs of the ways in the module's ``ALIKE`` (all, if it has none) must agree.

    Returns:
        case, turns; by way: seconds, peak_bytes, refused; ratio, of the seconds of the first way
        to those of each other way, within the turns; difference, of the outputs to the first's;
        on a CUDA device kernels, those of fused attention.

    Raises:
        ValueError: outputs that differ.
    """
    bench = import_module(module)
    record = {"case": case, "refused": {}, "peak_bytes": {}}
    for way in ways:
        reason = bench.refuse(way, case) if hasattr(bench, "refuse") else ""
        if not reason and memory:
            try:
                record["peak_bytes"][way] = fresh.measure_peak(module, way, case)
            except fresh.Failed as error:
                reason = str(error)
        if reason:
            record["refused"][way] = reason
    left = [way for way in ways if way not in record["refused"]]
    if not left:
        return record
    calls = {way: bench.build(way, **case) for way in left}
    if torch.cuda.is_available():
        try:
            record["kernels"] = {way: attention_kernels(call) for way, call in calls.items()}
        except RuntimeError as error:  # no profiler here; times can be taken all the same
            record["refused"]["kernels"] = fresh.in_one_line(error)
    turns, outputs = take_turns(calls, budget)
    alike = [outputs[way] for way in left if way in getattr(bench, "ALIKE", ways)]
    seconds = {way: [turn[way] for turn in turns] for way in left}
    record |= {"turns": len(turns), "seconds": {way: spread(s) for way, s in seconds.items()}}
    record["difference"] = agreement(alike, case)
    if left[0] == ways[0]:
        first = seconds[ways[0]]
        record["ratio"] = {
            way: spread([a / b for a, b in zip(first, seconds[way], strict=True)])
            for way in left[1:]
        }
    return record


def agreement(outputs: Sequence[tuple[Tensor, ...]], case: dict) -> dict[str, float]:
    """The largest differences of output and gradients to those of the first.

    Raises:
        ValueError: they are not the same but for rounding.
    """
    found = {"output": [0.0], "gradient": [0.0]}
    for other in outputs[1:]:
        (a, *grads_a), (b, *grads_b) = outputs[0], other
        found["output"].append(_over_largest(a, b))
        found["gradient"] += map(_over_norm, grads_a, grads_b)
    # TF32, which a GPU's float32 convs and products may be done in, rounds like fp16.
    coarse = "16" in case.get("mode", "") or torch.cuda.is_available()
    slack = HALF_PRECISION if coarse else 1
    limits = {"output": slack * OUTPUT_TOLERANCE, "gradient": min(slack * GRADIENT_TOLERANCE, 0.2)}
    # all and <=, as a NaN is no agreement
    if not all(value <= limits[of] for of, values in found.items() for value in values):
        raise ValueError(f"these are not the same computation: {found} in {case}")
    return {of: max(values) for of, values in found.items()}


def _over_largest(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        raise ValueError(f"shapes {tuple(a.shape)} and {tuple(b.shape)}")
    largest = a.abs().max().item() if a.numel() else 0.0
    return (a - b).abs().max().item() / largest if largest else b.abs().sum().item()


def _over_norm(a: Tensor, b: Tensor) -> float:
    norm = a.norm().item()
    return (a - b).norm().item() / norm if norm else b.norm().item()


def follow_train_net() -> None:
    """Have matrix products in float32 take TF32 where convs do, as runs of train_net.py have."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32


def machine() -> dict[str, Any]:
    """What a figure depends on, apart from the code."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "tf32": cuda and torch.backends.cuda.matmul.allow_tf32,
        "system": platform.system(),
        "python": platform.python_version(),
        **{p: _version(p) for p in ("torch", "torchvision", "mmcv-lite", "mmengine")},
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
