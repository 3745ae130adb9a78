"""A data set of the user's: images in COCO's format, or videos."""

from .coco_dataset import CocoDataset
from .video.dataset import FORM as VIDEO_FORM
from .video.dataset import VideoDataset

OwnDataset = CocoDataset | VideoDataset


def parse_dataset(text: str) -> OwnDataset:
    """Parse the value of ``--dataset``: images in COCO's format, or a list of videos.

    Raises:
        ValueError: the text has another form.
    """
    try:
        return VideoDataset.parse(text)
    except ValueError:
        pass
    try:
        return CocoDataset.parse(text)
    except ValueError as error:
        raise ValueError(f"{error}; for videos, {VIDEO_FORM} or .csv") from error
