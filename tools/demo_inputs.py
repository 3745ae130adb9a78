"""Images, videos and a camera, one picture after another: none is read before it is asked for."""

import glob
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from detectron2.data.detection_utils import read_image
from PIL import Image
from tqdm import tqdm

from nl_detectron.errors import UsageError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
TEXT = int.from_bytes(b"ansi", "little")  # FFmpeg's codec of text files: it reads them as videos
RATE = 30.0  # of a video that does not tell its own
FASTEST = 240.0  # some files give the ticks of their clock as frames in a second


def say(text: str) -> None:
    """A line on stderr, above the progress bar."""
    tqdm.write(f"demo.py: {text}", file=sys.stderr)


class Skipped:
    """Tells of what is skipped in a line each, and counts."""

    count = 0

    def __call__(self, what: str, why: str) -> None:
        self.count += 1
        say(f"skipped {what}: {why}")


@dataclass(frozen=True)
class Source:
    """A file or a camera.

    Attributes:
        path: as it was given.
        video: whether it has frames.
        frames: how many pictures it says to have, or None.
        rate: frames in a second.
        camera: the device's number.
    """

    path: str
    video: bool = False
    frames: int | None = 1
    rate: float = RATE
    camera: int | None = None

    @property
    def stem(self) -> str:
        """What the files made of it are called after."""
        return Path(self.path).stem


@dataclass(frozen=True)
class Frame:
    """RGB uint8 (H,W,3) of a source; a video's also has a number, from 0."""

    source: Source
    number: int | None
    image: np.ndarray


def find_sources(places: Sequence[str], skip: Skipped) -> list[Source]:
    """The files, those in the folders, and those that match the patterns; each file once."""
    paths = {os.path.abspath(p): p for place in places for p in _files(place, skip)}
    return [source for path in paths.values() if (source := _source(path, skip))]


def camera(number: int) -> Source:
    """Raises UsageError where there is none."""
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise UsageError(
            f"--webcam {number}: there is no such camera, or another program has it; give another "
            "number, or --input and a file"
        )
    source = Source(f"webcam{number}", True, None, _rate(capture), number)
    capture.release()
    return source


def batches(sources: Iterable[Source], size: int, skip: Skipped) -> Iterator[list[Frame]]:
    """Frames of all sources, ``size`` at a time."""
    frames = (
        Frame(source, number if source.video else None, image)
        for source in sources
        for number, image in enumerate(_images(source, skip))
    )
    while batch := list(itertools.islice(frames, size)):
        yield batch


def quiet_opencv() -> None:
    """It would tell of files that it cannot read in lines of its own, beside ours."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def _files(place: str, skip: Skipped) -> Iterator[str]:
    place = os.path.expanduser(place)
    there = os.path.exists(place)  # a name may have brackets in it and be no pattern
    matches = [place] if there else sorted(glob.glob(place, recursive=True))
    if not matches:
        pattern = glob.has_magic(place)
        skip(place, f"no {'file matches this pattern' if pattern else 'such file or folder'}")
    for match in matches:
        if not os.path.isdir(match):
            yield match
            continue
        try:
            names = [n for n in sorted(os.listdir(match)) if n.lower().endswith(SUFFIXES)]
        except OSError as error:
            skip(match, f"this folder cannot be read ({error.strerror})")
            continue
        if there and not names:
            skip(match, f"no image in this folder ({' '.join(SUFFIXES)})")
        yield from (os.path.join(match, n) for n in names if not n.startswith("."))


def _source(path: str, skip: Skipped) -> Source | None:
    if path.lower().endswith(SUFFIXES) or _is_image(path):
        return Source(path)
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened() or int(capture.get(cv2.CAP_PROP_FOURCC)) == TEXT:
            skip(path, "neither an image nor a video that can be read here")
            return None
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        return Source(path, True, count if count > 0 else None, _rate(capture))
    finally:
        capture.release()


def _is_image(path: str) -> bool:
    try:
        with Image.open(path) as image:
            return image.format != "MPEG"  # which Pillow knows, but cannot read
    except Exception:  # each format raises its own
        return False


def _rate(capture: cv2.VideoCapture) -> float:
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if 0 < rate <= FASTEST else RATE


def _images(source: Source, skip: Skipped) -> Iterator[np.ndarray]:
    if source.video:
        yield from _frames(source, skip)
        return
    try:
        image = read_image(source.path, "RGB")
    except Exception as error:  # each format raises its own
        reason = " ".join(str(error).split())
        skip(source.path, f"it cannot be read as an image ({type(error).__name__}: {reason})")
    else:
        yield image


def _frames(source: Source, skip: Skipped) -> Iterator[np.ndarray]:
    if source.camera is None:
        capture = cv2.VideoCapture(source.path, cv2.CAP_FFMPEG)
    else:
        capture = cv2.VideoCapture(source.camera)
    count = 0
    try:
        while True:
            there, frame = capture.read()
            if not there:
                break
            count += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
    if not count:
        skip(source.path, "no frame of it can be read")
