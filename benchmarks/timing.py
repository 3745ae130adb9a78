"""Timing in turns: alternatives are called one after the other, and figures have quartiles."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Call = Callable[[], tuple[Tensor, ...]]


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
    """Call A, B, A, B, ..., so that changes in the machine's speed affect all alike.

    The first turn warms up and is not counted, unless it alone takes longer than the budget.

    Returns:
        The seconds of each call by turn, and what each call returned first.
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
    """Seconds by the clock, or by events of a CUDA device, and what the call returned."""
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


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) < 2:
        q1 = q3 = values[0]
    else:
        q1, _, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": statistics.median(values), "q1": q1, "q3": q3}
