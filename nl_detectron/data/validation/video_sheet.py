"""A contact sheet: frames of some videos of a list with the names of their classes."""

import os

import numpy as np
from matplotlib.figure import Figure

from ..video.lists import VideoList, class_names, class_numbers, find_files
from ..video.reader import VideoError, VideoReader
from .sheet import MOST, arrange
from .video_checks import some_of_each_class

COLUMNS = 2  # videos side by side
FRAMES = 4  # of a video, at equal distances in time
SIDE = 120  # shorter side of a frame in pixels


def video_sheet(found: VideoList, folder: str | os.PathLike) -> Figure:
    """Draw four frames of each of up to 12 videos that show as many classes as possible.

    Videos that cannot be read are omitted; :mod:`.video_checks` reports them.

    Raises:
        ValueError: no video can be read.
    """
    files, classes = find_files(found, folder), class_names([found])
    numbers = class_numbers(classes)
    drawn = {}
    for number in some_of_each_class(found, MOST):
        entry = found.entries[number]
        try:
            with VideoReader(files[number]) as video:
                frames = video.read([len(video) * i // FRAMES for i in range(FRAMES)], SIDE)
        except VideoError:
            continue
        names = [classes[numbers[label]] for label in entry.labels if label in numbers]
        title = f"{entry.video_id}: {', '.join(names) or 'no class'}"
        drawn[title if len(title) < 80 else f"{title[:77]}..."] = np.hstack(list(frames))
    if not drawn:
        raise ValueError("no video can be read, so there is nothing to draw")
    return arrange(drawn, COLUMNS, FRAMES * SIDE * 4 / 3, SIDE, fontsize=8)
