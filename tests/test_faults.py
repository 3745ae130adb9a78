"""The cases of benchmarks/faults.py, and how it compares runs."""

import math

import torch

from benchmarks.faults import FAULTS, SETUPS, count_differences, plan, table


def test_25_kills_are_in_every_setup_and_some_in_a_write():
    cases = list(plan(25))
    kills = [case for case in cases if "SIGKILL" in case[0]]
    assert len(kills) == 25
    assert {case[1:] for case in kills} == set(SETUPS)
    writes = [case for case in kills if "write" in case[0]]
    assert len(writes) >= 5 and {case[1:] for case in writes} == set(SETUPS)
    assert {case[0] for case in cases} == set(FAULTS)


def test_every_bit_counts():
    tensor = torch.tensor([1.0, 2.0])
    record = {"a": [1, (tensor, math.nan)], "b": "x"}
    same = {"a": [1, (tensor.clone(), float("nan"))], "b": "x"}
    assert count_differences(record, same) == 0
    moved = torch.nextafter(tensor, torch.tensor(9.0))
    assert count_differences(record, {"a": [2, (moved, math.nan)], "b": "x"}) == 2
    assert count_differences(record, {"a": [1]}) == 1
    assert count_differences([1, 2], [1, 2, 3]) == 1


def test_the_table_has_a_row_for_each_fault_and_setup():
    case = {"fault": "SIGTERM", "workers": 2, "processes": 1, "exit code": 143}
    records = [{**case, "as documented": True, "identical": same} for same in (True, False)]
    text = table(records)
    assert "| SIGTERM | 2 | 1 | 143 | 2 of 2 | 1 of 2 |" in " ".join(text.split())
