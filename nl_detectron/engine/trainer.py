"""Detectron2's trainer with COCO evaluation, our checkpointer and a choice of optimizer."""

import os
import weakref
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.evaluation import COCOEvaluator
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from torch import nn

from ..modeling import build_model, find_blocks
from .checkpoint import Checkpointer, fresh_outside_blocks
from .errors import UsageError
from .hooks import BestCheckpointer, RunSummary, write_summary
from .pictures import Pictures

OPTIMIZERS = ("SGD", "AdamW")


class Trainer(DefaultTrainer):
    """Trains what a config describes and evaluates it by COCO's metrics.

    Beside Detectron2's own files, OUTPUT_DIR gets ``model_best.pth`` (by :func:`best_metric`) and
    ``summary.json``.
    """

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        return build_model(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """SOLVER.OPTIMIZER over Detectron2's parameter groups, and the blocks' by themselves where
        SOLVER.NONLOCAL_LR_FACTOR is not 1."""
        check_optimizer(cfg)
        solver = cfg.SOLVER
        blocks = tuple(f"{name}." for name in find_blocks(model))
        groups = get_default_optimizer_params(
            model,
            base_lr=solver.BASE_LR,
            weight_decay_norm=solver.WEIGHT_DECAY_NORM,
            bias_lr_factor=solver.BIAS_LR_FACTOR,
            weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
            lr_factor_func=lambda name: solver.NONLOCAL_LR_FACTOR if name.startswith(blocks) else 1,
        )
        both = {"lr": solver.BASE_LR, "weight_decay": solver.WEIGHT_DECAY}
        if solver.OPTIMIZER == "SGD":  # as Detectron2's build_optimizer
            sgd = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV, "foreach": True}
            optimizer = torch.optim.SGD(groups, **both, **sgd)
        else:
            optimizer = torch.optim.AdamW(groups, **both, fused=True)
        return maybe_add_gradient_clipping(cfg, optimizer)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> COCOEvaluator:
        """Boxes, and masks and keypoints where the model predicts them."""
        folder = os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
        return COCOEvaluator(
            dataset_name,
            tasks=tasks(cfg),  # from the predictions, a model that finds nothing would have none
            output_dir=folder,
            use_fast_impl=False,
            kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
        )

    def state_dict(self) -> dict[str, Any]:
        # After the last iteration the counter is one further, and a resumed run would skip one.
        return {**super().state_dict(), "iteration": min(self.iter, self.max_iter - 1)}

    def build_hooks(self) -> list[HookBase]:
        # Detectron2 has no factory for its checkpointer; these hooks are the first to hold it.
        self.checkpointer = Checkpointer(
            self.model, self.cfg.OUTPUT_DIR, trainer=weakref.proxy(self)
        )
        built = super().build_hooks()
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
        return [*others, RunSummary(self.cfg), writer]


def check_optimizer(cfg: CfgNode) -> None:
    """Raises UsageError for an optimizer that there is not, or blocks that would not learn."""
    name, factor = cfg.SOLVER.OPTIMIZER, cfg.SOLVER.NONLOCAL_LR_FACTOR
    if name not in OPTIMIZERS:
        raise UsageError(f"SOLVER.OPTIMIZER: expected one of {OPTIMIZERS}, got {name!r}")
    if factor <= 0:
        raise UsageError(
            f"SOLVER.NONLOCAL_LR_FACTOR: expected a number above 0, got {factor}; to keep a block "
            "as it is, call its freeze()"
        )


def tasks(cfg: CfgNode) -> tuple[str, ...]:
    """COCO's names of what the model predicts, the hardest last."""
    on = {"bbox": True, "segm": cfg.MODEL.MASK_ON, "keypoints": cfg.MODEL.KEYPOINT_ON}
    return tuple(task for task in on if on[task])


def best_metric(cfg: CfgNode) -> str:
    """What decides the best checkpoint: AP of keypoints, else masks, else boxes, first test set."""
    prefix = f"{cfg.DATASETS.TEST[0]}/" if len(cfg.DATASETS.TEST) > 1 else ""
    return f"{prefix}{tasks(cfg)[-1]}/AP"


def evaluate(cfg: CfgNode, resume: bool = False) -> dict:
    """Evaluate MODEL.WEIGHTS (with ``resume``, the last checkpoint in OUTPUT_DIR).

    A baseline's weights do for a non-local model: its blocks are then identities.
    Writes ``evaluation.json`` in OUTPUT_DIR.

    Raises:
        UsageError: weights that lack more than the non-local blocks.
    """
    model = Trainer.build_model(cfg)
    checkpointer = Checkpointer(model, cfg.OUTPUT_DIR)
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    lacking = fresh_outside_blocks(checkpointer)
    if lacking:
        raise UsageError(
            f"checkpoint {checkpointer.path!r} lacks {len(lacking)} of this model's tensors (such "
            f"as {lacking[0]}), so an evaluation would mean nothing; give MODEL.WEIGHTS a trained "
            "model's checkpoint"
        )
    results = Trainer.test(cfg, model)
    if comm.is_main_process():
        file = os.path.join(cfg.OUTPUT_DIR, "evaluation.json")
        write_summary(file, cfg, results, checkpoint=checkpointer.path)
    return results
