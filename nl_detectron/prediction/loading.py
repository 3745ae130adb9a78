"""A trained model from a config, and what its checkpoint lacks."""

from detectron2.config import CfgNode

from ..engine import Checkpointer
from ..engine.checkpoint import fresh_outside_blocks, read_checkpoint
from ..modeling import build_model, find_blocks


def load_weights(cfg: CfgNode) -> Checkpointer:
    """A checkpointer whose ``model``, in evaluation mode, has loaded MODEL.WEIGHTS, if any.

    Raises:
        UsageError: a checkpoint that does not exist or cannot be read.
    """
    if cfg.MODEL.WEIGHTS:
        read_checkpoint(cfg.MODEL.WEIGHTS)
    checkpointer = Checkpointer(build_model(cfg).eval())
    checkpointer.load(cfg.MODEL.WEIGHTS)
    return checkpointer


def find_untrained(checkpointer: Checkpointer) -> tuple[list[str], list[str]]:
    """What the loaded checkpoint lacks: blocks of which it lacks tensors, and all other tensors."""
    fresh = checkpointer.fresh
    blocks = [
        block
        for block in find_blocks(checkpointer.model)
        if any(name.startswith(f"{block}.") for name in fresh)
    ]
    return blocks, fresh_outside_blocks(checkpointer)
