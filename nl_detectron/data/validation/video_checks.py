"""Checks of lists of videos, so that their issues are found before training.

An issue is the name of its type in :data:`~.issues.VIDEO_ISSUE_TYPES` and its place: a line, a
class or a video.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from ..video.lists import VideoList, class_names, class_numbers, find_files
from ..video.reader import VideoError, VideoReader, import_av
from .issues import Issue
from .values import leaves_folder, show


def check_list(found: VideoList) -> Iterator[Issue]:
    """Issues of a list; no video is read.

    Args:
        found: what :func:`nl_detectron.data.video.lists.read_list` returns.
    """
    for text in found.malformed:
        yield "malformed line", text
    if not found.entries:
        yield "nothing listed", "the whole file"
    classes = class_names([found])
    numbers, used = class_numbers(classes), set()
    first: dict[str, tuple[str, ...]] = {}
    for entry in found.entries:
        place = f"line {entry.line}: {show(entry.video_id)}"
        for label in entry.labels:
            if label in numbers:
                used.add(numbers[label])
            else:
                yield "unknown class", f"line {entry.line}: {show(label)}"
        if not entry.labels:
            yield "video without classes", place
        if entry.path and leaves_folder(entry.path):
            yield "video outside its folder", place
        if entry.video_id in first:
            same = first[entry.video_id] == entry.labels
            yield ("video listed twice" if same else "video with two labels"), place
        first.setdefault(entry.video_id, entry.labels)
    for number in sorted(set(range(len(classes))) - used):
        yield "class without videos", f"class {show(classes[number])!r}"


def check_videos(found: VideoList, folder: str | os.PathLike, span: int) -> Iterator[Issue]:
    """Issues of the videos, of each of which the frames are counted and three are decoded. Shows a
    progress bar.

    Args:
        found: the list.
        folder: of the videos.
        span: frames that a clip spans, which is its length times its rate.

    Raises:
        UsageError: PyAV is not installed.
    """
    import_av()
    files: dict[str, str] = {}
    for entry, file in zip(found.entries, find_files(found, folder), strict=True):
        files.setdefault(entry.video_id, file)
    with ThreadPoolExecutor() as pool:  # PyAV releases the GIL while it decodes
        kinds = pool.map(lambda file: list(_check_file(file, span)), files.values())
        # disable=None: no bar without a terminal
        bar = tqdm(kinds, "videos", len(files), unit="video", disable=None)
        for name, issues in zip(files, bar, strict=True):
            for kind, reason in issues:
                yield kind, f"{show(name)}{reason}"


def _check_file(file: str, span: int) -> list[tuple[str, str]]:
    """Issues of a video, each with what is added to its name."""
    if not file:
        return [("video not found", "")]
    if not os.path.isfile(file):
        return [("missing video", "")]
    try:
        with VideoReader(file) as video:
            count = len(video)
            video.read(sorted({0, count // 2, count - 1}))
            issues = [] if video.has_constant_rate else [("variable frame rate", "")]
    except VideoError as error:
        return [("unreadable video", f": {error}")]
    if count < span:
        issues.append(("video shorter than a clip", f": {count} frames"))
    return issues


def some_of_each_class(found: VideoList, most: int) -> Sequence[int]:
    """Numbers of up to ``most`` entries that show as many classes as possible, in order."""
    seen: set[str] = set()
    chosen: list[int] = []
    for number, entry in enumerate(found.entries):
        if len(chosen) < most and not seen >= set(entry.labels):
            chosen.append(number)
            seen |= set(entry.labels)
    others = (number for number in range(len(found.entries)) if number not in set(chosen))
    return sorted([*chosen, *(n for n, _ in zip(others, range(most - len(chosen)), strict=False))])
