"""What a demo leaves in its folder: pictures, videos and a line of JSON for each image or frame."""

import json
from pathlib import Path

import cv2
import numpy as np
from demo_inputs import Frame, Source
from PIL import Image

from nl_detectron.errors import UsageError

LINES = "detections.jsonl"


class Outputs:
    """Writes everything into a folder, under names that no two inputs share.

    A picture or a line is there when it is put; a video, when the next input comes or at the end.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._taken: set[str] = set()
        self._film: Film | None = None
        self._film_of: Source | None = None
        self._lines = (folder / LINES).open("w", buffering=1)

    def __enter__(self) -> "Outputs":
        return self

    def __exit__(self, *_) -> None:
        self._close_film()
        self._lines.close()

    def put(
        self, frame: Frame, picture: np.ndarray, panels: list[np.ndarray], found: list[dict]
    ) -> None:
        """RGB pictures of an image or a frame, and what was found there."""
        if frame.source.video:
            name = self._add(frame.source, stacked([picture, *panels]))
        else:
            name = self._save(frame.source.stem, picture)
            for number, panel in enumerate(panels, 1):
                self._save(f"{Path(name).stem}.attention{number}", panel)
        height, width = frame.image.shape[:2]
        line = {"file": frame.source.path, "frame": frame.number, "output": name}
        line |= {"height": height, "width": width, "detections": found}
        self._lines.write(json.dumps(line) + "\n")

    def _save(self, stem: str, picture: np.ndarray) -> str:
        name = self._free(stem, ".png")
        Image.fromarray(picture).save(self.folder / name)
        return name

    def _add(self, source: Source, picture: np.ndarray) -> str:
        if source != self._film_of:
            self._close_film()
            self._film = Film(self.folder / self._free(source.stem, ".mp4"), source.rate)
            self._film_of = source
        self._film.add(picture)
        return self._film.path.name

    def _close_film(self) -> None:
        if self._film:
            self._film.close()
        self._film = self._film_of = None

    def _free(self, stem: str, suffix: str) -> str:
        """A name that no other file has; some systems take A.png and a.png for one."""
        name, number = stem + suffix, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._taken.add(name.casefold())
        return name


class Film:
    """An mp4 whose frames have the first one's size, made even: its codec wants that."""

    def __init__(self, path: Path, rate: float):
        self.path, self.rate = path, rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)  # width, height

    def add(self, picture: np.ndarray) -> None:
        odd = [(0, side % 2) for side in picture.shape[:2]]
        picture = np.pad(picture, [*odd, (0, 0)], mode="edge")
        size = picture.shape[1::-1]
        if self._writer is None:
            self._size = size
            code = cv2.VideoWriter_fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self.path), code, self.rate, size)
            if not self._writer.isOpened():
                raise UsageError(
                    f"{self.path}: this OpenCV cannot write an mp4 of {size[0]} x {size[1]}; "
                    "install opencv-python-headless from PyPI, or give images"
                )
        if size != self._size:  # the writer would leave it out without a word
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        if self._writer:
            self._writer.release()


class Window:
    """Pictures on the screen, by an OpenCV that has windows: the headless one has none."""

    opened = False

    def show(self, picture: np.ndarray) -> bool:
        """Whether to go on: until the key q."""
        try:
            cv2.imshow("demo: q ends", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        except cv2.error:
            return True
        self.opened = True
        return cv2.waitKey(1) & 0xFF != ord("q")

    def close(self) -> None:
        if self.opened:
            cv2.destroyAllWindows()


def stacked(pictures: list[np.ndarray]) -> np.ndarray:
    """One below the other, in the middle, on white."""
    width = max(p.shape[1] for p in pictures)
    rows = []
    for picture in pictures:
        left = (width - picture.shape[1]) // 2
        sides = (left, width - picture.shape[1] - left)
        rows.append(np.pad(picture, ((0, 0), sides, (0, 0)), constant_values=255))
    return np.vstack(rows)
