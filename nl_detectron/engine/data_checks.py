"""Checks before a run: its data sets exist, agree with each other, and fit its model."""

import difflib
import logging
import os
from collections.abc import Collection, Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from nl_detectron_cli.names import program_name

from ..config import is_video
from ..data.coco_dataset import DatasetInfo
from ..data.image_files import find_missing, list_file_names, read_file_names
from ..data.validation.issues import ISSUE_TYPES, OUTSIDE
from ..errors import UsageError
from .dataset_overrides import KEYPOINTS, SIGMAS, classes_key, get
from .evaluation import predicted_tasks
from .video_checks import check_videos, find_missing_videos

logger = logging.getLogger(__name__)

# Files and folders of a data set, by their keys in Detectron2's metadata.
FILES = {
    "json_file": "annotations",
    "image_root": "images",
    "panoptic_json": "panoptic annotations",
    "panoptic_root": "panoptic masks",
    "sem_seg_root": "semantic masks (for COCO, Detectron2's prepare_panoptic_fpn.py makes them)",
    "video_list": "list",
    "video_root": "videos",
}
COCO_KEYPOINTS = 17  # a config without sigmas uses COCO's


def check_dataset(name: str) -> None:
    """Raises UsageError for a data set that is not registered, or whose files do not exist."""
    if name not in DatasetCatalog.list():
        near = difflib.get_close_matches(name, DatasetCatalog.list(), n=3, cutoff=0.5)
        hint = f" (similar: {', '.join(near)})" if near else ""
        raise UsageError(
            f"data set {name!r} is not registered{hint}; name your own with "
            f"--dataset {name}=ANNOTATIONS.json:IMAGE_FOLDER (videos: LIST.txt:VIDEO_FOLDER), or "
            "in code with detectron2.data.datasets.register_coco_instances"
        )
    meta = MetadataCatalog.get(name)
    if meta.get("made_on_demand", False):
        return
    for key, kind in FILES.items():
        paths = meta.get(key) or ""
        paths = paths.split("+") if key == "video_list" else [paths]
        path = next((path for path in paths if path and not PathManager.exists(path)), None)
        if path:
            if meta.get("dataset_info") or meta.get("video_info"):
                raise UsageError(
                    f"--dataset {name}: its {kind} are not at {os.path.abspath(path)}; correct the "
                    "path after --dataset"
                )
            raise UsageError(
                f"data set {name!r}: its {kind} are not at {os.path.abspath(path)}; for COCO set "
                "the environment variable DETECTRON2_DATASETS to the folder that holds coco/ (for "
                "Kinetics and Charades kinetics400/ and charades/; now "
                f"{os.environ.get('DETECTRON2_DATASETS', 'unset, so ./datasets')}), for your own "
                "correct the path that it was registered with"
            )


def check_files(name: str, tolerated: int = 0) -> None:
    """Check that the images or the videos of a registered data set exist.

    Args:
        name: a data set whose files :func:`check_dataset` found.
        tolerated: a number of bad samples that the run replaces.

    Raises:
        UsageError: more images or videos than that are missing or cannot be read; or a list of
            videos cannot be loaded.
    """
    meta = MetadataCatalog.get(name)
    kind = "video" if meta.get("video_list") else "image"
    folder = meta.get(f"{kind}_root")
    if not folder or "://" in folder or meta.get("made_on_demand", False):
        return
    find = find_missing_videos if kind == "video" else _find_missing_images
    missing, count = find(name)
    if not missing:
        return
    examples = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    found = (
        f"data set {name!r}: {len(missing)} of its {count} {kind}s are not in {folder} or "
        f"cannot be read: {examples}"
    )
    if len(missing) > tolerated:
        raise UsageError(
            f"{found}. Correct the {kind} folder or the file names, or start nevertheless with "
            "--no-check"
        )
    logger.warning("%s. They are replaced by others", found)


def _find_missing_images(name: str) -> tuple[list[str], int]:
    """Names of the images that are missing, and the number of all."""
    meta = MetadataCatalog.get(name)
    folder, annotations = meta.image_root, meta.get("json_file")
    if not annotations:
        return [], 0
    info = meta.get("dataset_info")
    names = list(info.files) if info else list_file_names(annotations)
    missing = find_missing(folder, names)
    if missing and not info:
        names = read_file_names(annotations)
        missing = find_missing(folder, names)
    return missing, len(names)


def check_fit(cfg: CfgNode, train: Sequence[str], test: Sequence[str]) -> None:
    """Check that registered data sets agree with each other and fit the model.

    Raises:
        UsageError: they do not; the message says what to do.
    """
    if is_video(cfg):
        check_videos(cfg, train, test)
        return
    tasks = predicted_tasks(cfg)
    if "panoptic_seg" in tasks and "segm" not in tasks:
        raise UsageError(
            "MODEL.MASK_ON is False, but PanopticFPN makes its segments from masks: set it to "
            "True, or use META_ARCHITECTURE GeneralizedRCNN"
        )
    if "bbox" in tasks:
        _check_alike((*train, *test), "thing_classes", "classes")
        _check_classes(cfg, train, test)
    if "keypoints" in tasks:
        _check_alike((*train, *test), "keypoint_names", "keypoints")
    for name in dict.fromkeys((*train, *test)):
        info = MetadataCatalog.get(name).get("dataset_info")
        if info:
            _check_own(cfg, name, info, name in test)
    if "keypoints" in tasks and test:
        _check_sigmas(cfg)


def _check_alike(names: Sequence[str], key: str, what: str) -> None:
    """Check that all data sets whose metadata have ``key`` list the same names there."""
    known = [(name, list(value)) for name in names if (value := MetadataCatalog.get(name).get(key))]
    for name, listed in known[1:]:
        first, expected = known[0]
        if listed != expected:
            pairs = enumerate(zip(expected, listed, strict=False))
            number = next((i for i, (a, b) in pairs if a != b), min(len(listed), len(expected)))
            here, there = (
                repr(each[number]) if number < len(each) else "missing"
                for each in (listed, expected)
            )
            raise UsageError(
                f"data sets {first!r} and {name!r} have different {what} ({len(expected)} and "
                f"{len(listed)}; the first that differs, number {number + 1}, is {there} and "
                f"{here}): give their files the same ones, in the same order"
            )


def _check_classes(cfg: CfgNode, train: Sequence[str], test: Sequence[str]) -> None:
    key = classes_key(cfg)
    number = get(cfg, key)
    for name in (*train, *test):
        known = MetadataCatalog.get(name).get("thing_classes")
        if not known:  # registered in code and not loaded yet
            continue
        if number < len(known) or (number > len(known) and name in test):
            raise UsageError(
                f"{key} is {number}, but {name!r} has {len(known)} class(es); give {len(known)}, "
                "or leave it out with --dataset, which sets it"
            )


def _check_own(cfg: CfgNode, name: str, info: DatasetInfo, tested: bool) -> None:
    """Check a data set of --dataset, whose file was read."""
    masks, keypoints = ("segm" in predicted_tasks(cfg)), ("keypoints" in predicted_tasks(cfg))
    if masks and not info.masks:
        raise UsageError(
            f"MODEL.MASK_ON is True, but {name!r} has no masks (segmentation): use a config of "
            "COCO-Detection, or MODEL.MASK_ON False"
        )
    if keypoints and not info.keypoints:
        raise UsageError(
            f"MODEL.KEYPOINT_ON is True, but no category of {name!r} names keypoints: give them a "
            "list 'keypoints', or use MODEL.KEYPOINT_ON False"
        )
    check_annotations(
        name,
        info,
        tasks=predicted_tasks(cfg),
        tested=tested,
        mask_format=("INPUT.MASK_FORMAT", cfg.INPUT.MASK_FORMAT),
        allow_outside=cfg.DATASETS.ALLOW_OUTSIDE_IMAGES,
    )
    if keypoints and get(cfg, KEYPOINTS) != len(info.keypoints):
        raise UsageError(
            f"{KEYPOINTS} is {get(cfg, KEYPOINTS)}, but {name!r} has {len(info.keypoints)} "
            "keypoint(s); leave it out, and it follows the data"
        )


def check_annotations(
    name: str,
    info: DatasetInfo,
    *,
    tasks: Collection[str],
    tested: bool,
    mask_format: tuple[str, str],
    allow_outside: bool,
) -> None:
    """Check the annotations of a data set of --dataset for what a run does with them.

    Args:
        tasks: tasks that the model predicts, such as bbox and segm.
        tested: whether the run evaluates on the data set.
        mask_format: the config's key of the format of masks, and its value.
        allow_outside: whether images may lie outside the image folder.

    Raises:
        UsageError: training or evaluation would stop.
    """
    masks, keypoints = "segm" in tasks, "keypoints" in tasks
    parts = {
        "all": True,
        "masks": masks,
        "keypoints": keypoints,
        "evaluation": tested,
        "mask evaluation": tested and masks,
        "keypoint evaluation": tested and keypoints,
    }
    allowed = {OUTSIDE} if allow_outside else set()
    errors = [
        finding
        for finding in info.errors
        if parts[ISSUE_TYPES[finding.kind].scope] and finding.kind not in allowed
    ]
    if errors:
        raise UsageError(
            f"data set {name!r} cannot be used: {'; '.join(map(str, errors))}. "
            f"{program_name('check')} explains this, and checks the images too"
        )
    key, value = mask_format
    if masks and info.rle and value != "bitmask":
        raise UsageError(f"{name!r} has masks as RLE, for which {key} must be bitmask, not {value}")


def _check_sigmas(cfg: CfgNode) -> None:
    number, sigmas = get(cfg, KEYPOINTS), len(get(cfg, SIGMAS))
    if number != (sigmas or COCO_KEYPOINTS):
        raise UsageError(
            f"{KEYPOINTS} is {number}, but {SIGMAS} has {sigmas} values (0 stands for COCO's "
            f"{COCO_KEYPOINTS}): give one for each keypoint, or leave it out with --dataset, which "
            "sets it"
        )
