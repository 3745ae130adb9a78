"""Checks before a run of a video model: its data sets, and the sizes of its clips."""

import os
from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..data.image_files import find_missing
from ..data.video.dataset import check_classes
from ..data.video.reader import import_av
from ..errors import UsageError
from .dataset_overrides import MULTI_LABEL

SAMPLERS = ("TrainingSampler", "RandomSubsetTrainingSampler")


def check_videos(cfg: CfgNode, train: Sequence[str], test: Sequence[str]) -> None:
    """Check that data sets of videos fit the model and each other, and that clips can be cropped.

    Raises:
        UsageError: they do not, or PyAV is not installed; the message says what to do.
    """
    import_av()
    check_sizes(cfg, bool(train))
    if cfg.VISUALIZE.PERIOD:
        raise UsageError(
            f"VISUALIZE.PERIOD is {cfg.VISUALIZE.PERIOD}, but pictures in training are of images "
            "alone: set it to 0 for a video model"
        )
    if train and cfg.DATALOADER.SAMPLER_TRAIN not in SAMPLERS:
        raise UsageError(
            f"DATALOADER.SAMPLER_TRAIN is {cfg.DATALOADER.SAMPLER_TRAIN}, which counts the objects "
            f"of images: for videos expected one of {', '.join(SAMPLERS)}"
        )
    for name in dict.fromkeys((*train, *test)):
        _check_set(cfg, name)


def find_missing_videos(name: str) -> tuple[list[str], int]:
    """Paths below the video folder of the videos of a registered data set that are missing or
    cannot be read by this user, and the number of all.

    Raises:
        UsageError: the list cannot be loaded.
    """
    try:
        records = DatasetCatalog.get(name)
    except ValueError as error:
        raise UsageError(f"data set {name!r} cannot be loaded: {error}") from error
    folder = MetadataCatalog.get(name).video_root
    missing = find_missing("", [record["file_name"] for record in records])
    return [os.path.relpath(file, folder) for file in missing], len(records)


def check_sizes(cfg: CfgNode, training: bool) -> None:
    """Raises UsageError for crops larger than the frames that they are taken from, or for several
    crops of a whole frame."""
    clip, test, shortest = cfg.INPUT.VIDEO, cfg.TEST.VIDEO, np.min(cfg.INPUT.MIN_SIZE_TRAIN)
    if training and clip.CROP_SIZE > shortest:
        raise UsageError(
            f"INPUT.VIDEO.CROP_SIZE is {clip.CROP_SIZE}, but INPUT.MIN_SIZE_TRAIN scales the "
            f"shorter side of a clip to {shortest}: give a crop that is not larger"
        )
    if test.CROP_SIZE > test.SHORT_SIDE:
        raise UsageError(
            f"TEST.VIDEO.CROP_SIZE is {test.CROP_SIZE}, but TEST.VIDEO.SHORT_SIDE "
            f"{test.SHORT_SIDE}: give a crop that is not larger, or 0 for whole frames"
        )
    if not test.CROP_SIZE and test.CROPS != 1:
        raise UsageError(
            f"TEST.VIDEO.CROP_SIZE 0 takes whole frames, but TEST.VIDEO.CROPS is {test.CROPS}: "
            "set it to 1"
        )


def _check_set(cfg: CfgNode, name: str) -> None:
    meta = MetadataCatalog.get(name)
    info, multi_label = meta.get("video_info"), meta.get("multi_label", False)
    if info and info.outside and not cfg.DATASETS.ALLOW_OUTSIDE_IMAGES:
        raise UsageError(
            f"data set {name!r}: {len(info.outside)} path(s) lead out of its video folder, such as "
            f"{info.outside[0]}: move them, or allow it by DATASETS.ALLOW_OUTSIDE_IMAGES True"
        )
    if multi_label != cfg.MODEL.VIDEO.MULTI_LABEL:
        several = "any number of classes" if multi_label else "one class"
        raise UsageError(
            f"{MULTI_LABEL} is {cfg.MODEL.VIDEO.MULTI_LABEL}, but a video of {name!r} has "
            f"{several}: set it to {multi_label}"
        )
    check_classes(name, cfg.MODEL.VIDEO.NUM_CLASSES)
