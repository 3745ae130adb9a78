"""A step that is not finite is not taken, and the run says where it began."""

import runpy
import sys
from itertools import repeat

import pytest
import torch
from config_kinds import KINDS, ROOT, THIN
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from nl_detectron.engine import Trainer
from nl_detectron.engine.finite_steps import Finding, FiniteTrainer, NonFiniteError
from nl_detectron.engine.mixed_precision import SMALLEST_SCALE, MixedPrecisionTrainer
from nl_detectron.engine.nonfinite_output import find_nonfinite_output, find_tensors


class At:
    """A hook that makes its tensor NaN from one call on."""

    def __init__(self, call: int, value: float = float("nan")):
        self.calls, self.call, self.value = 0, call, value

    def __call__(self, *args):
        self.calls += 1
        return args[-1] * self.value if self.calls > self.call else None


@pytest.fixture
def load(tiny_of_kind, tiny_config, tmp_path, restore_loggers):
    """Makes a trainer of two iterations, by default of a YAML file and a thin model."""

    def make(kind="thin", *words) -> Trainer:
        if kind == "thin":
            cfg = tiny_config(tmp_path, "SOLVER.MAX_ITER", 2, *words)
        else:
            cfg = tiny_of_kind(kind, tmp_path, max_iter=2)
        if kind != "lazy":
            cfg.defrost()
            cfg.SOLVER.CHECKPOINT_PERIOD, cfg.DATASETS.TEST = 1, ()
        else:
            cfg.train.checkpointer.period = 1
            del cfg.dataloader.evaluator
        return Trainer(cfg)

    with restore_loggers():
        yield make


def values(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_that_is_not_finite_is_not_applied(kind, load, tmp_path, caplog):
    trainer = load(kind)
    name, parameter = next(
        (n, p) for n, p in trainer.model.named_parameters() if n.endswith("mask_fcn2.weight")
    )
    parameter.register_hook(At(1))
    with pytest.raises(NonFiniteError) as caught:
        trainer.train()
    assert trainer.iter == 1  # the last one
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000000.pth"
    assert not (tmp_path / "model_final.pth").exists()
    saved = torch.load(tmp_path / "model_0000000.pth", weights_only=False)["model"]
    for key, value in values(trainer).items():
        assert torch.equal(value, saved[key]) and value.isfinite().all()
    message = str(caught.value)
    assert message.startswith(
        f"training stopped at iteration 1: all losses are finite, but not the gradient of {name}; "
        "in a second forward pass all outputs are finite. Images: "
    )
    assert "Traceback" not in caplog.text and "Exception during training" not in caplog.text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_its_module_and_images(value, load):
    trainer = load()
    before = values(trainer)
    module = trainer.model.roi_heads.mask_head.deconv
    module.register_forward_hook(At(0, value))
    with pytest.raises(NonFiniteError) as caught:
        trainer.train()
    message = str(caught.value)
    assert message.startswith("training stopped at iteration 0: loss_mask is ")
    assert "is that of roi_heads.mask_head.deconv (ConvTranspose2d). Images: " in message
    assert message.count("/train/") == message.count(".png (id ") == 2
    for help_ in ("learning rate", "warm-up", "clipping", "check_dataset", "from before"):
        assert help_ in message
    assert all(torch.equal(value, before[key]) for key, value in values(trainer).items())


def test_boxes_that_are_not_finite_are_the_same_error(load):
    trainer = load()  # Detectron2's RPN raises an error of its own in the forward pass
    trainer.model.backbone.bottom_up.res3.register_forward_hook(At(0))
    with pytest.raises(NonFiniteError, match=r"Training has diverged.*backbone.bottom_up.res3 \("):
        trainer.train()


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_in_bfloat16_is_an_error(load):
    trainer = load("thin", "SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "bfloat16")
    next(trainer.model.roi_heads.mask_head.deconv.parameters()).register_hook(At(1))
    with pytest.raises(NonFiniteError, match="iteration 1: all losses are finite, but not"):
        trainer.train()


@pytest.mark.slow
def test_a_diverged_rate_is_one_message_and_exit_code_1(
    tiny_relay, restore_loggers, tmp_path, monkeypatch, capfd
):
    config = str(ROOT / "configs" / "Demo" / "relay_mask_rcnn_nl.yaml")
    sets = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_val',)"]
    rate = ["SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", "1e6", "SOLVER.MAX_ITER", "3"]
    words = [*THIN, *sets, *rate, "OUTPUT_DIR", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["train_net.py", "--config-file", config, *words])
    with restore_loggers(), pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "train_net.py"), run_name="__main__")
    assert str(stop.value).startswith("train_net.py: error: training stopped at iteration ")
    assert "\n" not in str(stop.value)  # printed by sys.exit, with exit code 1
    assert "Traceback" not in (tmp_path / "log.txt").read_text() + "".join(capfd.readouterr())
    assert not list(tmp_path.glob("*.pth")) and not (tmp_path / "summary.json").exists()


# --- parts ------------------------------------------------------------------------------------


class Losses(nn.Module):
    """A linear layer whose output is a loss."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.inner(x).mean()}


def test_the_first_output_is_the_innermost():
    model = Losses()
    assert find_nonfinite_output(model, torch.ones(2, 4)) is None
    nn.init.constant_(model.inner[2].bias, float("nan"))
    assert find_nonfinite_output(model, torch.ones(2, 4)) == "inner.2 (Linear)"
    assert not any(m._forward_hooks for m in model.modules())


def test_a_model_that_stops_between_modules_names_none(monkeypatch):
    model = Losses().train()

    def stop(x):
        model.inner(x)
        raise FloatingPointError("Predicted boxes or scores contain Inf/NaN")  # as the RPN does

    monkeypatch.setattr(model, "forward", stop)
    assert find_nonfinite_output(model, torch.ones(2, 4)) is None
    assert not any(m._forward_hooks for m in model.modules())


def test_every_kind_of_output_is_looked_into():
    instances = Instances((2, 2), proposal_boxes=Boxes(torch.ones(1, 4)), scores=torch.ones(1))
    output = [{"a": torch.ones(1), "b": (None, instances)}, torch.ones(1, dtype=torch.long)]
    assert [len(t) for t in find_tensors(output)] == [1, 1, 1]


def test_images_of_all_processes_may_have_caused_a_gradient(monkeypatch):
    """But only those of a process whose own loss is not finite, if there is one."""
    trainer = FiniteTrainer(Losses(), [], None)
    trainer._batch, trainer.iter = torch.ones(2, 4), 0
    others = [("", False, "fine.png"), ("why", False, "some.png"), ("why", True, "culprit.png")]
    others = [Finding(*other) for other in others]
    for number, expected in ((2, "Images: no names, some.png."), (3, "Images: culprit.png.")):
        monkeypatch.setattr(comm, "all_gather", lambda own, n=number: [own, *others[:n]])
        with pytest.raises(NonFiniteError) as caught:
            trainer._stop_together([True, False], {"loss": torch.zeros(())}, ["weight"])
        assert expected in str(caught.value)


def scaled_trainer(scale: float) -> MixedPrecisionTrainer:
    model = Losses()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = MixedPrecisionTrainer(model, repeat(torch.ones(2, 4)), optimizer, "float16")
    trainer.grad_scaler.load_state_dict({**trainer.grad_scaler.state_dict(), "scale": scale})
    return trainer


def test_an_overflow_that_the_scaler_handles_is_no_error():
    trainer = scaled_trainer(64.0)
    weight = trainer.model.inner[2].weight
    before = weight.detach().clone()
    infinite = weight.register_hook(At(0, float("inf")))
    with EventStorage():
        trainer.train(0, 1)
        assert trainer.grad_scaler.get_scale() == 32.0 and torch.equal(weight, before)
        infinite.remove()
        trainer.train(1, 2)
    assert weight.isfinite().all() and not torch.equal(weight, before)


def test_gradients_that_no_scale_helps_are_an_error():
    trainer = scaled_trainer(1.5 * SMALLEST_SCALE)
    trainer.model.inner[2].weight.register_hook(At(0))
    with pytest.raises(NonFiniteError, match="iteration 1: the gradients have been infinite"):
        trainer.train(0, 3)


def test_a_number_without_gradients_and_a_batch_without_names():
    model = Losses()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.inner[0].weight.requires_grad_()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    bad = torch.full((2, 4), float("nan"))
    trainer = FiniteTrainer(model, [bad], optimizer)
    trainer.iter = 7
    with EventStorage(), pytest.raises(NonFiniteError, match=r"iteration 7: loss is nan.*no names"):
        trainer.run_step()
