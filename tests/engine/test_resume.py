"""A run that was killed or stopped, and resumed, ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from config_kinds import ROOT, THIN, WIDE
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.utils.events import EventStorage
from omegaconf import OmegaConf

from nl_detectron.engine import Trainer, resume
from nl_detectron.engine.stopping import Stopped, StopSignals

CLOCK = ("data_time", "eta_seconds", "rank_data_time", "time")  # metrics that time decides
UNSURE = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0")
PERIODS = ("SOLVER.MAX_ITER", "6", "TEST.EVAL_PERIOD", "3", "SOLVER.CHECKPOINT_PERIOD", "3")


class Lost(Exception):
    """In place of a machine that went away."""


@pytest.fixture(scope="module")
def make(tiny_of_kind):
    """A config of 6 iterations with an evaluation and a checkpoint after 3."""

    def configure(kind, folder):
        cfg = tiny_of_kind(kind, folder, max_iter=6)
        if OmegaConf.is_config(cfg):
            cfg.train.update({"seed": 1, "eval_period": 3})
            cfg.train.checkpointer.period = 3
        else:
            cfg.defrost()
            cfg.TEST.EVAL_PERIOD = cfg.SOLVER.CHECKPOINT_PERIOD = 3
        return cfg

    return configure


@pytest.fixture(scope="module")
def whole(make, train, tmp_path_factory):
    """What a run of a kind leaves that was never stopped."""

    @cache
    def run(kind):
        folder = tmp_path_factory.mktemp(kind)
        train(make(kind, folder))
        return outcome(folder)

    return run


def outcome(folder: Path) -> dict:
    """Everything that must be equal, by name."""
    final = torch.load(folder / "model_final.pth", weights_only=True)
    trainer = final["trainer"]
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    metrics = [{k: str(v) for k, v in line.items() if k not in CLOCK} for line in lines]
    states = trainer["_trainer"]["optimizer"]["state"].items()
    moments = {f"{n}.{key}": value for n, state in states for key, value in state.items()}
    left = {**final["model"], **moments, "metrics": metrics}
    for name in ("LRScheduler", "BestCheckpointer"):
        left[name] = {k: str(v) for k, v in trainer["hooks"][name].items()}
    return left


def differences(ours: dict, theirs: dict) -> list[str]:
    """Names of what is not equal bit for bit."""
    assert ours.keys() == theirs.keys()

    def same(one, other) -> bool:
        return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other

    return [name for name, value in ours.items() if not same(value, theirs[name])]


def interrupt(patch, iteration, act) -> None:
    """Call ``act`` at the start of an iteration of the runs that follow."""
    step = Trainer.run_step

    def run_step(self):
        if self.iter == iteration:
            act()
        step(self)

    patch.setattr(Trainer, "run_step", run_step)


@pytest.mark.slow
@pytest.mark.parametrize("lost_at", [1, 4])
def test_a_lost_yaml_run_ends_like_one_that_was_not(
    lost_at, make, whole, train, tmp_path, monkeypatch
):
    """Before its first checkpoint it starts again from the beginning."""

    def lose():
        raise Lost

    with monkeypatch.context() as patch, pytest.raises(Lost):
        interrupt(patch, lost_at, lose)
        train(make("yaml", tmp_path))
    assert train(make("yaml", tmp_path), "--resume").start_iter == (3 if lost_at > 3 else 0)
    assert differences(outcome(tmp_path), whole("yaml")) == []


@pytest.mark.slow
def test_scaled_losses_and_precise_statistics_survive_as_well(make, train, tmp_path, monkeypatch):
    def configure(folder):
        cfg = make("yaml", folder)
        cfg.SOLVER.AMP.ENABLED = cfg.TEST.PRECISE_BN.ENABLED = True
        cfg.TEST.PRECISE_BN.NUM_ITER = 2
        return cfg

    def lose():
        raise Lost

    train(configure(tmp_path / "whole"))
    with monkeypatch.context() as patch, pytest.raises(Lost):
        interrupt(patch, 4, lose)
        train(configure(tmp_path / "lost"))
    assert train(configure(tmp_path / "lost"), "--resume").start_iter == 3
    assert differences(outcome(tmp_path / "lost"), outcome(tmp_path / "whole")) == []
    final = torch.load(tmp_path / "lost" / "model_final.pth", weights_only=True)
    assert final["trainer"]["_trainer"]["grad_scaler"]["scale"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["yaml", "lazy"])
def test_a_resumed_run_takes_the_configs_rates(kind, make, train, tmp_path, monkeypatch, caplog):
    """At the place in the schedule that the run had reached, and the log says so."""

    def run(stop_at, rate, decay, *words) -> dict:
        cfg = make(kind, tmp_path)
        if kind == "yaml":
            cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupCosineLR"
            cfg.SOLVER.update({"BASE_LR": rate, "WEIGHT_DECAY": decay})
        else:
            cfg.lr_multiplier.scheduler.end_value = 0.0
            cfg.optimizer.update({"lr": rate, "weight_decay": decay})
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            interrupt(patch, stop_at, lambda: os.kill(os.getpid(), signal.SIGTERM))
            train(cfg, *words)
        return torch.load(tmp_path / f"model_{stop_at:07d}.pth", weights_only=True)["trainer"]

    def settings(state, name) -> list[float]:
        groups = state["_trainer"]["optimizer"]["param_groups"]
        return sorted({group[name] for group in groups}, reverse=True)

    before, after = run(1, 1e-3, 0.01), run(2, 1e-4, 0.02, "--resume")
    assert settings(before, "initial_lr") == pytest.approx([1e-3, 1e-4])
    assert settings(after, "initial_lr") == pytest.approx([1e-4, 1e-5])
    assert settings(after, "lr") == pytest.approx([0.5e-4, 0.5e-5])  # half of the cosine
    assert 0.02 in settings(after, "weight_decay") and 0.01 not in settings(after, "weight_decay")
    schedule = after["hooks"]["LRScheduler"]
    assert schedule["last_epoch"] == 3
    assert sorted(set(schedule["base_lrs"]), reverse=True) == settings(after, "initial_lr")
    used = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    assert (used["iteration"], used["lr"]) == (2, pytest.approx(0.75e-4))  # 2/6 of the way
    moments = after["_trainer"]["optimizer"]["state"].values()
    assert {int(one["step"]) for one in moments} == {3}
    (said,) = (text for text in caplog.messages if "continues with the config's" in text)
    assert said.endswith(
        "learning rate from 0.001 to 0.0001, 0.0001 to 1e-05; weight decay from 0.01 to 0.02"
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_lazy_run_ends_like_one_that_was_not(
    number, make, whole, train, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch, pytest.raises(Stopped) as stop:
        patch.setattr(sys, "argv", ["train_net.py", "--config-file", "a b.py"])
        interrupt(patch, 4, lambda: os.kill(os.getpid(), number))
        train(make("lazy", tmp_path))
    assert stop.value.code == 128 + number
    log = (tmp_path / "log.txt").read_text()
    text = f"{tmp_path / 'model_0000004.pth'} has all of them. To continue: python train_net.py "
    assert f"Stopped by {number.name} after 5 of 6 iterations; {text}--resume --config-file" in log
    assert "Exception during training" not in log
    assert train(make("lazy", tmp_path), "--resume").start_iter == 5
    assert differences(outcome(tmp_path), whole("lazy")) == []
    assert signal.getsignal(number) is not None and not isinstance(
        getattr(signal.getsignal(number), "__self__", None), StopSignals
    )


@pytest.mark.slow
def test_a_killed_run_ends_like_one_that_was_not(make, whole, train, tmp_path):
    config = str(ROOT / "configs" / "Demo" / "relay_mask_rcnn_nl.yaml")
    sets = ("DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_val',)")
    words = [*THIN, *map(str, WIDE), *UNSURE, *PERIODS, *sets, "OUTPUT_DIR", str(tmp_path)]
    script = [sys.executable, str(Path(__file__).with_name("killed_run.py")), "5"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*script, "--config-file", config, *words], env=environment, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert train(make("yaml", tmp_path), "--resume").start_iter == 3
    assert differences(outcome(tmp_path), whole("yaml")) == []


def test_a_checkpoint_without_random_states_is_reported(caplog):
    class Unsaved(resume.ResumeState):
        trainer = type("Trainer", (), {"start_iter": 3})()

    state = Unsaved(None, None)
    state.restore()
    assert "holds no random states and no place in the data" in caplog.text


def test_another_number_of_processes_is_reported(caplog):
    class Alone(resume.ResumeState):
        def _model(self):
            return torch.nn.Identity()

    own = {"random": resume.get_random_states(), "normalizers": {}, "buffers": {}}
    Alone(None, None)._restore_process([own, own])
    assert "of a run in 2 process(es), this one has 1" in caplog.text


def test_each_process_gets_its_own_statistics_of_batch_norms(monkeypatch):
    model = torch.nn.BatchNorm1d(2)

    class Second(resume.ResumeState):
        def _model(self):
            return model

    own = {"random": resume.get_random_states(), "normalizers": {}}
    first = {"running_mean": torch.zeros(2), "running_var": torch.ones(2)}
    other = {**first, "running_mean": torch.tensor([3.0, 4.0])}
    ranks = [{**own, "buffers": buffers} for buffers in (first, other)]
    resume._keep_other_buffers(ranks)
    assert [list(rank["buffers"]) for rank in ranks] == [[], ["running_mean"]]
    monkeypatch.setattr(resume.comm, "get_rank", lambda: 1)
    monkeypatch.setattr(resume.comm, "get_world_size", lambda: 2)
    Second(None, None)._restore_process(ranks)
    assert model.running_mean.tolist() == [3, 4] and model.running_var.tolist() == [1, 1]


def test_moving_averages_of_dense_detectors_are_kept():
    keypoint_head = torch.nn.Identity()
    detector = DenseDetector(torch.nn.Identity(), None, [], pixel_mean=[0.0], pixel_std=[1.0])
    keypoint_head.loss_normalizer = "visible"  # a setting of Detectron2's
    model = torch.nn.Sequential(keypoint_head, detector)
    assert resume._loss_normalizers(model) == {}
    detector._ema_update("loss_normalizer", 10, 100)
    assert resume._loss_normalizers(model) == {"1": 91.0}


def test_moving_averages_continue_in_the_process():
    model = torch.nn.Sequential(
        DenseDetector(torch.nn.Identity(), None, [], pixel_mean=[0.0], pixel_std=[1.0])
    )

    class Alone(resume.ResumeState):
        def _model(self):
            return model

    own = {"random": resume.get_random_states(), "normalizers": {"0": 91.0, "gone": 1.0}}
    Alone(None, None)._restore_process([{**own, "buffers": {}}])
    assert resume._loss_normalizers(model) == {"0": 91.0}


def test_smoothed_metrics_continue():
    def put(storage, start, end):
        for storage.iter in range(start, end):
            storage.put_scalar("loss", (storage.iter * 7) % 11)
            storage.put_scalar("lr", storage.iter, smoothing_hint=False)

    whole, first, second = (EventStorage() for _ in range(3))
    put(whole, 0, 45)
    put(first, 0, 33)
    resume._set_metrics(second, resume._get_metrics(first))
    put(second, 33, 45)
    assert second.latest_with_smoothing_hint() == whole.latest_with_smoothing_hint()
    assert second.history("loss").global_avg() == whole.history("loss").global_avg()
