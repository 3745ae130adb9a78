"""The best checkpoint of a run, and a run that goes on where it ended or was stopped."""

import json

import pytest
import torch
from fast_part import first_cases

from nl_detectron.engine import Trainer


class Stopped(Exception):
    """In place of a machine that went away."""


@pytest.fixture
def scripted(monkeypatch):
    """Evaluations give these AP, one after the other."""

    def script(*values):
        left = iter(values)
        results = lambda cls, cfg, model: {"segm": {"AP": float(next(left))}}  # noqa: E731
        monkeypatch.setattr(Trainer, "test", classmethod(results))

    return script


@pytest.fixture
def run(tiny_config, train, tmp_path, monkeypatch):
    """Trains to an iteration, evaluating and saving every second one; may stop before another."""
    step = Trainer.run_step

    def go(iterations, *words, stop=None, period=2):
        def run_step(self):
            if self.iter == stop:
                raise Stopped
            step(self)

        monkeypatch.setattr(Trainer, "run_step", run_step)
        periods = ("TEST.EVAL_PERIOD", period, "SOLVER.CHECKPOINT_PERIOD", 2)
        return train(tiny_config(tmp_path, "SOLVER.MAX_ITER", iterations, *periods), *words)

    return go


def iteration(path) -> int:
    return torch.load(path, weights_only=False)["trainer"]["iteration"]


def best_of(trainer) -> float:
    (best,) = (hook.best_metric for hook in trainer._hooks if hasattr(hook, "best_metric"))
    return best


@pytest.mark.slow
def test_the_best_checkpoint_is_that_of_the_best_evaluation(scripted, run, tmp_path):
    scripted(10, 30, 20)
    assert best_of(run(6)) == 30
    assert iteration(tmp_path / "model_best.pth") == 3
    assert iteration(tmp_path / "model_final.pth") == 5


@pytest.mark.slow
def test_a_finished_run_goes_on_where_it_ended(scripted, run, tmp_path):
    scripted(10, 10, 10, 10)
    run(4)
    resumed = run(6, "--resume")
    assert (resumed.start_iter, resumed.iter) == (4, 6)
    assert iteration(tmp_path / "model_final.pth") == 5


@pytest.mark.slow
@pytest.mark.parametrize("period", [0, 2], ids=["evaluated at the end", "evaluated twice"])
def test_a_run_whose_last_model_was_its_best_goes_on_where_it_ended(scripted, run, period):
    scripted(10, 20, 30, 40)
    run(4, period=period)
    assert run(6, "--resume", period=period).start_iter == 4


@pytest.mark.slow
def test_a_stopped_run_goes_on_from_its_last_checkpoint(scripted, run, tmp_path):
    scripted(10, 10, 5, 5)  # the evaluation after the checkpoint is made again
    with pytest.raises(Stopped):
        run(6, stop=3)
    resumed = run(6, "--resume")
    assert resumed.start_iter == 2
    assert json.loads((tmp_path / "summary.json").read_text())["iterations"] == 6


@pytest.mark.slow
@first_cases(1, "stop", [1, 3])
def test_a_stopped_run_has_no_summary(scripted, run, tmp_path, stop):
    scripted(10, 5)
    with pytest.raises(Stopped):
        run(4, stop=stop)
    assert (tmp_path / "metrics.json").exists()
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stop, values", [(3, (20,)), (5, (10, 20)), (5, (20, 10))])
def test_a_resumed_run_remembers_the_best_result(scripted, run, tmp_path, stop, values):
    scripted(*values, values[-1], 15, 15, 15)  # the last evaluation is made again
    with pytest.raises(Stopped):
        run(8, stop=stop)
    best = iteration(tmp_path / "model_best.pth")
    assert best_of(run(8, "--resume")) == 20
    assert iteration(tmp_path / "model_best.pth") == best  # no worse model took its place


@pytest.mark.slow
def test_a_resumed_run_takes_the_steps_of_one_that_was_never_stopped(scripted, run, tmp_path):
    scripted(1, 2, 3, 4)
    with pytest.raises(Stopped):
        run(6, stop=4)
    run(6, "--resume")
    state = torch.load(tmp_path / "model_final.pth", weights_only=False)["trainer"]
    assert state["iteration"] == 5
    steps = {int(s["step"]) for s in state["_trainer"]["optimizer"]["state"].values()}
    assert max(steps) == 6
    assert state["hooks"]["LRScheduler"]["last_epoch"] == 6
