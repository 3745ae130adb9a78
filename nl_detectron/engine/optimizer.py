"""The optimizer of a YAML file: SOLVER.OPTIMIZER, with separate learning rates for blocks."""

from typing import Any, cast

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn

from ..errors import UsageError
from ..modeling import find_blocks
from .learning_rates import check_factors, scale_block_rate

OPTIMIZERS = ("SGD", "AdamW")


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build SOLVER.OPTIMIZER over Detectron2's parameter groups.

    SOLVER.NONLOCAL_LR_FACTOR scales the learning rate of the blocks, and
    SOLVER.NONLOCAL_PAIRWISE_LR_FACTOR that of their theta, phi and pairwise function.

    Raises:
        UsageError: as in :func:`check_optimizer`.
    """
    check_optimizer(cfg)
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        lr_factor_func=scale_block_rate(
            solver.NONLOCAL_LR_FACTOR, solver.NONLOCAL_PAIRWISE_LR_FACTOR, find_blocks(model)
        ),
    )
    both = {"lr": solver.BASE_LR, "weight_decay": solver.WEIGHT_DECAY}
    if solver.OPTIMIZER == "SGD":  # as Detectron2's build_optimizer
        sgd = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV, "foreach": True}
        optimizer = torch.optim.SGD(groups, **both, **sgd)
    else:
        # with mixed precision, a fused step would unscale gradients after they were clipped
        optimizer = torch.optim.AdamW(groups, **both, fused=not solver.AMP.ENABLED)
    # Detectron2 annotates it for a class of optimizers only.
    return cast(Any, maybe_add_gradient_clipping)(cfg, optimizer)


def check_optimizer(cfg: CfgNode) -> None:
    """Raises UsageError for an unknown optimizer, or factors with which blocks would not learn."""
    name = cfg.SOLVER.OPTIMIZER
    if name not in OPTIMIZERS:
        raise UsageError(f"SOLVER.OPTIMIZER: expected one of {OPTIMIZERS}, got {name!r}")
    factors = ("NONLOCAL_LR_FACTOR", "NONLOCAL_PAIRWISE_LR_FACTOR")
    check_factors({f"SOLVER.{key}": cfg.SOLVER[key] for key in factors})
