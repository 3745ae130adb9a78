"""A short part of benchmarks/fuzz.py: no traceback, no hang, and the check keeps its promise."""

import os
import signal

import numpy as np
import pytest

from benchmarks import fuzz
from benchmarks.fuzz_mutations import mutate_bytes, mutate_content

CASES = {"annotations": 150, "images": 200, "checkpoints": 60, "configs": 8}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_changed_inputs_are_taken_or_refused_by_a_message(name):
    result = fuzz.run(name, CASES[name], seed=7)
    assert result["faults"] == 0, result["examples"]
    assert result["taken"] + result["refused"] == CASES[name] and result["refused"]


def hang() -> None:
    os.kill(os.getpid(), signal.SIGPROF)  # as the timer does


def die() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def fail(error: Exception):
    def raise_error() -> None:
        raise error

    return raise_error


OUTCOMES = {
    "taken": lambda: "taken",
    "refused": fail(ValueError("a: expected b, got c")),
    "hang": hang,
    "died": die,
    "KeyError": fail(KeyError("a")),
    "ValueError without a message": fail(ValueError()),
}


@pytest.mark.slow
def test_every_kind_of_fault_is_counted_and_the_next_case_follows(monkeypatch, capsys):
    class Target:
        def __init__(self, folder):
            self.case = 0

        def __call__(self, rng):
            kind = list(OUTCOMES)[int(rng.integers(len(OUTCOMES)))]
            return OUTCOMES[kind]()

    monkeypatch.setitem(fuzz.TARGETS, "made up", Target)
    result = fuzz.run("made up", 40, seed=0)
    assert set(result["by_kind"]) == set(OUTCOMES)
    assert sum(result["by_kind"].values()) == 40
    assert result["faults"] == 40 - result["taken"] - result["refused"]
    assert f"made up {result['examples'][0]['case']}: " in capsys.readouterr().err
    assert "| made up | 40" in fuzz.format_parts({"made up": result})


def test_changes_depend_on_the_seed_alone_and_leave_the_original():
    content = {"images": [{"id": 1, "size": [2, 3]}], "annotations": [{"bbox": [1, 2, 3, 4]}]}
    before = repr(content)
    first, again, other = (
        [repr(mutate_content(content, np.random.default_rng((seed, i)))) for i in range(20)]
        for seed in (0, 0, 1)
    )
    assert first == again != other and repr(content) == before
    data = bytes(range(200))
    assert mutate_bytes(data, np.random.default_rng(0)) == mutate_bytes(
        data, np.random.default_rng(0)
    )
    assert len({mutate_bytes(data, np.random.default_rng(i)) for i in range(20)}) > 15
