"""Steps are timed in turns, after a warm-up, and a run's step trains."""

import pytest
import torch

from benchmarks.evidence import pace


def test_steps_take_turns_and_the_warm_up_is_not_counted(monkeypatch):
    order, now = [], [0.0]
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now[0])

    def step(name, seconds):
        def run():
            order.append(name)
            now[0] += 9 if order.count(name) <= pace.WARM_UP else seconds

        return run

    found = pace.time_in_turns({"a": step("a", 0.5), "b": step("b", 1.0)})
    assert found["a"] == {"median": 0.5, "least": 0.5, "most": 0.5}
    assert found["b"]["median"] == 1.0
    once = pace.ITERATIONS
    assert order[2 * pace.WARM_UP :][: 2 * once] == ["a"] * once + ["b"] * once


@pytest.mark.slow
def test_a_runs_step_trains_it(tiny):
    step = pace.build_step(tiny("embedded_gaussian"))
    trainer = step.__closure__[0].cell_contents
    before = [p.clone() for p in trainer.model.parameters()]
    step()
    after = trainer.model.parameters()
    assert not all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
