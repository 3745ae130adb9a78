"""Detectron2's own backbones and heads with non-local blocks inserted by name; video models."""

from .backbone import (
    add_backbone_blocks,
    build_nonlocal_resnet_backbone,
    build_nonlocal_resnet_fpn_backbone,
    build_nonlocal_retinanet_resnet_fpn_backbone,
    nonlocal_backbone,
)
from .build import build_model, find_blocks
from .image_sizes import attach_image_sizes
from .insertion import insert_nonlocal
from .keypoint_head import NonLocalKeypointHead
from .mask_head import NonLocalMaskHead
from .video import VideoClassifier, build_nonlocal_video_resnet_backbone

__all__ = [
    "NonLocalKeypointHead",
    "NonLocalMaskHead",
    "VideoClassifier",
    "add_backbone_blocks",
    "attach_image_sizes",
    "build_model",
    "build_nonlocal_resnet_backbone",
    "build_nonlocal_resnet_fpn_backbone",
    "build_nonlocal_retinanet_resnet_fpn_backbone",
    "build_nonlocal_video_resnet_backbone",
    "find_blocks",
    "insert_nonlocal",
    "nonlocal_backbone",
]
