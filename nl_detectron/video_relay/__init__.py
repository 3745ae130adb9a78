"""The spacetime relay data sets: two frames of a video show its class only together.

A red or blue patch is in one frame, a white shape in another one, at least a few frames before or
after it, on grey noise. The class is the shape if the patch is red, and the next of three shapes if
it is blue. The shape alone leaves two of three classes. A model whose output is a sum over frames
has the least cross-entropy if it ignores the patch, and is then right for one video in two; by no
weights is it right for more than five in six. One that relates the frames can be right for all.
"""

from .clips import draw_clip
from .files import cache_folder, write_videos
from .registration import VIDEO_RELAY, register_split, register_video_relay
from .spec import SPLITS, VideoRelay

__all__ = [
    "SPLITS",
    "VIDEO_RELAY",
    "VideoRelay",
    "cache_folder",
    "draw_clip",
    "register_split",
    "register_video_relay",
    "write_videos",
]
