"""``--batch-size`` scales rate and schedule."""

import json

import pytest
import torch
from coco_files import LAZY, MASK, PLAIN
from torch import nn

from nl_detectron.engine import describe_run, load_config
from nl_detectron.engine.batch import SCALED, scale_batch
from nl_detectron.engine.dataset_overrides import get
from nl_detectron.errors import UsageError

pytestmark = pytest.mark.usefixtures("own_catalogues")


def test_a_smaller_batch_takes_a_lower_rate_for_longer(load_args):
    cfg, args = load_args(MASK, "--batch-size", 2)
    solver = cfg.SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER) == (2, 0.0025, 720000)
    assert (solver.STEPS, solver.WARMUP_ITERS) == ((480000, 640000), 8000)
    assert solver.CHECKPOINT_PERIOD == 40000
    assert solver.REFERENCE_WORLD_SIZE == 0  # or it would be scaled twice
    assert cfg.is_frozen()
    [note] = args.notes
    assert note.startswith("--batch-size 2: SOLVER.IMS_PER_BATCH 16 -> 2, SOLVER.BASE_LR 0.02 -> ")


def test_a_greater_batch_takes_a_higher_rate_for_shorter(load_args):
    solver = load_args(MASK, "--batch-size", 32, opts=(*PLAIN, "TEST.EVAL_PERIOD", 5000))[0].SOLVER
    assert (solver.BASE_LR, solver.MAX_ITER, solver.STEPS) == (0.04, 45000, (30000, 40000))


def test_every_key_is_scaled_but_what_is_given(load_args):
    whole = load_config(str(MASK), [*PLAIN, "TEST.EVAL_PERIOD", "600"])
    for key in SCALED:
        value = get(whole, key)
        cfg, args = load_args(MASK, "--batch-size", 8, opts=(*PLAIN, key, value))
        assert get(cfg, key) == value
        assert args.notes[0].endswith(f"{key} {value} as given")
        expected = scale_batch(whole, 8)
        for other in set(SCALED) - {key, "TEST.EVAL_PERIOD"}:
            assert get(cfg, other) == get(expected, other) != get(whole, other)


def test_the_configs_own_batch_changes_nothing(load_args):
    cfg, args = load_args(MASK, "--batch-size", 16)
    assert cfg == load_config(str(MASK), PLAIN)
    assert args.notes == ["--batch-size 16: the config has it already"]


@pytest.mark.parametrize(
    ("config", "key", "opts"),
    [
        (MASK, "SOLVER.IMS_PER_BATCH", (*PLAIN, "SOLVER.IMS_PER_BATCH", 8)),
        (MASK, "SOLVER.REFERENCE_WORLD_SIZE", (*PLAIN, "SOLVER.REFERENCE_WORLD_SIZE", 8)),
        (LAZY, "total_batch_size", ("dataloader.train.total_batch_size=8",)),
    ],
)
def test_a_batch_given_twice_is_reported(refusal, config, key, opts):
    message = refusal(config, "--batch-size", 2, opts=opts)
    assert "--batch-size 2" in message and key in message


def test_a_lazy_config_is_scaled_too(load_args):
    run = describe_run(load_args(LAZY, opts=())[0])
    cfg, args = load_args(LAZY, "--batch-size", 2, opts=("train.seed=4",))
    scaled = describe_run(cfg)
    assert (run.batch_size, run.max_iter, cfg.train.seed) == (8, 700, 4)
    assert (scaled.batch_size, scaled.max_iter) == (2, 2800)
    assert scaled.checkpoints["period"] == 4 * run.checkpoints["period"]
    rates = {group["lr"] for group in scaled.build_optimizer(nn.Linear(1, 1)).param_groups}
    assert rates == {run.cfg.optimizer.lr / 4}
    [note] = args.notes
    changes = (
        "--batch-size 2: dataloader.train.total_batch_size 8 -> 2, optimizer.lr 0.0012 -> 0.0003"
    )
    assert note.startswith(f"{changes}, train.max_iter 700 -> 2800")


def test_overrides_of_a_lazy_config_are_not_scaled(load_args):
    cfg, args = load_args(LAZY, "--batch-size", 2, opts=("train.max_iter=30", "optimizer.lr=0.5"))
    assert (cfg.train.max_iter, cfg.optimizer.lr, cfg.optimizer.params.base_lr) == (30, 0.5, 0.5)
    assert args.notes[0].endswith("optimizer.lr 0.5 as given, train.max_iter 30 as given")


def test_a_lazy_config_whose_batch_or_rate_is_not_known_is_refused(load_args):
    cfg, _ = load_args(LAZY, opts=())
    for section, key in ((cfg.dataloader.train, "total_batch_size"), (cfg.optimizer, "lr")):
        del section[key]
        cfg.optimizer.params.pop("base_lr", None)
        with pytest.raises(UsageError, match=f"has no .*{key} to scale"):
            scale_batch(cfg, 2)
        section[key] = 8


def test_a_period_is_not_rounded_to_never():
    cfg = load_config(str(MASK), [*PLAIN, "TEST.EVAL_PERIOD", "1"])
    with pytest.raises(UsageError, match=r"TEST\.EVAL_PERIOD 1 would become 0"):
        scale_batch(cfg, 64)
    assert scale_batch(cfg, 64, ["TEST.EVAL_PERIOD"]).TEST.EVAL_PERIOD == 1


@pytest.mark.parametrize("words", [["0"], ["-2"], ["two"], ["2.5"]])
def test_a_batch_that_is_no_number_is_reported(load_args, words, capsys):
    with pytest.raises(SystemExit):
        load_args(MASK, "--batch-size", *words)
    assert "expected a whole number of 1 or more" in capsys.readouterr().err


def test_a_batch_that_gpus_cannot_share_is_reported(refusal, birds, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert "a batch of 6" in refusal(MASK, *birds(), "--num-gpus", 4, "--batch-size", 6)
    reference = (*PLAIN, "SOLVER.REFERENCE_WORLD_SIZE", 5)
    assert "a multiple of 5, SOLVER.REFERENCE_WORLD_SIZE" in refusal(MASK, *birds(), opts=reference)


@pytest.mark.slow
def test_the_reference_world_size_of_detectron2_is_kept_to(tiny_config, train, tmp_path):
    solver = ("SOLVER.IMS_PER_BATCH", 4, "SOLVER.REFERENCE_WORLD_SIZE", 2, "SOLVER.BASE_LR", 0.002)
    cfg = tiny_config(tmp_path, *solver, "SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()")
    trainer = train(cfg)
    assert trainer.max_iter == 2
    assert trainer.cfg.SOLVER.IMS_PER_BATCH == 2
    assert trainer.optimizer.defaults["lr"] == 0.001
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["iterations"] == 2
    assert "IMS_PER_BATCH: 2" in summary["config"] and "BASE_LR: 0.001" in summary["config"]
    log = (tmp_path / "log.txt").read_text()
    assert "Auto-scaling the config to batch_size=2, learning_rate=0.001, max_iter=2" in log
