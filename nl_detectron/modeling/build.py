"""Builds a whole model and checks that it has the blocks that its config names."""

from operator import attrgetter

import detectron2.modeling
from detectron2.config import CfgNode
from torch import nn

from ..layers import NonLocalBlock
from .image_sizes import attach_image_sizes

VIDEO_BACKBONE = "build_nonlocal_video_resnet_backbone"
# By section of MODEL.NONLOCAL: a part of the names of its blocks, and the keys that it requires.
PARTS = {
    "BACKBONE": (
        "backbone.",
        {
            "MODEL.BACKBONE.NAME": (
                "build_nonlocal_resnet_fpn_backbone",
                "build_nonlocal_resnet_backbone",
                "build_nonlocal_retinanet_resnet_fpn_backbone",
                VIDEO_BACKBONE,
            )
        },
    ),
    "KEYPOINT_HEAD": (
        "keypoint_head.",
        {"MODEL.ROI_KEYPOINT_HEAD.NAME": ("NonLocalKeypointHead",), "MODEL.KEYPOINT_ON": (True,)},
    ),
    "MASK_HEAD": (
        "mask_head.",
        {"MODEL.ROI_MASK_HEAD.NAME": ("NonLocalMaskHead",), "MODEL.MASK_ON": (True,)},
    ),
}


def find_blocks(model: nn.Module) -> dict[str, NonLocalBlock]:
    """All non-local blocks of a model by module name, in order."""
    return {n: m for n, m in model.named_modules() if isinstance(m, NonLocalBlock)}


def build_model(cfg: CfgNode) -> nn.Module:
    """Build a model with Detectron2's ``build_model`` and check its blocks.

    Raises:
        ValueError: an AFTER list names places, but the backbone or head is not a non-local one, so
            the model would be a baseline; keys of video blocks would have no effect; or any error
            of the blocks themselves.
    """
    _check_video_keys(cfg)
    model = attach_image_sizes(detectron2.modeling.build_model(cfg))
    blocks = find_blocks(model)
    for section, (owner, _) in PARTS.items():
        after = cfg.MODEL.NONLOCAL[section].AFTER
        if after and not any(owner in name for name in blocks):
            raise ValueError(
                f"MODEL.NONLOCAL.{section}.AFTER is {list(after)}, but {_reason(cfg, section)}, "
                "which places no block; change that, or empty the list"
            )
    return model


def _check_video_keys(cfg: CfgNode) -> None:
    node, name = cfg.MODEL.NONLOCAL, cfg.MODEL.BACKBONE.NAME
    for key, default in (("AXES", "spacetime"), ("FRAMES_PER_GROUP", [0, 0, 0, 0])):
        if name != VIDEO_BACKBONE and node[key] != default:
            raise ValueError(
                f"MODEL.NONLOCAL.{key} is {node[key]}, which {name} does not have; set it to "
                f"{default}, or use {VIDEO_BACKBONE}"
            )


def _reason(cfg: CfgNode, section: str) -> str:
    """Why a model has no blocks in a section."""
    wrong = []
    for key, expected in PARTS[section][1].items():
        value = attrgetter(key)(cfg)
        if value not in expected:
            wrong.append(f"{key} is {value} (expected {' or '.join(map(str, expected))})")
    return " and ".join(wrong) or f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}"
