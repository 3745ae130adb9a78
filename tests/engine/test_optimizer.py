"""Optimizers of a config: rates of blocks, weight decay and clipped gradients."""

import pytest
import torch

from nl_detectron.engine import Trainer
from nl_detectron.engine.learning_rates import scale_block_rate
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model, find_blocks


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_the_optimizer_is_the_configs(tiny_config, tmp_path, name):
    keys = ("SOLVER.OPTIMIZER", name, "SOLVER.WEIGHT_DECAY", 0.25, "SOLVER.WEIGHT_DECAY_NORM", 0.0)
    rates = ("SOLVER.BASE_LR", 0.125, "SOLVER.NONLOCAL_PAIRWISE_LR_FACTOR", 1.0)
    cfg = tiny_config(tmp_path, *keys, *rates)
    model = build_model(cfg)
    optimizer = Trainer.build_optimizer(cfg, model)
    assert isinstance(optimizer, getattr(torch.optim, name))
    assert {group["lr"] for group in optimizer.param_groups} == {0.125}
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert set(decay) == {id(p) for p in model.parameters()}
    assert decay[id(model.backbone.bottom_up.res4.nonlocal4.theta.weight)] == 0.25
    assert decay[id(model.backbone.bottom_up.res4[0].conv1.norm.weight)] == 0


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_gradients_are_clipped_as_the_config_says(tiny_config, tmp_path, name):
    cfg = tiny_config(tmp_path, "SOLVER.OPTIMIZER", name, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.5)
    model = torch.nn.Linear(3, 1)
    optimizer = Trainer.build_optimizer(cfg, model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    optimizer.step()
    assert model.weight.grad.norm() == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_blocks_and_what_weighs_positions_in_them_have_rates_of_their_own(
    tiny_config, tmp_path, name
):
    factors = ("SOLVER.NONLOCAL_LR_FACTOR", 3.0, "SOLVER.NONLOCAL_PAIRWISE_LR_FACTOR", 0.5)
    form = ("MODEL.NONLOCAL.PAIRWISE", "concatenation")
    cfg = tiny_config(tmp_path, "SOLVER.OPTIMIZER", name, "SOLVER.BASE_LR", 0.125, *factors, *form)
    model = build_model(cfg)
    groups = Trainer.build_optimizer(cfg, model).param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    (block,) = find_blocks(model).values()
    of_block = {name: rates[id(p)] for name, p in block.named_parameters()}
    weighing = ("theta.weight", "theta.bias", "phi.weight", "phi.bias", "pairwise.w_f")
    assert {of_block.pop(name) for name in weighing} == {0.1875}
    assert of_block and set(of_block.values()) == {0.375}
    inside = {id(p) for p in block.parameters()}
    assert {rates[id(p)] for p in model.parameters() if id(p) not in inside} == {0.125}


def test_a_lazy_configs_blocks_are_recognised_by_name():
    factor = scale_block_rate(3.0, pairwise_factor=0.5)
    names = {
        "backbone.bottom_up.res4.nonlocal4.theta.weight": 1.5,
        "nonlocal4.pairwise.w": 1.5,
        "roi_heads.mask_head.nonlocal2.g.weight": 3.0,
        "backbone.bottom_up.res4.4.conv1.weight": 1.0,
        "nonlocality.theta.weight": 1.0,
    }
    assert {name: factor(name) for name in names} == names


@pytest.mark.parametrize("key", ["NONLOCAL_LR_FACTOR", "NONLOCAL_PAIRWISE_LR_FACTOR"])
def test_blocks_that_would_not_learn_are_refused(tiny_config, tmp_path, key):
    cfg = tiny_config(tmp_path, f"SOLVER.{key}", 0.0)
    with pytest.raises(UsageError, match=rf"{key}.*above 0.*freeze"):
        Trainer.build_optimizer(cfg, torch.nn.Linear(1, 1))


def test_an_unknown_optimizer_is_refused(tiny_config, tmp_path):
    cfg = tiny_config(tmp_path, "SOLVER.OPTIMIZER", "adam")
    with pytest.raises(UsageError, match=r"SOLVER\.OPTIMIZER.*SGD.*AdamW.*'adam'"):
        Trainer.build_optimizer(cfg, torch.nn.Linear(1, 1))
