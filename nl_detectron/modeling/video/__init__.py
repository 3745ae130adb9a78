"""C2D and I3D ResNets with spacetime blocks, and the classifier of clips over them."""

from .backbone import build_nonlocal_video_resnet_backbone
from .classifier import VideoClassifier
from .inflation import conv3d_weights, inflate_weights, without_time

__all__ = [
    "VideoClassifier",
    "build_nonlocal_video_resnet_backbone",
    "conv3d_weights",
    "inflate_weights",
    "without_time",
]
