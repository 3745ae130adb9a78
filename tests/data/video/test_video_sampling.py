"""Frames and crops of clips."""

import numpy as np
import pytest

from nl_detectron.data.video.sampling import (
    clip_frames,
    clip_starts,
    crop_corners,
    random_start,
)


@pytest.mark.parametrize(
    ("count", "start", "frames", "rate", "expected"),
    [
        (100, 5, 4, 2, [5, 7, 9, 11]),
        (10, 6, 4, 2, [6, 8, 0, 2]),  # goes on at the beginning
        (3, 0, 8, 1, [0, 1, 2, 0, 1, 2, 0, 1]),
        (1, 0, 3, 5, [0, 0, 0]),
    ],
)
def test_a_clip_is_every_nth_frame_and_wraps(count, start, frames, rate, expected):
    assert clip_frames(count, start, frames, rate).tolist() == expected


@pytest.mark.parametrize(("count", "last"), [(70, 6), (64, 0), (65, 1), (10, 0)])
def test_training_clips_start_anywhere_that_leaves_their_length(count, last):
    np.random.seed(0)
    starts = {random_start(count, 32, 2) for _ in range(200)}
    assert starts == set(range(last + 1))


def test_clips_of_an_evaluation_start_at_equal_distances():
    assert clip_starts(250, 10) == [0, 25, 50, 75, 100, 125, 150, 175, 200, 225]
    assert clip_starts(7, 4) == [0, 1, 3, 5]


@pytest.mark.parametrize(
    ("height", "width", "crops", "expected"),
    [
        (256, 340, 3, [(0, 0), (0, 42), (0, 84)]),
        (455, 256, 3, [(0, 0), (99, 0), (198, 0)]),
        (256, 256, 3, [(0, 0)] * 3),
        (300, 340, 3, [(22, 0), (22, 42), (22, 84)]),
        (256, 340, 1, [(0, 42)]),
    ],
)
def test_crops_lie_along_the_longer_side(height, width, crops, expected):
    assert crop_corners(height, width, 256, crops) == expected
