"""Comparisons: the ways of doing a case, timed in turns, with their memory and equal results.

A bench module gives ``build(way, **case)``, which makes the inputs of a case and returns a call
without arguments: it does the work once and returns a tuple of tensors, the output first and
gradients after it. ``small(case)`` is the same case at a size that costs nothing.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from . import fresh
from .attention_kernels import attention_kernels
from .timing import Budget, spread, take_turns

# times the tolerances below; TF32, which a GPU multiplies float32 in, rounds like fp16
COARSE = {"fp16": 100, "bf16": 800}
OUTPUT_TOLERANCE = 1e-4  # of the largest difference, over the largest value
GRADIENT_TOLERANCE = 1e-2  # of norms: a ReLU's gradient jumps where rounding moves its input past 0


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
    precision = case.get("mode", "").rpartition(", ")[-1]
    slack = COARSE.get(precision, COARSE["fp16"] if torch.cuda.is_available() else 1)
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
