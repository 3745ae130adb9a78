"""Detectron2's trainer with COCO's evaluations, our checkpointer and a choice of optimizer."""

import logging
import os
import weakref
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import (
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    TrainerBase,
    hooks,
)
from detectron2.evaluation import DatasetEvaluators
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch import nn

from ..errors import UsageError
from ..modeling import build_model, find_blocks
from .checkpoint import Checkpointer, load_trained
from .distributed import distribute_model
from .evaluation import best_metric, build_evaluator
from .hooks import BestCheckpointer, EvalHook, RunSummary, write_summary
from .learning_rates import scale_block_rate
from .mixed_precision import MixedPrecisionTrainer
from .pictures import Pictures

OPTIMIZERS = ("SGD", "AdamW")


class Trainer(DefaultTrainer):
    """Trains what a config describes and evaluates it by COCO's metrics.

    Beside Detectron2's own files, OUTPUT_DIR gets ``model_best.pth`` (by :func:`best_metric`) and
    ``summary.json``.
    """

    def __init__(self, cfg: CfgNode):
        TrainerBase.__init__(self)  # DefaultTrainer's would distribute models on GPUs only
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        self.cfg = cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        loader = self.build_train_loader(cfg)
        model = distribute_model(model, broadcast_buffers=False)
        if cfg.SOLVER.AMP.ENABLED:
            dtype = cfg.SOLVER.AMP.DTYPE
            self._trainer = MixedPrecisionTrainer(model, loader, optimizer, dtype)
        else:
            self._trainer = SimpleTrainer(model, loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        return build_model(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """SOLVER.OPTIMIZER over Detectron2's parameter groups, with learning rates of their own
        for the blocks (SOLVER.NONLOCAL_LR_FACTOR) and what weighs positions in them
        (SOLVER.NONLOCAL_PAIRWISE_LR_FACTOR)."""
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
        return maybe_add_gradient_clipping(cfg, optimizer)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluators:
        return build_evaluator(cfg, dataset_name)

    def state_dict(self) -> dict[str, Any]:
        # After the last iteration the counter is one further, and a resumed run would skip one.
        return {**super().state_dict(), "iteration": min(self.iter, self.max_iter - 1)}

    def build_hooks(self) -> list[HookBase]:
        built = [
            EvalHook(self.cfg.TEST.EVAL_PERIOD, self._evaluate)
            if isinstance(hook, hooks.EvalHook)
            else hook
            for hook in super().build_hooks()
        ]
        if not comm.is_main_process():
            return built
        *others, writer = built  # the writer last, so that it writes what the others put
        if self.cfg.DATASETS.TEST:
            others.append(
                BestCheckpointer(
                    self.cfg.TEST.EVAL_PERIOD, self.checkpointer, best_metric(self.cfg)
                )
            )
        if self.cfg.VISUALIZE.PERIOD:
            others.append(Pictures(self.cfg))
        return [*others, RunSummary(self.cfg.OUTPUT_DIR, **_describe_run(self.cfg)), writer]

    def _evaluate(self) -> dict:
        self._last_eval_results = self.test(self.cfg, self.model)
        return self._last_eval_results


def check_optimizer(cfg: CfgNode) -> None:
    """Raises UsageError for an optimizer that there is not, or blocks that would not learn."""
    name = cfg.SOLVER.OPTIMIZER
    if name not in OPTIMIZERS:
        raise UsageError(f"SOLVER.OPTIMIZER: expected one of {OPTIMIZERS}, got {name!r}")
    for key in ("NONLOCAL_LR_FACTOR", "NONLOCAL_PAIRWISE_LR_FACTOR"):
        if cfg.SOLVER[key] <= 0:
            raise UsageError(
                f"SOLVER.{key}: expected a number above 0, got {cfg.SOLVER[key]}; to keep a block "
                "as it is, call its freeze()"
            )


def evaluate(cfg: CfgNode, resume: bool = False) -> dict:
    """Evaluate MODEL.WEIGHTS (with ``resume``, the last checkpoint in OUTPUT_DIR).

    A baseline's weights do for a non-local model: its blocks are then identities.
    Writes ``evaluation.json`` in OUTPUT_DIR.

    Raises:
        UsageError: weights that lack more than the non-local blocks.
    """
    model = Trainer.build_model(cfg)
    source = cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR
    weights = load_trained(model, *source, resume=resume, key="MODEL.WEIGHTS")
    results = Trainer.test(cfg, model)
    if comm.is_main_process():
        path = os.path.join(cfg.OUTPUT_DIR, "evaluation.json")
        write_summary(path, results, checkpoint=weights, **_describe_run(cfg))
    return results


def _describe_run(cfg: CfgNode) -> dict[str, str]:
    """What a summary says of the run."""
    return {"device": cfg.MODEL.DEVICE, "config": cfg.dump()}
