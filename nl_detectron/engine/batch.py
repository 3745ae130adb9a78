"""Another batch than the config's: the learning rate and the schedule go along."""

import copy
from collections.abc import Collection

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from omegaconf import DictConfig, OmegaConf

from ..errors import UsageError
from .dataset_overrides import get
from .loading import describe_run
from .run import Config

# what Detectron2 scales with SOLVER.IMS_PER_BATCH
SCALED = (
    "SOLVER.BASE_LR",
    "SOLVER.MAX_ITER",
    "SOLVER.STEPS",
    "SOLVER.WARMUP_ITERS",
    "SOLVER.CHECKPOINT_PERIOD",
    "TEST.EVAL_PERIOD",
)
# The same of a LazyConfig, whose lr_multiplier counts steps and warm-up in parts of the training.
LAZY_BATCH = "dataloader.train.total_batch_size"
LAZY_RATES = ("optimizer.lr", "optimizer.params.base_lr")
LAZY_ITERATIONS = ("train.max_iter", "train.checkpointer.period", "train.eval_period")


def scaled_keys(cfg: Config) -> list[str]:
    """Keys of what changes with the batch."""
    if isinstance(cfg, CfgNode):
        return list(SCALED)
    return [key for key in (*LAZY_RATES, *LAZY_ITERATIONS) if _has_value(cfg, key)]


def _has_value(cfg: DictConfig, key: str) -> bool:
    """Whether a LazyConfig has a value there, rather than a reference to another one, or none."""
    section, name = key.rsplit(".", 1)
    node = OmegaConf.select(cfg, section)
    return (
        isinstance(node, DictConfig) and name in node and not OmegaConf.is_interpolation(node, name)
    )


def scale_batch(cfg: Config, batch: int, keep: Collection[str] = ()) -> Config:
    """A config for ``batch`` images an iteration in place of its SOLVER.IMS_PER_BATCH (of a
    LazyConfig, its dataloader.train.total_batch_size).

    By the linear rule of Goyal et al. (https://arxiv.org/abs/1706.02677): the rate in proportion to
    the batch, iterations in inverse proportion.

    Args:
        keep: keys of :func:`scaled_keys` that stay as they are.

    Raises:
        UsageError: a number of iterations that would be rounded to none, which means "never", or a
            LazyConfig without a batch or a rate.
    """
    if isinstance(cfg, CfgNode):
        scaled: Config = _scale_yaml(cfg, batch, keep)
    else:
        scaled = _scale_lazy(cfg, batch, keep)
    for key in scaled_keys(cfg):
        if get(cfg, key) and not get(scaled, key):
            raise UsageError(
                f"a batch of {batch} in place of {describe_run(cfg).batch_size}: {key} "
                f"{get(cfg, key)} would become 0; give it as an override"
            )
    return scaled


def _scale_yaml(cfg: CfgNode, batch: int, keep: Collection[str]) -> CfgNode:
    """By Detectron2's own ``auto_scale_workers``."""
    scaled = cfg.clone()
    scaled.defrost()
    scaled.SOLVER.REFERENCE_WORLD_SIZE = scaled.SOLVER.IMS_PER_BATCH  # as if of one image a GPU
    scaled = DefaultTrainer.auto_scale_workers(scaled, batch)
    scaled.SOLVER.REFERENCE_WORLD_SIZE = 0  # or the trainer would do it again
    scaled.merge_from_list([word for key in keep for word in (key, get(cfg, key))])
    scaled.freeze()
    return scaled


def _scale_lazy(cfg: DictConfig, batch: int, keep: Collection[str]) -> DictConfig:
    keys = scaled_keys(cfg)
    for needed in ((LAZY_BATCH,), LAZY_RATES):
        if not any(_has_value(cfg, key) for key in needed):
            raise UsageError(f"a batch of {batch}: this LazyConfig has no {needed[0]} to scale")
    scaled, scale = copy.deepcopy(cfg), batch / get(cfg, LAZY_BATCH)
    OmegaConf.update(scaled, LAZY_BATCH, batch)
    for key in set(keys) - set(keep):
        value = get(cfg, key)
        new = value * scale if key in LAZY_RATES else round(value / scale)
        OmegaConf.update(scaled, key, new)
    return scaled
