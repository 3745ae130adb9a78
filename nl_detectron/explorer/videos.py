"""The explorer of a video model: clips that were shown last, their frames, and a point of them."""

from collections import OrderedDict
from threading import Lock

import cv2
import numpy as np

from ..attention import ClipRecord, record_clip
from ..attention.draw import as_image
from ..attention.draw_clips import clip_panel, describe
from ..errors import UsageError
from ..prediction.classes import top_classes
from ..prediction.clip_attention import format_point
from ..prediction.clips import VideoClip, read_clip
from .models import MAX_RECORDS, ExplorerModel
from .rendering import DPI

STRIP, TALL = 1600, 200  # pixels: widest strip of frames, and the most of a frame's height
MOST, GAP = 16, 4  # frames in a strip, and pixels between them

Look = tuple[VideoClip, ClipRecord]


class VideoExplorer:
    """Runs a video model on clips and keeps the last records: a click then needs no model.

    Args:
        model: of :func:`load_explorer_model`, with ``views``.
    """

    def __init__(self, model: ExplorerModel):
        self.model = model
        self._looks: OrderedDict[tuple[str, int | None], Look] = OrderedDict()
        self._lock = Lock()  # a record is made by hooks on the model

    def look(self, path: str, around: int | None = None) -> Look:
        """The clip around a frame of a video, by default its middle one, and its record.

        Raises:
            UsageError: a file that is no video, a frame that it lacks, or a model that cannot take
                the clip.
        """
        views = self.model.views
        assert views is not None
        with self._lock:
            if (path, around) not in self._looks:
                try:
                    clip = read_clip(path, views, around)
                    record = record_clip(self.model.model, clip.pixels)
                except (ValueError, RuntimeError) as error:  # no video, too small, no memory
                    text = " ".join(str(error).split()) or type(error).__name__
                    raise UsageError(f"{path.rpartition('/')[2]}: {text}") from error
                self._looks[path, around] = clip, record
            self._looks.move_to_end((path, around))
            while len(self._looks) > MAX_RECORDS:
                self._looks.popitem(last=False)
            return self._looks[path, around]


class Strip:
    """Frames of a clip side by side, in which a point can be clicked.

    Attributes:
        picture: RGB uint8 (H,W,3).
    """

    def __init__(self, clip: VideoClip):
        frames, height, width = clip.pixels.shape[1:]
        self.frames = list(range(0, frames, -(-frames // MOST)))
        room = STRIP / len(self.frames) - GAP
        self.scale = min(room / width, TALL / height)
        self._clip, self._wide = clip, max(round(width * self.scale), 1)
        size = self._wide, max(round(height * self.scale), 1)
        pictures = [
            cv2.resize(clip.pixels[:, frame].permute(1, 2, 0).numpy(), size)
            for frame in self.frames
        ]
        padded = [np.pad(p, ((0, 0), (0, GAP), (0, 0)), constant_values=255) for p in pictures]
        self.picture = np.hstack(padded)

    def point(self, x: float, y: float) -> tuple[int, float, float]:
        """The video's frame, x and y at a pixel of the picture."""
        number = min(int(x // (self._wide + GAP)), len(self.frames) - 1)
        inside = min(x - number * (self._wide + GAP), self._wide)
        width, height = self._clip.pixels.shape[:1:-1]
        at = min(inside / self.scale, width), min(y / self.scale, height)
        return self._clip.in_video(self.frames[number], *at)


def render_clip_point(
    look: Look, frame: float, x: float, y: float, block: str
) -> tuple[np.ndarray, str]:
    """Picture and description of a block's attention from the position nearest to a point.

    Args:
        frame, x, y: of the video; a point outside the frames is moved to the nearest one inside.
        block: name of the block.

    Returns:
        RGB uint8 (H,W,3), and Markdown.
    """
    clip, record = look
    tall, wide = (side * clip.scale for side in clip.pixels.shape[2:])
    at = clip.locate(int(frame), min(max(x, 0), wide), min(max(y, 0), tall))
    found = record.attention(*at, block)
    figure = clip_panel(clip.pixels, [found], [format_point(clip, found)], clip.numbers)
    best = found.strongest()
    to = "{}, x {:.0f}, y {:.0f}".format(*clip.in_video(*best[0][:3]))
    part = sum(abs(w) for *_, w in best) / max(float(np.abs(found.weights).sum()), 1e-12)
    return as_image(figure, DPI), (
        f"**{found.form}**, {format_point(clip, found)}: the greatest of {found.seen} weights is "
        f"{best[0][3] * found.seen:.3g} times an even one, at frame {to}; arrows: {len(best)}, "
        f"with {part:.0%} of all weight; {describe(found).partition(': ')[2]}."
    )


def describe_clip_classes(look: Look, names: list[str] | None) -> str:
    """The classes of the clip that has the highest scores, in Markdown."""
    clip, record = look
    found = ", ".join(one.label for one in top_classes(record.scores, names))
    return f"Frames {clip.numbers[0]} to {clip.numbers[-1]}: {found}."
