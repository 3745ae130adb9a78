"""The non-local operation and block. Imports torch and ``detectron2.layers`` only."""

from .nonlocal_block import NORMS, SUBSAMPLES, NonLocalBlock
from .pairwise import PAIRWISE, Pairwise, build_pairwise
from .video_block import AXES, VideoNonLocalBlock

__all__ = [
    "AXES",
    "NORMS",
    "PAIRWISE",
    "SUBSAMPLES",
    "NonLocalBlock",
    "Pairwise",
    "VideoNonLocalBlock",
    "build_pairwise",
]
