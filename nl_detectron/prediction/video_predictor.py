"""From videos to an output folder: classify, draw and write, and show where blocks look."""

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from torch import nn
from tqdm import tqdm

from ..data.video.lists import VIDEO_ENDINGS
from ..data.video.mapper import make_mapper, test_views
from ..data.video.reader import VideoError, VideoReader, import_av
from ..engine import make_output
from ..errors import UsageError
from ..modeling import find_blocks
from .classes import combine_views, draw_classes, find_class_names, top_classes
from .clip_attention import ClipPoint, attend, describe_clip_attention, save_clip_attention
from .drawing import LONGEST, SHORTEST
from .inputs import IMAGE_SUFFIXES, SkipReporter, list_files, playable_rate
from .outputs import Mp4Writer, OutputNames, check_output_folder, stack_vertically
from .predictor import load_prediction_model

LINES = "classes.jsonl"
STILL = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix != ".gif")  # which may have frames


def predict_videos(
    cfg: CfgNode,
    places: Sequence[str],
    folder: Path,
    skip: SkipReporter,
    say: Callable[[str], None],
    *,
    attention: ClipPoint | None = None,
    threshold: float = 0.0,
) -> int:
    """Write a video model's classes of videos into a folder, with a progress bar.

    Of each video the folder gets NAME.mp4, its frames above the classes of the whole video; with
    ``attention`` NAME.attention.png; and a line of classes.jsonl.

    Args:
        cfg: of :func:`load_prediction_config`.
        places: files, folders and patterns.
        skip: takes what cannot be read, classified or looked at.
        say: takes a line for each warning.
        attention: a point of the videos; or "auto", where each block adds the most to the clip in
            the middle of a video.
        threshold: least score of a class that is shown and written, of the five highest ones.

    Returns:
        The number of videos.

    Raises:
        UsageError: PyAV is missing, an output folder or a checkpoint that will not do, or nothing
            to read.
    """
    import_av()
    files = list_files(places, skip, VIDEO_ENDINGS)
    if not files:
        raise UsageError("nothing of --input can be read: give videos, or folders of them")
    check_output_folder(folder, files)
    make_output(folder)
    model = load_prediction_model(cfg, say, need_blocks=bool(attention))
    if attention and not find_blocks(model):
        say("warning: --attention: this model has no non-local blocks, so classes alone follow")
        attention = None
    classes, names, count = find_class_names(cfg, say), OutputNames(), 0
    with (folder / LINES).open("w", buffering=1) as lines:
        for file in tqdm(files, unit="video"):
            if file.lower().endswith(STILL):  # FFmpeg would read it as a video of one frame
                skip(file, "it is an image, and this model takes videos")
                continue
            try:
                found = top_classes(classify_video(cfg, model, file), classes, threshold)
                path = folder / names.reserve(Path(file).stem, ".mp4")
                line: dict[str, Any] = {"file": file, "output": path.name}
                line["frames"] = write_video(file, path, found)
                line["classes"] = [one._asdict() for one in found]
            except (ValueError, RuntimeError, cv2.error) as error:
                if isinstance(error, UsageError):
                    raise
                skip(file, _in_one_line(error))
                continue
            try:
                if attention:
                    line["attention"] = _show_attention(cfg, model, file, attention, path)
            except (ValueError, RuntimeError) as error:
                skip(f"attention of {file}", _in_one_line(error))
            lines.write(json.dumps(line) + "\n")
            count += 1
    if not count:
        raise UsageError("nothing could be read, so nothing is drawn")
    return count


@torch.no_grad()
def classify_video(cfg: CfgNode, model: nn.Module, file: str) -> np.ndarray:
    """Scores (K,) of a video by the views of TEST.VIDEO together, as in an evaluation.

    Raises:
        VideoError: it cannot be read.
        UsageError: scores are NaN, or the views do not fit the GPU's memory.
    """
    sample = make_mapper(cfg, False)({"file_name": file})
    try:
        scores = model.eval()([sample])[0]["scores"]
    except torch.cuda.OutOfMemoryError as error:
        raise UsageError(
            f"{cfg.TEST.VIDEO.BATCH} views at once do not fit the GPU's memory: give a smaller "
            "TEST.VIDEO.BATCH"
        ) from error
    return combine_views(scores.float().cpu().numpy(), cfg.TEST.VIDEO.ENSEMBLE, file)


def write_video(file: str, path: Path, classes: Sequence) -> int:
    """Write the frames of a video above lines of its classes; returns their number.

    Args:
        path: of the MP4.
        classes: of :func:`top_classes`.

    Raises:
        VideoError: it cannot be read; nothing is left of it.
        UsageError: OpenCV cannot write such a video here.
    """
    count, lines = 0, None
    try:
        with (
            VideoReader(file) as video,
            closing(Mp4Writer(path, playable_rate(video.rate))) as writer,
        ):
            for frame in video.read_all():
                height, width = frame.shape[:2]
                scale = min(SHORTEST / min(height, width), LONGEST / max(height, width))
                if scale > 1:
                    size = round(width * scale), round(height * scale)
                    frame = cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC)
                if lines is None:
                    lines = draw_classes(classes, frame.shape[1])
                writer.add(stack_vertically([frame, lines]))
                count += 1
    except VideoError:  # half of a video would look like a whole one
        path.unlink(missing_ok=True)
        raise
    return count


def _show_attention(
    cfg: CfgNode, model: nn.Module, file: str, point: ClipPoint, path: Path
) -> dict[str, Any]:
    """Draw the attention beside the file ``path``; returns it for JSON."""
    clip, found = attend(model, file, test_views(cfg), point)
    picture = path.with_suffix(".attention.png")
    save_clip_attention(clip, found, picture)
    return {"picture": picture.name, "blocks": describe_clip_attention(clip, found)}


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
