"""Images for the explorer: files, folders of them, or those of a data set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog
from PIL import Image

from ..data.images import read_image
from ..data.video.lists import VIDEO_ENDINGS
from ..errors import UsageError
from ..prediction.inputs import IMAGE_SUFFIXES


def find_images(places: Sequence[str], video: bool = False) -> list[Path]:
    """The given files, and the images, or the videos, in the given folders.

    Raises:
        UsageError: a place that does not exist, or a folder without images.
    """
    suffixes, kind = (VIDEO_ENDINGS, "video") if video else (IMAGE_SUFFIXES, "image")
    found: list[Path] = []
    for place in map(Path, places):
        if place.is_dir():
            images = sorted(p for p in place.iterdir() if p.suffix.lower() in suffixes)
            if not images:
                raise UsageError(f"--images {place}: no {kind} in it ({' '.join(suffixes)})")
            found += images
        elif place.is_file():
            found.append(place)
        else:
            raise UsageError(f"--images {place}: expected a file or a folder, there is none")
    return list(dict.fromkeys(found))


def list_dataset_images(name: str) -> list[Path]:
    """The images or videos of a registered data set; none where it or its files are missing."""
    try:
        return [Path(r["file_name"]) for r in DatasetCatalog.get(name)]
    except (KeyError, OSError, ValueError):  # ValueError: a list of videos that will not do
        return []


def read_small_image(path: str | Path, longest: int) -> np.ndarray:
    """Read an image file as RGB uint8 (H,W,3), resized to at most ``longest`` pixels a side.

    Raises:
        UsageError: a file that is no image, or a broken one.
    """
    try:
        image = read_image(str(path), "RGB")
    except Exception as error:  # each format of Pillow's raises its own
        raise UsageError(
            f"{Path(path).name} cannot be read as an image; it is broken, or of a format that is "
            f"not known here: try a JPEG or a PNG ({type(error).__name__})"
        ) from error
    height, width = image.shape[:2]
    if max(height, width) <= longest:
        return image
    size = [max(round(side * longest / max(height, width)), 1) for side in (width, height)]
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
