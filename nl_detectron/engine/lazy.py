"""The run that a LazyConfig describes."""

import copy
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from detectron2.config import CfgNode, LazyConfig, instantiate
from detectron2.data import MetadataCatalog
from detectron2.solver import LRMultiplier
from detectron2.solver.build import maybe_add_gradient_clipping
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from ..data.coco_dataset import DatasetInfo
from ..errors import UsageError
from ..modeling import attach_image_sizes
from .config_files import choose_device
from .config_values import flatten, to_plain
from .data_checks import check_annotations
from .data_loaders import build_lazy_loader
from .lazy_config import data_sets, load_config, train_defaults
from .run import Run, Visualize

__all__ = ["clipped", "describe_run", "load_config"]

KEYS = {
    "output_dir": "train.output_dir",
    "device": "train.device",
    "weights": "train.init_checkpoint",
    "amp_dtype": "train.amp.dtype",
    "batch_size": "dataloader.train.total_batch_size",
    "max_to_keep": "train.checkpointer.max_to_keep",
    "max_bad_samples": "train.max_bad_samples",
    "test_sets": "dataloader.test.dataset.names",
    "visualize_period": "train.visualize.period",
    "visualize_images": "train.visualize.images",
    "visualize_score": "train.visualize.score",
    "features": "model.backbone with its out_features",
}


def describe_run(cfg: DictConfig) -> Run:
    """Return the run that a config describes, with defaults for sections that it lacks."""

    def train(key: str) -> Any:
        default = OmegaConf.select(train_defaults(), key)
        return OmegaConf.select(cfg, f"train.{key}", default=default)

    device = choose_device(train("device"), False, KEYS["device"])
    evaluated = OmegaConf.select(cfg, "dataloader.evaluator") is not None
    classes = (OmegaConf.select(cfg, f"model.{key}num_classes") for key in ("roi_heads.", ""))
    return Run(
        cfg=cfg,
        keys=KEYS,
        output_dir=train("output_dir"),
        device=device,
        weights=train("init_checkpoint"),
        amp=train("amp.enabled"),
        amp_dtype=train("amp.dtype"),
        max_iter=train("max_iter"),
        batch_size=OmegaConf.select(cfg, KEYS["batch_size"], default=0),
        eval_period=train("eval_period"),
        log_period=train("log_period"),
        max_bad_samples=train("max_bad_samples"),
        checkpoints=train("checkpointer"),
        ddp=train("ddp"),
        train_sets=data_sets(cfg, "train"),
        test_sets=(data_sets(cfg, "test") or ("",)) if evaluated else (),
        resize=_test_size(cfg),
        num_classes=next(filter(None, classes), None),
        visualize=Visualize(*(train(f"visualize.{field}") for field in Visualize._fields)),
        build_model=lambda other=None: attach_image_sizes(_instantiate(cfg.model)).to(
            other or device
        ),
        build_optimizer=partial(_build_optimizer, cfg),
        build_lr_scheduler=lambda optimizer: LRMultiplier(
            optimizer, _instantiate(cfg.lr_multiplier), train("max_iter")
        ),
        build_mapper=lambda: _instantiate(OmegaConf.select(cfg, "dataloader.train.mapper")),
        build_train_loader=lambda: build_lazy_loader(
            cfg.dataloader.train, train("max_bad_samples"), KEYS["max_bad_samples"]
        ),
        build_test_loader=lambda name: build_lazy_loader(cfg.dataloader.test),
        build_evaluator=lambda name: _instantiate(cfg.dataloader.evaluator),
        best_metric=partial(_best_metric, cfg),
        check=partial(_check, cfg),
        dump=partial(_dump, cfg),
        describe_model=lambda: flatten(
            to_plain(OmegaConf.to_container(cfg.model, resolve=True)), "model."
        ),
    )


def _instantiate(call: Any) -> Any:
    """Detectron2's ``instantiate``, whose result may be anything that a config describes."""
    return instantiate(call)


def _test_size(cfg: DictConfig) -> tuple[int, int]:
    """Shorter side of test images and maximum of the longer one in pixels, as set by
    ResizeShortestEdge; (0, 0) without it."""
    for call in OmegaConf.select(cfg, "dataloader.test.mapper.augmentations") or ():
        if isinstance(call, DictConfig) and "short_edge_length" in call:
            length = call.short_edge_length
            shorter = length if isinstance(length, int) else length[0]
            return shorter, call.get("max_size", sys.maxsize)
    return 0, 0


def _build_optimizer(cfg: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    call = copy.deepcopy(cfg.optimizer)  # the config must not hold the model
    call.params.model = model
    if OmegaConf.select(cfg, "train.amp.enabled") and call.get("fused"):
        call.fused = False  # a fused step would unscale gradients itself, after they were clipped
    optimizer = _instantiate(call)
    for group in optimizer.param_groups:  # checkpoints hold them, and must hold plain values only
        group.update({k: tuple(v) for k, v in group.items() if isinstance(v, ListConfig)})
    return optimizer


def clipped(
    optimizer: type[torch.optim.Optimizer], params: Iterable, *, norm: float, **options
) -> torch.optim.Optimizer:
    """Build an optimizer that clips each tensor's gradient to a 2-norm before a step, as
    SOLVER.CLIP_GRADIENTS of a YAML file does with CLIP_TYPE "norm".

    Args:
        optimizer: the optimizer's class.
        params: parameters or parameter groups.
        norm: largest 2-norm of a tensor's gradient.
        options: further arguments of the class.
    """
    clip = {"ENABLED": True, "CLIP_TYPE": "norm", "CLIP_VALUE": norm, "NORM_TYPE": 2.0}
    cfg = CfgNode({"SOLVER": {"CLIP_GRADIENTS": clip}})
    # Detectron2 annotates it for a class of optimizers only.
    return cast(Any, maybe_add_gradient_clipping)(cfg, optimizer(params, **options))


def _best_metric(cfg: DictConfig) -> str:
    """Name of the AP of the evaluator's last task, by default of boxes."""
    tasks = cfg.dataloader.evaluator.get("tasks") or ["bbox"]
    return f"{tasks[-1]}/AP"


def _check(cfg: DictConfig, training: bool) -> None:
    if training:
        _instantiate(OmegaConf.select(cfg, "optimizer.params.lr_factor_func"))  # checks its values
    elif "evaluator" not in cfg.dataloader:
        raise UsageError("--eval-only, but the config's dataloader has no evaluator: add one")
    if not isinstance(OmegaConf.select(cfg, "dataloader.evaluator.dataset_name", default=""), str):
        raise UsageError("dataloader.test.dataset.names: expected one data set, not a list")
    tested = data_sets(cfg, "test") if "evaluator" in cfg.dataloader else ()
    for name in dict.fromkeys((*(data_sets(cfg, "train") if training else ()), *tested)):
        if info := MetadataCatalog.get(name).get("dataset_info"):
            _check_own(cfg, name, info, name in tested)


def _check_own(cfg: DictConfig, name: str, info: DatasetInfo, tested: bool) -> None:
    """Check the annotations of a data set of --dataset, whose file was read."""
    section, tasks = "dataloader.train.mapper", {"bbox": True}
    for key, task in (("use_instance_mask", "segm"), ("use_keypoint", "keypoints")):
        tasks[task] = OmegaConf.select(cfg, f"{section}.{key}", default=False)
    key = f"{section}.instance_mask_format"
    check_annotations(
        name,
        info,
        tasks=[task for task, used in tasks.items() if used],
        tested=tested,
        mask_format=(key, OmegaConf.select(cfg, key, default="polygon")),
        allow_outside=OmegaConf.select(cfg, "train.allow_outside_images", default=False),
    )


def _dump(cfg: DictConfig) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        LazyConfig.save(cfg, str(file))
        return file.read_text()
