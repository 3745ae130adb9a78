"""Compares the alternatives ("ways") of a case: times in turns, memory, and whether results agree.

A bench module has ``build(way, **case)``, which makes the inputs of a case and returns a call
without arguments. The call does the work once and returns a tuple of tensors, the output first and
then the gradients. ``small(case)`` returns the case at a tiny size.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from . import fresh
from .attention_kernels import attention_kernels
from .timing import Budget, spread, take_turns

# factors of the tolerances below; on a GPU float32 uses that of fp16, as TF32 rounds like it
COARSE = {"fp16": 100, "bf16": 800}
OUTPUT_TOLERANCE = 1e-4  # largest difference / largest value
GRADIENT_TOLERANCE = 1e-2  # in norm, as a ReLU's gradient jumps where rounding crosses 0


def compare(
    module: str, case: dict, ways: Sequence[str], budget: Budget, *, memory: bool = True
) -> dict[str, Any]:
    """Compare the ways of a bench module for a case.

    Each way first runs by itself to measure its memory (:func:`fresh.measure_peak`). A way that
    fails there, or for which the module's ``refuse(way, case)`` returns a reason, is left out with
    that reason. The outputs of the ways in the module's ``ALIKE`` (by default all) must agree.

    Returns:
        A record: case; turns; by way: seconds, peak_bytes and refused (the reason); ratio: seconds
        of the first way over those of each other way, within turns; difference: largest difference
        of outputs and gradients from the first way's; on a CUDA device, kernels: those of fused
        attention by way.

    Raises:
        ValueError: outputs differ.
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
        except RuntimeError as error:  # without the profiler, times can still be measured
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
    """Largest relative differences of outputs and of gradients from those of the first.

    Raises:
        ValueError: they differ by more than rounding.
    """
    differences = {"output": [0.0], "gradient": [0.0]}
    for other in outputs[1:]:
        (a, *grads_a), (b, *grads_b) = outputs[0], other
        differences["output"].append(_over_largest(a, b))
        differences["gradient"] += map(_over_norm, grads_a, grads_b)
    precision = case.get("mode", "").rpartition(", ")[-1]
    slack = COARSE.get(precision, COARSE["fp16"] if torch.cuda.is_available() else 1)
    limits = {"output": slack * OUTPUT_TOLERANCE, "gradient": min(slack * GRADIENT_TOLERANCE, 0.2)}
    # all() and <=, so that a NaN counts as a difference
    if not all(value <= limits[kind] for kind, values in differences.items() for value in values):
        raise ValueError(f"these are not the same computation: {differences} in {case}")
    return {kind: max(values) for kind, values in differences.items()}


def _over_largest(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        raise ValueError(f"shapes {tuple(a.shape)} and {tuple(b.shape)}")
    largest = a.abs().max().item() if a.numel() else 0.0
    return (a - b).abs().max().item() / largest if largest else b.abs().sum().item()


def _over_norm(a: Tensor, b: Tensor) -> float:
    norm = a.norm().item()
    return (a - b).norm().item() / norm if norm else b.norm().item()
