"""The spacetime relay data sets by name in Detectron2's catalogs."""

from ..data.registration import register_on_demand
from ..data.video.dataset import VideoDataset
from .files import cache_folder, write_videos
from .spec import CLASSES, SPLITS, VideoRelay

VIDEO_RELAY = {"relay_video": VideoRelay()}


def register_video_relay() -> None:
    """Register ``relay_video_train`` and ``relay_video_val``.

    Files are written when a data set is first loaded.
    """
    for name, relay in VIDEO_RELAY.items():
        for split in SPLITS:
            register_split(f"{name}_{split}", relay, split)


def register_split(name: str, relay: VideoRelay, split: str) -> None:
    """Register one split of a data set with Detectron2 under ``name``."""
    folder = cache_folder(relay)
    files = VideoDataset(name, str(folder / f"{split}.txt"), str(folder))

    def load() -> list[dict]:
        write_videos(relay, folder)  # registered, even if NL_DETECTRON_CACHE has changed since
        return files.load()

    register_on_demand(
        name,
        load,
        evaluator_type="video",
        multi_label=False,
        video_list=files.files,
        video_root=files.videos,
        classes=list(CLASSES),
    )
