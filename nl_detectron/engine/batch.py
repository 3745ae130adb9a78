"""Another batch than the config's: the learning rate and the schedule go along."""

from collections.abc import Collection

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer

from ..errors import UsageError
from .dataset_overrides import get

# what Detectron2 scales with SOLVER.IMS_PER_BATCH
SCALED = (
    "SOLVER.BASE_LR",
    "SOLVER.MAX_ITER",
    "SOLVER.STEPS",
    "SOLVER.WARMUP_ITERS",
    "SOLVER.CHECKPOINT_PERIOD",
    "TEST.EVAL_PERIOD",
)


def scale_batch(cfg: CfgNode, batch: int, keep: Collection[str] = ()) -> CfgNode:
    """A config for ``batch`` images an iteration in place of its SOLVER.IMS_PER_BATCH.

    By the linear rule of Goyal et al. (https://arxiv.org/abs/1706.02677), in Detectron2's own
    ``auto_scale_workers``: the rate in proportion to the batch, iterations in inverse proportion.

    Args:
        keep: keys of :data:`SCALED` that stay as they are.

    Raises:
        UsageError: a number of iterations that would be rounded to none, which means "never".
    """
    scaled = cfg.clone()
    scaled.defrost()
    scaled.SOLVER.REFERENCE_WORLD_SIZE = scaled.SOLVER.IMS_PER_BATCH  # as if of one image a GPU
    scaled = DefaultTrainer.auto_scale_workers(scaled, batch)
    scaled.SOLVER.REFERENCE_WORLD_SIZE = 0  # or the trainer would do it again
    scaled.merge_from_list([word for key in keep for word in (key, get(cfg, key))])
    for key in SCALED:
        if get(cfg, key) and not get(scaled, key):
            raise UsageError(
                f"a batch of {batch} in place of {cfg.SOLVER.IMS_PER_BATCH}: {key} "
                f"{get(cfg, key)} would become 0; give it as an override"
            )
    scaled.freeze()
    return scaled
