"""A run that was killed and resumed ends as if it had never been stopped."""

import json

import pytest
import torch
from config_kinds import KINDS
from omegaconf import OmegaConf

from nl_detectron.engine import Trainer

CLOCK = ("data_time", "eta_seconds", "rank_data_time", "time")  # metrics that time decides


class Stopped(Exception):
    """In place of a machine that went away."""


def configure(cfg, period):
    """Evaluate every 3 iterations, and write checkpoints and metrics as often as ``period``."""
    if OmegaConf.is_config(cfg):
        cfg.train.update({"seed": 1, "eval_period": 3, "log_period": 2})
        cfg.train.checkpointer.period = period
    else:
        cfg.defrost()
        cfg.TEST.EVAL_PERIOD, cfg.SOLVER.CHECKPOINT_PERIOD = 3, period
    return cfg


def outcome(folder) -> dict:
    """Everything that must be equal: by name, what a run has left in its folder."""
    final = torch.load(folder / "model_final.pth", weights_only=True)
    trainer = final["trainer"]
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    metrics = [{k: str(v) for k, v in line.items() if k not in CLOCK} for line in lines]
    states = trainer["_trainer"]["optimizer"]["state"].items()
    moments = {f"{n}.{key}": value for n, state in states for key, value in state.items()}
    left = {**final["model"], **moments, "metrics": metrics}
    for name in ("LRScheduler", "BestCheckpointer"):
        left[name] = {k: str(v) for k, v in trainer["hooks"].get(name, {}).items()}
    return left


def differences(ours: dict, theirs: dict) -> list[str]:
    assert ours.keys() == theirs.keys()
    return [
        name
        for name, value in ours.items()
        if not (
            torch.equal(value, theirs[name])
            if isinstance(value, torch.Tensor)
            else value == theirs[name]
        )
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_ends_like_one_that_was_never_stopped(
    kind, tiny_of_kind, train, tmp_path, monkeypatch
):
    step = Trainer.run_step

    def make(name):
        return configure(tiny_of_kind(kind, tmp_path / name, max_iter=6), period=3)

    train(make("whole"))

    def run_step(self):
        if self.iter == 4:
            raise Stopped
        step(self)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Trainer, "run_step", run_step)
        train(make("parts"))
    assert train(make("parts"), "--resume").start_iter == 3
    assert differences(outcome(tmp_path / "parts"), outcome(tmp_path / "whole")) == []
