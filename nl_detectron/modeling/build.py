"""Building a whole model and holding it against its config."""

import detectron2.modeling
from detectron2.config import CfgNode
from torch import nn

from ..layers import NonLocalBlock


def find_blocks(model: nn.Module) -> dict[str, NonLocalBlock]:
    """Every non-local block of a model by its module name, in order."""
    return {n: m for n, m in model.named_modules() if isinstance(m, NonLocalBlock)}


def build_model(cfg: CfgNode) -> nn.Module:
    """Detectron2's ``build_model``, refusing blocks that the config names and the model lacks.

    Raises:
        ValueError: an AFTER list whose backbone or head is not a non-local one, so that a
            baseline cannot pass for a non-local model; or any error of the blocks themselves.
    """
    model = detectron2.modeling.build_model(cfg)
    in_head = [name for name in find_blocks(model) if "keypoint_head" in name]
    in_backbone = [name for name in find_blocks(model) if name.startswith("backbone.")]
    node = cfg.MODEL.NONLOCAL
    if node.BACKBONE.AFTER and not in_backbone:
        raise ValueError(
            f"MODEL.NONLOCAL.BACKBONE.AFTER is {list(node.BACKBONE.AFTER)}, but "
            f"MODEL.BACKBONE.NAME is {cfg.MODEL.BACKBONE.NAME}, which places no block; set it to "
            "build_nonlocal_resnet_fpn_backbone (or build_nonlocal_resnet_backbone), or empty the "
            "list"
        )
    if node.KEYPOINT_HEAD.AFTER and not in_head:
        raise ValueError(
            f"MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER is {list(node.KEYPOINT_HEAD.AFTER)}, but "
            f"MODEL.ROI_KEYPOINT_HEAD.NAME is {cfg.MODEL.ROI_KEYPOINT_HEAD.NAME} and "
            f"MODEL.KEYPOINT_ON {cfg.MODEL.KEYPOINT_ON}, which place no block; set them to "
            "NonLocalKeypointHead and True, or empty the list"
        )
    return model
