"""The files of a spacetime relay data set: MP4s and lists of their classes."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..data.video.reader import import_av
from ..relay.files import cache_path, write_once
from .clips import draw_clip
from .spec import CLASSES, SPLITS, VideoRelay

RATE = 25  # frames a second
QUALITY = "12"  # of x264, where 0 is lossless and 23 usual


def cache_folder(relay: VideoRelay) -> Path:
    """Folder of the data set's files in the cache, as for the relay of images."""
    return cache_path("video-relay", Path(__file__).parent, asdict(relay))


def write_videos(relay: VideoRelay, folder: Path | None = None) -> Path:
    """Write ``train/00000.mp4`` and so on, ``train.txt``, ``val.txt`` and ``classes.txt`` unless
    they exist already, and return their folder.

    ``train.json`` and ``val.json`` have of each video the pictures of its patch and of its shape.
    One process writes; others that want the same folder wait for it.

    Raises:
        UsageError: PyAV is not installed.
    """
    folder = folder or cache_folder(relay)
    if not folder.exists():
        import_av()

    def write(temporary: Path) -> None:
        (temporary / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
        for split in SPLITS:
            _write_split(relay, temporary, split)

    write_once(folder, write)
    return folder


def _write_split(relay: VideoRelay, folder: Path, split: str) -> None:
    (folder / split).mkdir()
    lines, places = [], []
    for number in range(getattr(relay, split)):
        clip = draw_clip(relay, split, number)
        name = f"{split}/{number:05d}.mp4"
        write_mp4(folder / name, np.repeat(clip.frames, relay.hold, axis=0))
        lines.append(f"{name} {CLASSES[clip.label]}\n")
        places.append({"video_id": name, "patch": clip.patch, "shape": clip.shape})
    (folder / f"{split}.txt").write_text("".join(lines))
    (folder / f"{split}.json").write_text(json.dumps(places))


def write_mp4(file: Path, frames: np.ndarray) -> None:
    """Encode RGB frames uint8 (T,H,W,3) of even sides as H.264.

    Raises:
        UsageError: PyAV is not installed.
    """
    av = import_av()
    with av.open(str(file), "w") as output:
        stream = output.add_stream("libx264", rate=RATE)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"crf": QUALITY, "preset": "veryfast"}
        for pixels in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode())
