"""The output folder: pictures, videos and a line of JSON for each image or frame."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..errors import UsageError
from .inputs import Frame, Source

LINES = "detections.jsonl"


class OutputNames:
    """Names of files, of which no two inputs get the same."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def reserve(self, stem: str, suffix: str) -> str:
        """A name that no other file has; to some systems A.png and a.png are one file."""
        name, number = stem + suffix, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._taken.add(name.casefold())
        return name


class OutputWriter:
    """Writes into a folder, under names that no two inputs share.

    A picture and a line of JSON are complete when :meth:`write` returns; a video, when the next
    input begins or the context ends.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._names = OutputNames()
        self._video: Mp4Writer | None = None
        self._video_source: Source | None = None
        self._lines = (folder / LINES).open("w", buffering=1)

    def __enter__(self) -> "OutputWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._close_video()
        self._lines.close()

    def write(
        self,
        frame: Frame,
        picture: np.ndarray,
        panels: Sequence[np.ndarray],
        detections: list[dict],
    ) -> None:
        """Write what was found in one image or frame.

        Args:
            picture: of the detections, RGB uint8 (H,W,3).
            panels: of attention, in the same format but of any sizes. They become files beside an
                image's picture, and stand below a video's frame.
            detections: of :func:`describe_instances`.
        """
        if frame.source.video:
            name = self._add_to_video(frame.source, stack_vertically([picture, *panels]))
        else:
            name = self._save_image(frame.source.stem, picture)
            for number, panel in enumerate(panels, 1):
                self._save_image(f"{Path(name).stem}.attention{number}", panel)
        height, width = frame.image.shape[:2]
        line = {"file": frame.source.path, "frame": frame.number, "output": name}
        line |= {"height": height, "width": width, "detections": detections}
        self._lines.write(json.dumps(line) + "\n")

    def _save_image(self, stem: str, picture: np.ndarray) -> str:
        name = self._names.reserve(stem, ".png")
        Image.fromarray(picture).save(self.folder / name)
        return name

    def _add_to_video(self, source: Source, picture: np.ndarray) -> str:
        if self._video is None or source != self._video_source:
            self._close_video()
            path = self.folder / self._names.reserve(source.stem, ".mp4")
            self._video, self._video_source = Mp4Writer(path, source.rate), source
        self._video.add(picture)
        return self._video.path.name

    def _close_video(self) -> None:
        if self._video:
            self._video.close()
        self._video = self._video_source = None


class Mp4Writer:
    """Writes an mp4 whose frames have the size of the first, made even as the codec requires."""

    def __init__(self, path: Path, rate: float):
        self.path, self.rate = path, rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)  # width, height

    def add(self, picture: np.ndarray) -> None:
        """Append a frame, RGB uint8 (H,W,3).

        Raises:
            UsageError: OpenCV cannot write such a video here.
        """
        odd = [(0, side % 2) for side in picture.shape[:2]]
        picture = np.pad(picture, [*odd, (0, 0)], mode="edge")
        size = picture.shape[1::-1]
        if self._writer is None:
            self._size = size
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self.path), code, self.rate, size)
            if not self._writer.isOpened():
                raise UsageError(
                    f"{self.path}: this OpenCV cannot write an mp4 of {size[0]} x {size[1]}; "
                    "install opencv-python-headless from PyPI, or give images"
                )
        if size != self._size:  # OpenCV's writer silently drops frames of another size
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        if self._writer:
            self._writer.release()


class Window:
    """Shows pictures on the screen, where OpenCV has windows: the headless build has none."""

    opened = False

    def show(self, picture: np.ndarray) -> bool:
        """Show RGB uint8 (H,W,3); returns False once the user has pressed q."""
        try:
            cv2.imshow("demo: q ends", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        except cv2.error:
            return True
        self.opened = True
        return cv2.waitKey(1) & 0xFF != ord("q")

    def close(self) -> None:
        if self.opened:
            cv2.destroyAllWindows()


def check_output_folder(folder: Path, files: Sequence[str]) -> None:
    """Raises UsageError where outputs could replace one of the input files."""
    for path in map(Path, files):
        if folder.resolve() in (path.resolve().parent, path.parent.resolve()):
            raise UsageError(
                f"--output {folder} is the folder of {path}, which a picture could "
                "replace; name another folder"
            )


def stack_vertically(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Put pictures, uint8 (H,W,3), below one another, centred on white."""
    width = max(p.shape[1] for p in pictures)
    rows = []
    for picture in pictures:
        left = (width - picture.shape[1]) // 2
        sides = (left, width - picture.shape[1] - left)
        rows.append(np.pad(picture, ((0, 0), sides, (0, 0)), constant_values=255))
    return np.vstack(rows)
