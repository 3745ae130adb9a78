"""Maps records of videos to the samples of training and of evaluation."""

from collections.abc import Callable

import numpy as np
import torch
from detectron2.config import CfgNode

from .reader import VideoReader
from .sampling import Views, clip_frames, clip_starts, crop_corners, random_start

LABELS = ("video_id", "file_name", "label", "labels")


class TrainVideoMapper:
    """Reads a random clip of a video, scales, crops and flips it.

    It draws its random numbers from NumPy's global generator, as Detectron2's augmentations do.

    Args:
        frames, rate: a clip is every ``rate``-th one of ``frames * rate`` frames.
        short_sides: of a clip in pixels: a range with both ends, or the choices.
        sampling: "range" or "choice".
        crop_size: side of the random crop in pixels, at most the smallest short side.
        flip: "horizontal", "vertical" or "none"; half of the clips are flipped.
    """

    def __init__(
        self,
        frames: int,
        rate: int,
        short_sides: tuple[int, ...],
        sampling: str,
        crop_size: int,
        flip: str,
    ):
        self.frames, self.rate, self.crop_size, self.flip = frames, rate, crop_size, flip
        self.short_sides, self.sampling = short_sides, sampling

    def __call__(self, record: dict) -> dict:
        """Return the record's names and labels, and ``clip``: RGB uint8 (3,T,H,W)."""
        with VideoReader(record["file_name"]) as video:
            start = random_start(len(video), self.frames, self.rate)
            numbers = clip_frames(len(video), start, self.frames, self.rate)
            pixels = video.read(numbers, self._short_side())
        size = self.crop_size
        y, x = (np.random.randint(side - size + 1) for side in pixels.shape[1:3])
        pixels = pixels[:, y : y + size, x : x + size]
        if self.flip != "none" and np.random.random() < 0.5:
            pixels = np.flip(pixels, axis=2 if self.flip == "horizontal" else 1)
        return {**_labels(record), "clip": _as_clip(pixels)}

    def _short_side(self) -> int:
        if self.sampling == "range":
            return int(np.random.randint(min(self.short_sides), max(self.short_sides) + 1))
        return int(np.random.choice(self.short_sides))


class TestVideoMapper:
    """Reads all views of a video, or the centre crop of the middle clip alone."""

    __test__ = False  # for pytest: its name only looks like that of a test

    def __init__(self, view: Views, one_view: bool = False):
        self.view, self.one_view = view, one_view

    def __call__(self, record: dict) -> dict:
        """Return the record's names and labels, and ``clips``: RGB uint8 (V,3,T,H,W), V = clips x
        crops, the crops of a clip one after the other; V = 1 with ``one_view``."""
        view = self.view
        with VideoReader(record["file_name"]) as video:
            starts = clip_starts(len(video), view.clips)
            if self.one_view:
                starts = [starts[view.clips // 2]]
            numbers = [clip_frames(len(video), s, view.frames, view.rate) for s in starts]
            read, places = np.unique(np.concatenate(numbers), return_inverse=True)
            pixels = video.read(read, view.short_side)  # a frame of several clips once
        tall, wide = pixels.shape[1:3]
        corners = [(0, 0)]
        if view.crop_size:
            crops = 1 if self.one_view else view.crops
            corners = crop_corners(tall, wide, view.crop_size, crops)
            tall = wide = view.crop_size
        clips = [
            _as_clip(pixels[of_clip, y : y + tall, x : x + wide])
            for of_clip in places.reshape(len(numbers), view.frames)
            for y, x in corners
        ]
        return {**_labels(record), "clips": torch.stack(clips)}


def make_mapper(cfg: CfgNode, training: bool) -> Callable[[dict], dict]:
    """The mapper of INPUT.VIDEO, or the one of TEST.VIDEO."""
    clip, inputs = cfg.INPUT.VIDEO, cfg.INPUT
    if training:
        return TrainVideoMapper(
            frames=clip.FRAMES,
            rate=clip.RATE,
            short_sides=tuple(np.atleast_1d(inputs.MIN_SIZE_TRAIN).tolist()),
            sampling=inputs.MIN_SIZE_TRAIN_SAMPLING,
            crop_size=clip.CROP_SIZE,
            flip=inputs.RANDOM_FLIP,
        )
    return TestVideoMapper(test_views(cfg), cfg.TEST.VIDEO.ONE_VIEW)


def test_views(cfg: CfgNode) -> Views:
    """The views of TEST.VIDEO."""
    clip, test = cfg.INPUT.VIDEO, cfg.TEST.VIDEO
    return Views(clip.FRAMES, clip.RATE, test.CLIPS, test.CROPS, test.CROP_SIZE, test.SHORT_SIDE)


def _labels(record: dict) -> dict:
    return {key: record[key] for key in LABELS if key in record}


def _as_clip(frames: np.ndarray) -> torch.Tensor:
    """(3,T,H,W) of frames (T,H,W,3)."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(3, 0, 1, 2)))
