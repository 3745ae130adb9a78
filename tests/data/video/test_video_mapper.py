"""Samples of training and evaluation from real files."""

import numpy as np
import pytest
import torch

pytest.importorskip("av", reason="needs PyAV: make setup-video")

from video_files import decode_everything, number_of, picture, write_video

from nl_detectron.data.video.mapper import TestVideoMapper, TrainVideoMapper
from nl_detectron.data.video.sampling import Views


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """A video of 40 frames of 48 x 64, dark at the bottom."""

    def draw(number):
        frame = picture(number)
        frame[-10:] = 0
        return frame

    file = write_video(tmp_path_factory.mktemp("videos") / "a.mp4", 40, draw=draw)
    return {"file_name": str(file), "video_id": "a", "label": 3, "classes": "not of the sample"}


def train_mapper(**options) -> TrainVideoMapper:
    plain = {"frames": 4, "rate": 3, "short_sides": (48,), "sampling": "range", "flip": "none"}
    return TrainVideoMapper(**{**plain, "crop_size": 48, **options})


def numbers_of(clip: torch.Tensor) -> list[int]:
    """Numbers that the frames of a clip (3,T,H,W) of the whole width show."""
    return [number_of(frame.permute(1, 2, 0).numpy()) for frame in clip.unbind(1)]


def test_a_training_clip_is_a_window_at_a_rate(record):
    starts = set()
    for seed in range(12):
        np.random.seed(seed)
        sample = train_mapper(crop_size=30, short_sides=(30,))(record)
        clip = sample.pop("clip")
        assert sample == {"file_name": record["file_name"], "video_id": "a", "label": 3}
        assert clip.dtype == torch.uint8 and clip.shape == (3, 4, 30, 30) and clip.is_contiguous()
        np.random.seed(seed)
        start = np.random.randint(40 - 12 + 1)
        starts.add(start)
        expected = decode_everything(record["file_name"], 30)[start : start + 12 : 3]
        x = _crop_of(clip, expected)
        assert (clip.permute(1, 2, 3, 0).numpy() == expected[:, :, x : x + 30]).all()
    assert len(starts) > 5


def _crop_of(clip: torch.Tensor, frames: np.ndarray) -> int:
    """The offset along x at which frames (T,H,W,3) show the clip."""
    size = clip.shape[-1]
    pixels = clip.permute(1, 2, 3, 0).numpy()
    found = [
        x
        for x in range(frames.shape[2] - size + 1)
        if (frames[:, :size, x : x + size] == pixels).all()
    ]
    assert found
    return found[0]


def test_scale_crop_and_flip_vary(record):
    """Over many draws, each short side of the range, both mirror images and many crops occur."""
    sides, first = set(), set()
    for seed in range(30):
        np.random.seed(seed)
        mapper = train_mapper(short_sides=(24, 27), crop_size=24, flip="horizontal")
        sides.add(mapper._short_side())
        first.add(mapper(record)["clip"][:, 0].sum().item())
    assert sides == {24, 25, 26, 27}
    assert len(first) > 20


def test_short_sides_may_be_choices():
    mapper = train_mapper(short_sides=(24, 27, 40), sampling="choice")
    np.random.seed(0)
    assert {mapper._short_side() for _ in range(50)} == {24, 27, 40}


@pytest.mark.parametrize(("flip", "axis"), [("horizontal", 3), ("vertical", 2)])
def test_half_of_the_clips_are_flipped(record, flip, axis):
    flipped = 0
    for seed in range(20):
        clips = []
        for how in ("none", flip):
            np.random.seed(seed)
            clips.append(train_mapper(flip=how)(record)["clip"])
        assert torch.equal(*clips) or torch.equal(clips[0].flip(axis), clips[1])
        flipped += not torch.equal(*clips)
    assert 4 < flipped < 16


def test_the_same_random_state_gives_the_same_clip(record):
    clips = []
    for _ in range(2):
        np.random.seed(3)
        clips.append(train_mapper(flip="horizontal")(record)["clip"])
    assert torch.equal(*clips)


def test_views_are_clips_times_crops(record):
    view = Views(frames=3, rate=4, clips=5, crops=3, crop_size=48, short_side=48)
    clips = TestVideoMapper(view)(record)["clips"]
    everything = decode_everything(record["file_name"])
    expected = []
    for clip in range(5):
        for x in (0, 8, 16):
            numbers = [(8 * clip + 4 * t) % 40 for t in range(3)]
            expected.append(everything[numbers][:, :, x : x + 48].transpose(3, 0, 1, 2))
    np.testing.assert_array_equal(clips.numpy(), np.stack(expected))
    assert clips.dtype == torch.uint8
    middle = TestVideoMapper(view, one_view=True)(record)["clips"]
    assert torch.equal(middle, clips[[2 * 3 + 1]])


def test_whole_frames_and_short_videos(record, tmp_path):
    view = Views(frames=3, rate=2, clips=2, crops=1, crop_size=0, short_side=48)
    clips = TestVideoMapper(view)(record)["clips"]
    assert clips.shape == (2, 3, 3, 48, 64)
    assert [numbers_of(clip) for clip in clips] == [[0, 2, 4], [20, 22, 24]]
    short = {**record, "file_name": str(write_video(tmp_path / "short.mp4", 3))}
    clips = TestVideoMapper(view)(short)["clips"]
    assert [numbers_of(clip) for clip in clips] == [[0, 2, 1], [1, 0, 2]]
    clip = train_mapper(crop_size=48)(short)["clip"]
    assert clip.shape == (3, 4, 48, 48)
