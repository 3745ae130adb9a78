"""Images, videos and a camera as frames, each of which is read when it is asked for."""

import glob
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..data.images import read_image
from ..errors import UsageError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
TEXT_CODEC = int.from_bytes(b"ansi", "little")  # FFmpeg's: it reads text files as videos
DEFAULT_RATE = 30.0  # frames a second, where a video or a camera gives no rate
HIGHEST_RATE = 240.0  # some files give the ticks of their clock as frames a second


class SkipReporter:
    """Reports each skipped input in one line, and counts them.

    Args:
        say: takes the line.
    """

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self.count = 0

    def __call__(self, what: str, why: str) -> None:
        self.count += 1
        self._say(f"skipped {what}: {why}")


@dataclass(frozen=True)
class Source:
    """A file or a camera.

    Attributes:
        path: as the user wrote it.
        video: whether it has frames.
        frames: number of pictures in it, or None where that is unknown.
        rate: frames a second.
        camera: number of the device.
    """

    path: str
    video: bool = False
    frames: int | None = 1
    rate: float = DEFAULT_RATE
    camera: int | None = None

    @property
    def stem(self) -> str:
        """Name of the output files, without a suffix."""
        return Path(self.path).stem


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    Attributes:
        number: of a video's frame, from 0; None for an image.
        image: RGB uint8 (H,W,3).
    """

    source: Source
    number: int | None
    image: np.ndarray


def list_files(
    places: Sequence[str], skip: SkipReporter, suffixes: tuple[str, ...] = IMAGE_SUFFIXES
) -> list[str]:
    """Paths of the given files, of those in given folders with one of the suffixes, and of those
    that match patterns, each once."""
    paths = {os.path.abspath(p): p for place in places for p in _list_files(place, skip, suffixes)}
    return list(paths.values())


def find_sources(places: Sequence[str], skip: SkipReporter) -> list[Source]:
    """Find the given files, those in given folders and those that match patterns, each once."""
    paths = list_files(places, skip)
    return [source for path in paths if (source := _open_source(path, skip))]


def find_camera(number: int) -> Source:
    """The camera of a number.

    Raises:
        UsageError: there is no such camera, or another program uses it.
    """
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise UsageError(
            f"--webcam {number}: there is no such camera, or another program has it; give another "
            "number, or --input and a file"
        )
    source = Source(f"webcam{number}", True, None, _read_rate(capture), number)
    capture.release()
    return source


def read_batches(sources: Iterable[Source], size: int, skip: SkipReporter) -> Iterator[list[Frame]]:
    """Read the frames of all sources, ``size`` at a time."""
    frames = (
        Frame(source, number if source.video else None, image)
        for source in sources
        for number, image in enumerate(_read_images(source, skip))
    )
    while batch := list(itertools.islice(frames, size)):
        yield batch


def count_frames(sources: Iterable[Source]) -> int | None:
    """Number of frames in all sources, or None where one does not tell."""
    counts = [source.frames for source in sources]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def silence_opencv() -> None:
    """Turn off OpenCV's and FFmpeg's own messages about files that they cannot read."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def _list_files(place: str, skip: SkipReporter, suffixes: tuple[str, ...]) -> Iterator[str]:
    place = os.path.expanduser(place)
    exists = os.path.exists(place)  # a name with brackets in it need not be a pattern
    matches = [place] if exists else sorted(glob.glob(place, recursive=True))
    if not matches:
        pattern = glob.has_magic(place)
        skip(place, f"no {'file matches this pattern' if pattern else 'such file or folder'}")
    for match in matches:
        if not os.path.isdir(match):
            yield match
            continue
        try:
            names = [n for n in sorted(os.listdir(match)) if n.lower().endswith(suffixes)]
        except OSError as error:
            skip(match, f"this folder cannot be read ({error.strerror})")
            continue
        if exists and not names:
            kind = "image" if suffixes == IMAGE_SUFFIXES else "video"
            skip(match, f"no {kind} in this folder ({' '.join(suffixes)})")
        yield from (os.path.join(match, n) for n in names if not n.startswith("."))


def _open_source(path: str, skip: SkipReporter) -> Source | None:
    if path.lower().endswith(IMAGE_SUFFIXES) or _is_image(path):
        return Source(path)
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened() or int(capture.get(cv2.CAP_PROP_FOURCC)) == TEXT_CODEC:
            skip(path, "neither an image nor a video that can be read here")
            return None
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        return Source(path, True, count if count > 0 else None, _read_rate(capture))
    finally:
        capture.release()


def _is_image(path: str) -> bool:
    try:
        with Image.open(path) as image:
            return image.format != "MPEG"  # Pillow recognises it, but cannot read it
    except Exception:  # each format raises its own
        return False


def playable_rate(rate: float) -> float:
    """Frames a second that an MP4 can have: a video's own, or the usual ones where a file gives
    none or the ticks of its clock."""
    return rate if 0 < rate <= HIGHEST_RATE else DEFAULT_RATE


def _read_rate(capture: cv2.VideoCapture) -> float:
    return playable_rate(capture.get(cv2.CAP_PROP_FPS))


def _read_images(source: Source, skip: SkipReporter) -> Iterator[np.ndarray]:
    if source.video:
        yield from _read_video(source, skip)
        return
    try:
        image = read_image(source.path, "RGB")
    except Exception as error:  # each format raises its own
        reason = " ".join(str(error).split())
        skip(source.path, f"it cannot be read as an image ({type(error).__name__}: {reason})")
    else:
        yield image


def _read_video(source: Source, skip: SkipReporter) -> Iterator[np.ndarray]:
    if source.camera is None:
        capture = cv2.VideoCapture(source.path, cv2.CAP_FFMPEG)
    else:
        capture = cv2.VideoCapture(source.camera)
    count = 0
    try:
        while True:
            success, frame = capture.read()
            if not success:
                break
            count += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
    if not count:
        skip(source.path, "no frame of it can be read")
