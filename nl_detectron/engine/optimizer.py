"""The optimizer of a YAML file: SOLVER.OPTIMIZER, with learning rates of their own for blocks."""

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
    """SOLVER.OPTIMIZER over Detectron2's parameter groups, with learning rates of their own for
    the blocks (SOLVER.NONLOCAL_LR_FACTOR) and what weighs positions in them
    (SOLVER.NONLOCAL_PAIRWISE_LR_FACTOR).

    Raises:
        UsageError: of :func:`check_optimizer`.
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
        # with mixed precision a fused step unscales gradients itself, after they were clipped
        optimizer = torch.optim.AdamW(groups, **both, fused=not solver.AMP.ENABLED)
    # Detectron2 annotates it for a class of optimizers only.
    return cast(Any, maybe_add_gradient_clipping)(cfg, optimizer)


def check_optimizer(cfg: CfgNode) -> None:
    """Raises UsageError for an optimizer that there is not, or blocks that would not learn."""
    name = cfg.SOLVER.OPTIMIZER
    if name not in OPTIMIZERS:
        raise UsageError(f"SOLVER.OPTIMIZER: expected one of {OPTIMIZERS}, got {name!r}")
    factors = ("NONLOCAL_LR_FACTOR", "NONLOCAL_PAIRWISE_LR_FACTOR")
    check_factors({f"SOLVER.{key}": cfg.SOLVER[key] for key in factors})
