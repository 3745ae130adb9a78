"""The benchmarks' rules: turns, spreads, agreement, memory in a fresh process."""

import math
import os
import signal
import subprocess
import sys

import pytest
import torch

from benchmarks import cases, fresh
from benchmarks.attention_kernels import attention_backend, attention_kernels
from benchmarks.bench_limit import multiply_adds
from benchmarks.comparison import agreement, compare
from benchmarks.growth import exponent
from benchmarks.timing import Budget, spread, take_turns

MEGABYTE = 2**20
ALIKE = ("forty", "also forty")


def build(way, **case):
    """A bench module's; the ways are named after what they do."""

    def allocate(megabytes):
        return (torch.ones(megabytes * MEGABYTE // 4),)

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    def fail():
        raise RuntimeError("no such thing\nand more lines")

    if case["small"]:
        return lambda: allocate(1)
    sizes = {"forty": 40, "also forty": 40, "other": 8}
    return {"kill": kill, "fail": fail}.get(way, lambda: allocate(sizes[way]))


def small(case):
    return {**case, "small": True}


def refuse(way, case):
    return "not today" if way == "refused" else ""


class Clock:
    """Moves only when a call lets it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def call(self, name, *durations, log):
        left = list(durations)

        def work():
            log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return (torch.zeros(1),)

        return work


def turns_of(budget, **durations):
    clock, log = Clock(), []
    calls = {name: clock.call(name, *seconds, log=log) for name, seconds in durations.items()}
    return take_turns(calls, budget, clock)[0], "".join(log)


def test_calls_take_turns_after_a_warm_up_that_does_not_count():
    turns, log = turns_of(Budget(seconds=7, at_least=2), A=[3, 1], B=[3, 2])
    assert log == "ABABABAB"
    assert turns == [{"A": 1, "B": 2}] * 3


def test_a_first_turn_longer_than_the_budget_counts():
    turns, log = turns_of(Budget(seconds=1, at_least=1), A=[3, 1], B=[4, 2])
    assert (turns, log) == ([{"A": 3, "B": 4}], "AB")


def test_there_are_as_many_turns_as_asked_at_least_and_at_most():
    assert len(turns_of(Budget(seconds=1, at_least=3), A=[9])[0]) == 3
    assert len(turns_of(Budget(seconds=99, at_most=4), A=[1])[0]) == 4


def test_turns_go_on_until_the_quartiles_of_a_ratio_are_near_its_median():
    noisy, steady = [9, 4, 1, 3, 2, 2, 2, 2], [9, 2]
    budget = Budget(seconds=1, at_least=2, at_most=20, within=0.1)
    few = turns_of(budget, A=steady, B=steady)[0]
    more = turns_of(budget, A=noisy, B=steady)[0]
    assert len(few) == 2 < len(more) < 20
    a, b = ([turn[name] for turn in more] for name in "AB")
    ratio = spread([x / y for x, y in zip(a, b, strict=True)])
    assert ratio["q3"] <= 1.1 * ratio["median"] and ratio["q1"] >= 0.9 * ratio["median"]


def test_a_spread_is_the_median_and_the_quartiles():
    assert spread([5, 1, 2, 4, 3]) == {"median": 3, "q1": 2, "q3": 4}
    assert spread([7]) == {"median": 7, "q1": 7, "q3": 7}


def test_other_outputs_or_gradients_are_no_agreement():
    one, off = torch.ones(4), torch.tensor([1, 1, 1, 1.1])
    assert agreement([(one, one), (one, one * 1.001)], {})["gradient"] == pytest.approx(1e-3, 0.1)
    for other in ((off, one), (one, off), (one * math.nan, one)):
        with pytest.raises(ValueError, match="not the same computation"):
            agreement([(one, one), other], {})


@pytest.mark.slow
def test_a_fresh_process_sees_a_known_allocation():
    found = fresh.measure(__name__, "forty", {"small": False}, Budget(seconds=0.01))
    assert found["peak_bytes"] / MEGABYTE == pytest.approx(40, abs=1)
    assert found["seconds"]


@pytest.mark.slow
def test_processes_are_forked_before_cuda_starts():
    """A process forked after its parent asked for a CUDA device cannot use one."""
    code = (
        "import importlib, os, sys, torch\n"
        "list(map(importlib.import_module, sys.argv[1:]))\n"
        "child = os.fork()\n"
        "sys.exit(os.waitpid(child, 0)[1] if child else torch.cuda._is_in_bad_fork())"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, *fresh.PRELOADED], check=True)


@pytest.mark.parametrize(
    ("way", "message"), [("fail", r"^RuntimeError: no such thing$"), ("kill", "exit code -9")]
)
def test_what_goes_wrong_in_a_fresh_process_is_reported(way, message):
    with pytest.raises(fresh.Failed, match=message):
        fresh.measure(__name__, way, {"small": False})


def test_a_call_that_needs_too_much_memory_is_not_tried():
    assert fresh.too_large(1e6) == ""
    assert "needs about 1000000 GB" in fresh.too_large(1e15)


@pytest.mark.slow
def test_a_comparison_leaves_out_what_cannot_run_and_says_why():
    ways = ("forty", "also forty", "other", "refused", "fail")
    record = compare(__name__, {"small": False}, ways, Budget(seconds=0.05))
    assert record["refused"] == {"refused": "not today", "fail": "RuntimeError: no such thing"}
    assert set(record["seconds"]) == {"forty", "also forty", "other"}
    assert set(record["ratio"]) == {"also forty", "other"}
    assert record["turns"] >= 3 and record["difference"]["output"] == 0
    assert record["peak_bytes"]["forty"] > 4 * record["peak_bytes"]["other"]


def test_a_pool_leaves_whole_windows_only():
    assert cases.positions({"height": 5, "width": 7, "pooled": True}) == (35, 6)
    assert cases.positions({"height": 5, "width": 7, "pooled": False}) == (35, 35)


def test_multiply_adds_are_those_of_the_formula():
    case = {"images": 1, "channels": 8, "height": 4, "width": 4, "pooled": True, "mode": "train"}
    work = multiply_adds({**case, "form": "embedded_gaussian"})
    assert work["dense"] == work["forward"] == 3 * 16 * 4 * (4 + 4)
    assert work["done"] == work["forward"] * (7 / 6 if work["takes"] == "fused" else 1)


@pytest.mark.parametrize(
    "kernels, backend",
    [
        (["cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16"], "cuDNN"),
        (["void pytorch_flash::flash_bwd_dot_do_o_kernel"], "flash"),
        (["fmha_cutlassB_f16_aligned_64x64_k65536_sm80"], "memory-efficient"),
        (["some_attn_kernel"], "unknown"),
        ([], "none"),
    ],
)
def test_kernels_tell_the_backend_of_fused_attention(kernels, backend):
    assert attention_backend(kernels) == backend


def test_fused_attention_is_seen_by_the_profiler():
    q = torch.randn(1, 1, 8, 16, device=cases.DEVICE)
    assert attention_backend(attention_kernels(lambda: q @ q.transpose(2, 3))) == "none"
    attend = torch.nn.functional.scaled_dot_product_attention
    assert attention_backend(attention_kernels(lambda: attend(q, q, q))) != "none"


def test_an_exponent_is_fitted_through_all_points():
    sizes = [10, 20, 40, 80]
    assert exponent(sizes, [3 * n**1.5 for n in sizes]) == pytest.approx(1.5)
    assert exponent([10], [1.0]) is None
