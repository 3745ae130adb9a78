"""Clips of video files to look into: whole frames, and points in them.

Frames of a clip are counted from 0; a video's frames too, of which a clip has every RATE-th.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.video.reader import VideoReader
from ..data.video.sampling import Views, clip_frames


@dataclass(frozen=True)
class VideoClip:
    """A clip of a video, with whole frames.

    Attributes:
        pixels: RGB uint8 (3,T,H,W), whose shorter side is that of the evaluation.
        numbers: of its T frames in the video.
        scale: pixels of the video for one of the clip.
    """

    pixels: Tensor
    numbers: tuple[int, ...]
    scale: float

    def locate(self, frame: int, x: float, y: float) -> tuple[int, float, float]:
        """The clip's frame, x and y of a point of the video, whose frame the clip may lack: then it
        is the nearest one.

        Raises:
            ValueError: the point is outside the frames.
        """
        height, width = self.pixels.shape[2:]
        tall, wide = round(height * self.scale), round(width * self.scale)
        if not (0 <= x <= wide and 0 <= y <= tall):
            raise ValueError(f"the point x {x:g}, y {y:g} lies outside its {wide} x {tall} pixels")
        nearest = int(np.abs(np.array(self.numbers) - frame).argmin())
        return nearest, min(x / self.scale, width), min(y / self.scale, height)

    def in_video(self, frame: int, x: float, y: float) -> tuple[int, float, float]:
        """The video's frame, x and y of a point of the clip."""
        return self.numbers[frame], x * self.scale, y * self.scale


def read_clip(file: str, views: Views, around: int | None = None) -> VideoClip:
    """Read the clip around a frame of a video, by default its middle one. The clip stays within the
    video as far as that is long enough.

    Raises:
        VideoError: it cannot be read, or has no such frame.
    """
    with VideoReader(file) as video:
        count, span = len(video), views.frames * views.rate
        middle = count // 2 if around is None else around
        video.check_number(middle)
        start = max(min(middle - span // 2, count - span), 0)
        numbers = clip_frames(count, start, views.frames, views.rate)
        pixels = video.read(numbers, views.short_side)
        scale = min(video.size) / views.short_side
    clip = torch.from_numpy(np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)))
    return VideoClip(clip, tuple(numbers.tolist()), scale)
