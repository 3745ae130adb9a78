"""Change a config's batch size, and scale its learning rate and schedule with it."""

import copy
from collections.abc import Collection

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from omegaconf import DictConfig, OmegaConf

from ..errors import UsageError
from .dataset_overrides import get
from .loading import describe_run
from .run import Config

# keys that Detectron2 scales with SOLVER.IMS_PER_BATCH
SCALED = (
    "SOLVER.BASE_LR",
    "SOLVER.MAX_ITER",
    "SOLVER.STEPS",
    "SOLVER.WARMUP_ITERS",
    "SOLVER.CHECKPOINT_PERIOD",
    "TEST.EVAL_PERIOD",
)
# The same in a LazyConfig, whose lr_multiplier has steps and warm-up as fractions of the training.
LAZY_BATCH = "dataloader.train.total_batch_size"
LAZY_RATES = ("optimizer.lr", "optimizer.params.base_lr")
LAZY_ITERATIONS = ("train.max_iter", "train.checkpointer.period", "train.eval_period")


def scaled_keys(cfg: Config) -> list[str]:
    """Config keys whose values are scaled with the batch size."""
    if isinstance(cfg, CfgNode):
        return list(SCALED)
    return [key for key in (*LAZY_RATES, *LAZY_ITERATIONS) if _has_value(cfg, key)]


def _has_value(cfg: DictConfig, key: str) -> bool:
    """Whether a LazyConfig has a value of its own for a key, not an interpolation or nothing."""
    section, name = key.rsplit(".", 1)
    node = OmegaConf.select(cfg, section)
    return (
        isinstance(node, DictConfig) and name in node and not OmegaConf.is_interpolation(node, name)
    )


def scale_batch(cfg: Config, batch: int, keep: Collection[str] = ()) -> Config:
    """Return a copy of a config with another batch size.

    It follows the linear scaling rule of Goyal et al. (https://arxiv.org/abs/1706.02677): the
    learning rate changes in proportion to the batch size, iterations in inverse proportion.

    Args:
        batch: images per iteration, for SOLVER.IMS_PER_BATCH or a LazyConfig's
            dataloader.train.total_batch_size.
        keep: keys of :func:`scaled_keys` that keep their values.

    Raises:
        UsageError: a number of iterations would be rounded to 0, which means "never", or a
            LazyConfig has no batch size or no learning rate.
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
    """Scale a YAML file's config by Detectron2's own ``auto_scale_workers``."""
    scaled = cfg.clone()
    scaled.defrost()
    scaled.SOLVER.REFERENCE_WORLD_SIZE = scaled.SOLVER.IMS_PER_BATCH  # as if each GPU had one image
    scaled = DefaultTrainer.auto_scale_workers(scaled, batch)
    scaled.SOLVER.REFERENCE_WORLD_SIZE = 0  # else the trainer would scale again
    scaled.merge_from_list([item for key in keep for item in (key, get(cfg, key))])
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
