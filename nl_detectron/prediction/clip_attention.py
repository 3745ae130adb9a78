"""Where a video model's blocks look from a point of a video: found, drawn and for JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from PIL import Image
from torch import nn

from ..attention import ClipAttention, record_clip
from ..attention.draw import as_image
from ..attention.draw_clips import clip_panel
from ..data.video.mapper import test_views
from ..data.video.sampling import Views
from .clips import VideoClip, read_clip
from .drawing import DPI, MAX_PANEL
from .outputs import stack_vertically

# frame from 0, and x and y in pixels of the video; "auto": where a block adds the most
ClipPoint = Literal["auto"] | tuple[int, float, float]
SMALL_DPI = 90  # of a picture of several videos
COLOURS = 256  # of a picture: noise makes a PNG of all colours four times as large


def attend(
    model: nn.Module, file: str, views: Views, point: ClipPoint
) -> tuple[VideoClip, list[ClipAttention]]:
    """Read the clip of a video around a point, and the attention of each block from there.

    Raises:
        VideoError: the video cannot be read, or has no such frame.
        ValueError: the point is outside its frames.
    """
    clip = read_clip(file, views, None if point == "auto" else point[0])
    at = None if point == "auto" else clip.locate(*point)
    record = record_clip(model, clip.pixels)
    return clip, [
        record.attention(*(at or record.most_changed(block)), block) for block in record.blocks
    ]


def save_clip_attention(clip: VideoClip, found: Sequence[ClipAttention], path: Path) -> None:
    """Save :func:`~nl_detectron.attention.draw_clips.clip_panel` as a PNG."""
    _save([_draw(clip, found)], path)


def save_attention_of_videos(cfg: CfgNode, model: nn.Module, path: Path, count: int = 3) -> None:
    """Save a picture of the attention in the first video of each of the first classes of the first
    test set, from where each block adds the most.

    Args:
        path: of the PNG.
        count: number of videos.
    """
    first: dict[int, str] = {}
    for record in DatasetCatalog.get(cfg.DATASETS.TEST[0]):
        first.setdefault(record["label"], record["file_name"])
    files = [first[label] for label in sorted(first)[:count]]
    drawn = [_draw(*attend(model, file, test_views(cfg), "auto"), SMALL_DPI) for file in files]
    _save(drawn, path)


def _draw(clip: VideoClip, found: Sequence[ClipAttention], dpi: float = DPI) -> np.ndarray:
    titles = [format_point(clip, one) for one in found]
    figure = clip_panel(clip.pixels, found, titles, clip.numbers)
    return as_image(figure, min(dpi, MAX_PANEL / max(figure.get_size_inches())))


def _save(pictures: Sequence[np.ndarray], path: Path) -> None:
    picture = Image.fromarray(stack_vertically(pictures))
    picture = picture.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)


def format_point(clip: VideoClip, attention: ClipAttention) -> str:
    """Where the attention is from, in frames and pixels of the video."""
    frame, x, y = clip.in_video(*attention.point)
    return f"from frame {frame}, x {x:.0f}, y {y:.0f}"


def describe_clip_attention(clip: VideoClip, found: Sequence[ClipAttention]) -> list[dict]:
    """The arrows of each block for JSON, in frames and pixels of the video."""
    return [
        {
            "block": one.block,
            "form": one.form,
            "from": _as_dict(clip.in_video(*one.point)),
            "to": [
                {**_as_dict(clip.in_video(frame, x, y)), "weight": weight}
                for frame, x, y, weight in one.strongest()
            ],
        }
        for one in found
    ]


def _as_dict(point: tuple[int, float, float]) -> dict[str, float]:
    return dict(zip(("frame", "x", "y"), point, strict=True))
