"""Which frames and which pixels of a video a clip takes."""

from typing import NamedTuple

import numpy as np


class Views(NamedTuple):
    """The views of a video in an evaluation: clips in time times crops in space.

    Attributes:
        frames: of a clip.
        rate: every rate-th frame of the video is taken.
        clips: number of clips, at equal distances in time.
        crops: 1 (the centre) or 3 along the longer side.
        crop_size: side of a crop in pixels; 0 takes whole frames.
        short_side: of the frames in pixels, before they are cropped.
    """

    frames: int
    rate: int
    clips: int
    crops: int
    crop_size: int
    short_side: int


def clip_frames(count: int, start: int, frames: int, rate: int) -> np.ndarray:
    """Numbers (frames,) of every ``rate``-th frame from ``start`` on; after the last frame of the
    video, whose number of frames is ``count``, comes the first one."""
    return (start + rate * np.arange(frames)) % count


def random_start(count: int, frames: int, rate: int) -> int:
    """Draw the first frame of a training clip by NumPy's global generator: uniform from 0 to
    ``count - frames * rate``, or 0 for a shorter video (Sec. 4: "randomly crop out 64 consecutive
    frames")."""
    return int(np.random.randint(max(count - frames * rate, 0) + 1))


def clip_starts(count: int, clips: int) -> list[int]:
    """First frames of the clips of an evaluation, ``int(count / clips * j)``."""
    return [int(count / clips * j) for j in range(clips)]


def crop_corners(height: int, width: int, size: int, crops: int) -> list[tuple[int, int]]:
    """Upper left corners (y, x) of square crops: the centre for 1, and for 3 the left, centre and
    right ones of a wide frame, or the top, centre and bottom ones of an upright one."""
    y, x = (height - size) // 2, (width - size) // 2
    if crops == 1:
        return [(y, x)]
    return [(y, k * x) for k in range(3)] if width >= height else [(k * y, x) for k in range(3)]
